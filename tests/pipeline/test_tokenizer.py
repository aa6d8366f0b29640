"""Training, loading and encoding; and that tensorflow-text gives the same ids."""

from __future__ import annotations

import random
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2

from pipeline import tokenizer
from pipeline.config import UNK_ID
from pipeline.data_folder import PreparedData
from pipeline.tables.source import EMBEDDED_DATASET, DataError, SourceConfig
from pipeline.tables.table import read_rows
from pipeline.tokenizer import encode_texts, load_processor, normalise, train_tokenizer

KOREAN = ["한국어 뉴스 제목", "오늘의 날씨는 맑음", "경제 뉴스 속보"] * 3


def read_embedded_texts() -> list[str]:
    rows = read_rows(
        SourceConfig(path=EMBEDDED_DATASET), text_column="title", label_column="category"
    )
    return [text for batch in rows for text in batch.texts]


def test_vocabulary_is_lowered_with_a_notice_where_text_cannot_carry_it(tmp_path: Path) -> None:
    notices: list[str] = []
    size = train_tokenizer(["a cat"] * 10, 15_000, tmp_path / "m", notify=notices.append)
    processor = load_processor(tmp_path / "m")
    assert size == processor.get_piece_size() < 30
    assert notices == [
        f"The training text carries {size} pieces instead of the 15000 asked for; "
        f"the vocabulary is {size}."
    ]


def test_vocabulary_is_exact_where_text_carries_it(tmp_path: Path) -> None:
    texts = [f"word{number} other{number * 7}" for number in range(300)]
    assert train_tokenizer(texts, 100, tmp_path / "m") == 100


def test_rarest_words_are_left_out_where_there_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frequent = [f"{first}{second}" for first in "abcdefgh" for second in "ijklmnop"]
    rare = [f"{word}zzz" for word in frequent]
    monkeypatch.setattr(tokenizer, "MAX_WORDS", len(frequent))
    train_tokenizer([" ".join(frequent)] * 3 + rare, 100, tmp_path / "a")
    monkeypatch.undo()
    train_tokenizer([" ".join(frequent)] * 3, 100, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_words_are_forgotten_while_they_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "_COUNTED_AT_ONCE", 10)
    texts = [f"often {number:05}" for number in range(1000)]
    words = tokenizer._count_words(iter(texts), 30)
    assert words["often"] == 1000
    assert len(words) == 30


def test_texts_behind_the_bound_are_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer, "MAX_COUNTED_TEXTS", 9)
    train_tokenizer(KOREAN * 2, 60, tmp_path / "a")
    train_tokenizer(KOREAN, 60, tmp_path / "b")
    assert len(KOREAN) == 9
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_ids_of_padding_and_unknown_are_zero_and_one(tmp_path: Path) -> None:
    train_tokenizer(["a cat"], 100, tmp_path / "m")
    processor = load_processor(tmp_path / "m")
    assert (processor.pad_id(), processor.unk_id()) == (0, 1)
    assert (processor.bos_id(), processor.eos_id()) == (-1, -1)


def test_large_script_in_a_small_vocabulary_loses_its_rarest_characters(tmp_path: Path) -> None:
    # 11,172 syllables once each, and one word often: SentencePiece alone would refuse this.
    texts = [chr(code) for code in range(0xAC00, 0xD7A4)] + ["뉴스"] * 500
    assert train_tokenizer(texts, 64, tmp_path / "m") == 64
    processor = load_processor(tmp_path / "m")
    assert 1 not in processor.encode("뉴스")


def test_korean_round_trips_and_jamo_give_the_same_ids(tmp_path: Path) -> None:
    train_tokenizer(KOREAN, 100, tmp_path / "m")
    processor = load_processor(tmp_path / "m")
    jamo = [unicodedata.normalize("NFD", text) for text in KOREAN]
    assert encode_texts(processor, KOREAN, 64) == encode_texts(processor, jamo, 64)
    assert [processor.decode(ids) for ids in processor.encode(jamo)] == KOREAN


