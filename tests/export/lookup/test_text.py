from __future__ import annotations

import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from export.lookup import (
    LookupConfig,
    LookupFiles,
    Probe,
    TokenizerError,
    WordArrays,
    WordTableError,
)
from export.lookup.text import TextEncoder


@pytest.fixture
def make_encoder(tokenizer):
    def make(check_golden=False, vocab_size=48, **changes):
        config = LookupConfig(vocab_size=vocab_size, embed_dim=5, units=6, num_classes=2)
        fields = {
            "folder": Path("lookup"),
            "config": config,
            "max_tokens": 6,
            "arrays": {},
            "labels": ("a", "b"),
            "tokenizer": tokenizer,
            "golden": (Probe("", (1,), (0.5, 0.5)),),
        }
        return TextEncoder(LookupFiles(**(fields | changes)), check_golden=check_golden)

    return make


@pytest.fixture
def words(processor):
    """A word table of "cat", "sat" and "the", as the tokenizer encodes them."""
    ids = [processor.encode(word) for word in ("cat", "sat", "the")]
    return WordArrays(
        word_bytes=np.frombuffer(b"catsatthe", np.uint8),
        word_ends=np.array([3, 6, 9], np.uint32),
        word_ids=np.array([token for row in ids for token in row], np.int32),
        word_id_ends=np.cumsum([len(row) for row in ids], dtype=np.uint32),
    )


@pytest.fixture
def processor(tokenizer):
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_proto=tokenizer)


def test_ids_are_those_of_the_tokenizer_model(make_encoder, processor):
    texts = ["the cat", "고양이", "a\0cat", "🙂", "▁cat", "e\u0301"]
    assert make_encoder().encode(texts) == [processor.encode(text)[:6] for text in texts]


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u3000"])
def test_a_text_without_pieces_is_one_unknown_token(make_encoder, text):
    assert make_encoder().encode([text]) == [[1]]


def test_ids_are_cut_to_max_tokens(make_encoder, processor):
    text = "the cat sat on the mat with a dog"
    assert len(processor.encode(text)) > 6
    assert make_encoder().encode([text]) == [processor.encode(text)[:6]]


def test_no_texts_need_no_tokenizer_result(make_encoder):
    assert make_encoder().encode([]) == []


@pytest.mark.parametrize("texts", ["cat", b"cat"])
def test_one_string_is_refused(make_encoder, texts):
    message = f"texts: expected a list of strings, found one {type(texts).__name__}."
    with pytest.raises(TypeError, match=re.escape(message)):
        make_encoder().encode(texts)


@pytest.mark.parametrize(
    ("entry", "found"), [(None, "NoneType None"), (b"a", "bytes b'a'"), (3, "int 3")]
)
def test_entries_that_are_no_strings_are_named(make_encoder, entry, found):
    message = f"texts[1]: expected a string, found {found}."
    with pytest.raises(TypeError, match=re.escape(message)):
        make_encoder().encode(["a", entry])


def test_lone_surrogates_are_refused(make_encoder):
    message = (
        "texts[1]: expected text that UTF-8 can hold, found the lone surrogate '\\ud800' at "
        "position 2. Decode its source with errors='replace'."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        make_encoder().encode(["a", "ab\ud800c"])


def test_without_sentencepiece_the_error_tells_what_to_install(make_encoder, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(
        ImportError,
        match=r"Raw text needs the package sentencepiece, which is not installed\. Run `pip inst",
    ):
        make_encoder().encode(["a"])


@pytest.mark.parametrize("data", [b"junk", b"\x0a\x0e\x0a\x05"])
def test_a_damaged_model_is_refused(make_encoder, data):
    with pytest.raises(
        TokenizerError, match=r"lookup/tokenizer\.model: expected a SentencePiece model, found INT"
    ):
        make_encoder(tokenizer=data).encode(["a"])


def test_a_model_with_more_pieces_than_the_table_has_rows_is_refused(make_encoder):
    with pytest.raises(
        TokenizerError, match="expected at most 47 pieces, the rows of the gate table, found 48"
    ):
        make_encoder(vocab_size=47).encode(["a"])


def test_golden_texts_must_give_their_ids(make_encoder, processor):
    right = Probe("the cat", tuple(processor.encode("the cat")), (0.5, 0.5))
    wrong = Probe("the cat", (3, 2), (0.5, 0.5))
    make_encoder(check_golden=True, golden=(right,)).encode(["a"])
    make_encoder(check_golden=False, golden=(wrong,)).encode(["a"])
    message = (
        "lookup/tokenizer.model: expected ids [3, 2] for golden text 'the cat', found "
        f"{list(right.ids)}. Install the sentencepiece version"
    )
    with pytest.raises(TokenizerError, match=re.escape(message)):
        make_encoder(check_golden=True, golden=(right, wrong)).encode(["a"])


def test_threads_share_one_encoder(make_encoder):
    encoder = make_encoder(check_golden=True)
    texts = [f"the cat {'sat ' * (number % 5)}" for number in range(64)]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda text: encoder.encode([text])[0], texts))
    assert found == encoder.encode(texts)