def test_same_texts_in_any_order_give_the_same_bytes(tmp_path: Path) -> None:
    texts = [f"cat {number % 17} dog {number % 5}" for number in range(200)]
    shuffled = random.Random(1).sample(texts, len(texts))
    train_tokenizer(texts, 80, tmp_path / "a")
    train_tokenizer(shuffled, 80, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_model_file_holds_no_path(tmp_path: Path) -> None:
    train_tokenizer(["a cat"], 100, tmp_path / "m")
    content = (tmp_path / "m").read_bytes()
    proto = sentencepiece_model_pb2.ModelProto.FromString(content)
    assert not proto.trainer_spec.input
    assert not proto.trainer_spec.model_prefix
    assert not proto.normalizer_spec.normalization_rule_tsv
    assert str(tmp_path).encode() not in content


def test_training_text_without_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected training texts with words, found none\."):
        train_tokenizer(["!!!", " "], 100, tmp_path / "m")


def test_very_long_word_is_trained_and_encoded(tmp_path: Path) -> None:
    train_tokenizer(["ab" * 5000, "cat"], 50, tmp_path / "m")
    (ids,) = encode_texts(load_processor(tmp_path / "m"), ["ab" * 5000], 10_000)
    assert 1 not in ids


@pytest.mark.slow
def test_text_without_piece_becomes_one_unknown_and_long_text_is_cut(
    processor: SentencePieceProcessor,
) -> None:
    rows = encode_texts(processor, ["", "!!!", "cat " * 50], 7)
    assert rows[:2] == [[1], [1]]
    assert len(rows[2]) == 7


@pytest.mark.slow
@given(texts=st.lists(st.text(max_size=30), max_size=5))
def test_ids_are_in_range_and_never_padding(
    prepared: PreparedData, processor: SentencePieceProcessor, texts: list[str]
) -> None:
    for ids in encode_texts(processor, texts, 16):
        assert 1 <= len(ids) <= 16
        assert all(1 <= token < prepared.vocab_size for token in ids)


@pytest.mark.slow
@given(texts=st.lists(st.text(max_size=12), max_size=5))
def test_ids_of_a_text_are_the_ids_of_its_words(
    processor: SentencePieceProcessor, texts: list[str]
) -> None:
    normal = [normalise(text) for text in texts]
    words = [word for text in normal for word in text.split(" ") if word]
    assert processor.encode(" ".join(words)) == [
        token for ids in processor.encode(words) for token in ids
    ]


@pytest.mark.slow
def test_hostile_strings_are_encoded(
    processor: SentencePieceProcessor, hostile_strings: list[str]
) -> None:
    rows = encode_texts(processor, hostile_strings, 10_000)
    assert all(0 not in ids for ids in rows)


def test_missing_tokenizer_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a tokenizer, found No such file"):
        load_processor(tmp_path / "none.model")


def test_file_that_is_no_tokenizer_is_explained(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"not a model")
    with pytest.raises(DataError, match=r"expected a SentencePiece model, found 11 bytes"):
        load_processor(tmp_path / "m")


@pytest.mark.slow
def test_tensorflow_text_gives_the_same_ids_on_the_dataset_and_on_hostile_strings(
    tmp_path: Path, hostile_strings: list[str]
) -> None:
    import tensorflow as tf
    import tensorflow_text as tft

    from pipeline.dataset import tokenise_words

    texts = read_embedded_texts()
    # Korean and emoji beside the dataset, so that the hostile strings meet pieces of theirs.
    train_tokenizer([*texts[::10], *hostile_strings, *KOREAN], 15_000, tmp_path / "m")
    in_graph = tft.SentencepieceTokenizer((tmp_path / "m").read_bytes(), out_type=tf.int32)
    everything = [*texts, *hostile_strings, *(f"{text}  cat" for text in hostile_strings)]
    expected = load_processor(tmp_path / "m").encode(everything)
    raw = tf.constant([text.encode() for text in everything])
    found = in_graph.tokenize(raw).to_list()
    # What training reads: each different word tokenised once, empty rows filled.
    word_by_word = tokenise_words(in_graph, raw, max_tokens=100_000).to_list()
    differing = [
        text
        for text, ours, theirs, words in zip(everything, expected, found, word_by_word, strict=True)
        if ours != theirs or words != (theirs or [UNK_ID])
    ]
    assert differing == []