def test_known_words_come_from_the_table_and_others_from_the_model(make_encoder, processor, words):
    texts = ["the cat", "the cat  sat", " the dog sat ", "a\0cat the", "", "고양이 cat", "the\tcat"]
    assert make_encoder(words=words).encode(texts) == [
        processor.encode(text)[:6] or [1] for text in texts
    ]


def test_texts_of_known_words_need_no_sentencepiece(make_encoder, processor, words, monkeypatch):
    golden = (
        Probe("the cat", tuple(processor.encode("the cat")), (0.5, 0.5)),
        Probe("a dog", tuple(processor.encode("a dog")), (0.5, 0.5)),
    )
    expected = processor.encode("the cat sat")
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    encoder = make_encoder(check_golden=True, golden=golden, words=words)
    assert encoder.encode(["the cat sat", " ", ""]) == [expected, [1], [1]]


def test_without_sentencepiece_the_error_names_the_unseen_word(make_encoder, words, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    message = (
        "The word 'dog' is not in the artifact's word table, so it needs the package "
        "sentencepiece, which is not installed. Run `pip install sentencepiece`, or pass token "
        "ids to probabilities(), which needs NumPy alone."
    )
    with pytest.raises(ImportError, match=re.escape(message)):
        make_encoder(words=words).encode(["the cat", "the dog"])


def test_words_behind_max_tokens_need_no_sentencepiece(make_encoder, words, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    (ids,) = make_encoder(words=words).encode(["the cat " * 6 + "dog"])
    assert len(ids) == 6


def test_the_table_must_give_the_golden_texts_their_ids(make_encoder, processor, words):
    right = Probe("a cat", tuple(processor.encode("a cat")), (0.5, 0.5))
    wrong = Probe("the cat", (3, 2), (0.5, 0.5))
    make_encoder(check_golden=False, golden=(wrong,), words=words).encode(["cat"])
    message = (
        "lookup: expected ids [3, 2] for golden text 'the cat', found "
        f"{processor.encode('the cat')} by the word table. Copy the artifact again"
    )
    encoder = make_encoder(check_golden=True, golden=(right, wrong), words=words)
    for _ in range(2):  # it stays refused
        with pytest.raises(WordTableError, match=re.escape(message)):
            encoder.encode(["cat"])


def test_the_model_must_agree_with_the_table_once_it_is_loaded(make_encoder, processor, words):
    # Of two words, one of them wrong in the table: only both paths together show it.
    golden = (Probe("the dog", tuple(processor.encode("the dog")), (0.5, 0.5)),)
    swapped = WordArrays(**(vars(words) | {"word_ids": words.word_ids[::-1].copy()}))
    encoder = make_encoder(check_golden=True, golden=golden, words=swapped)
    encoder.encode(["the cat"])
    with pytest.raises(WordTableError, match=r"for golden text 'the dog', found \[.*\] by the wor"):
        encoder.encode(["dog"])


def test_lone_surrogates_are_refused_before_the_table_is_asked(make_encoder, words):
    with pytest.raises(ValueError, match=r"texts\[0\]: expected text that UTF-8 can hold"):
        make_encoder(words=words).encode(["cat \ud800"])


def test_threads_share_one_encoder_with_a_table(make_encoder, processor, words):
    encoder = make_encoder(check_golden=True, words=words)
    texts = [f"the cat {'sat ' * (number % 5)}dog{number}" for number in range(64)]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda text: encoder.encode([text])[0], texts))
    assert found == [processor.encode(text)[:6] for text in texts]
