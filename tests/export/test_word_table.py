"""The word table: its law holds where it is claimed, and nothing else gets a table."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2

from export.golden import HOSTILE_TEXTS
from export.lookup.word_arrays import check_word_bounds, check_word_content
from export.lookup.words import WordTable
from export.word_table import (
    build_word_table,
    encode_words,
    find_law_problems,
    find_other_text,
    make_hostile_texts,
)
from pipeline.normalisation import build_rules
from pipeline.tokenizer import train_tokenizer
from tests.export import tiny

TEXTS = [
    "the cat sat on the mat, the dog did not",
    "한국어 뉴스 제목입니다 그리고 고양이",
    "Straße ﬁnal ½ ㎏ ｆｕｌｌ　ｗｉｄｔｈ",
    "cafe\u0301 résumé naïve e\u0323\u0302 ậ",
    "👩‍👩‍👧 👍🏽 😀😀 tree",
    "カタカナ ｶﾞｷﾞ ひらがな 漢字",
] * 3

# What has been known to join over a space, to vanish, to become a space, or to stay unknown.
_ODD = (
    *("\t", "\n", "\r", "\0", "\u00a0", "\u3000", "\u2028", "\u0085", "\u200b", "▁", "▁▁", "."),
    *("\u0301", "\u0323", "\u0302", "\u0308", "\u00b4", "\u00a8", "\u1fc1", "\ufc5e", "\u20e3"),
    *("\u00ad", "\ufeff", "\u200d", "\ufe0f", "\u034f", "\u115f", "\u3164", "\U000e0041"),
    *("\u1100", "\u1161", "\u11a8", "가", "ｶ", "\uff9e", "\u0e33", "\u0f77", "\u0958"),
    *(
        "ﬁ",
        "ß",
        "İ",
        "ſ",
        "ﷺ",
        "…",
        "½",
        "😀",
        "👍🏽",
        "𓀀",
        "\ue000",
        "\U0010ffff",
        "<unk>",
        "<pad>",
    ),
    *("a", "b", "e", "the", "cat", "고양이"),
)
hostile_words = st.lists(
    st.sampled_from(_ODD) | st.characters(exclude_categories=["Cs"]), max_size=5
).map("".join)
hostile_texts = st.lists(hostile_words, max_size=6).map(" ".join)


def train(rules: dict[str, str] | None = None, **options: Any) -> bytes:
    """Return a SentencePiece model: BPE with the one rule it needs, unless told otherwise."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=model,
        **{
            "vocab_size": 300,
            "model_type": "bpe",
            "hard_vocab_limit": False,
            "character_coverage": 1.0,
            "pad_id": 0,
            "unk_id": 1,
            "bos_id": -1,
            "eos_id": -1,
            "num_threads": 1,
            "minloglevel": 2,
            "normalizer": sentencepiece.SentencePieceNormalizer(
                norm_map=list({"▁": " ", **(rules or {})}.items()),
                add_dummy_prefix=options.pop("add_dummy_prefix", True),
                escape_whitespaces=True,
                remove_extra_whitespaces=options.pop("remove_extra_whitespaces", True),
            ),
            **options,
        },
    )
    return model.getvalue()


def change(tokenizer: bytes, edit: Callable[[Any], None]) -> bytes:
    """Return a model with its parsed form edited."""
    proto = sentencepiece_model_pb2.ModelProto.FromString(tokenizer)
    edit(proto)
    return bytes(proto.SerializeToString(deterministic=True))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A tokenizer as the pipeline trains it, with its 37,731 rules."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    train_tokenizer(TEXTS, 300, path)
    return path.read_bytes()


def load(tokenizer: bytes) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=tokenizer)


@pytest.fixture(scope="module")
def lawful(own: bytes) -> dict[str, sentencepiece.SentencePieceProcessor]:
    """Tokenizers that a word table is built for."""
    models = {
        "own rules": own,
        "nmt_nfkc": tiny.train_tokenizer(),
        "byte fallback": train(byte_fallback=True, vocab_size=560),
        "no rule but the needed one": train(),
    }
    return {name: load(model) for name, model in models.items()}


def test_nothing_is_wrong_with_the_pipelines_own_tokenizer(own: bytes) -> None:
    assert find_law_problems(own) == []
    assert find_law_problems(tiny.train_tokenizer()) == []


def test_the_rules_that_are_checked_are_those_of_the_pipeline(own: bytes) -> None:
    rules = sentencepiece.SentencePieceNormalizer(model_proto=own).Decompile()
    assert dict(rules) == build_rules()


@settings(max_examples=300, deadline=None)
@given(texts=st.lists(hostile_texts, min_size=1, max_size=4), data=st.data())
def test_ids_by_the_table_are_the_tokenizers_own(
    lawful: dict[str, sentencepiece.SentencePieceProcessor], texts: list[str], data: st.DataObject
) -> None:
    words = sorted({word for text in texts for word in text.split(" ") if word} | {"the"})
    in_table = data.draw(st.lists(st.sampled_from(words), min_size=1, unique=True))
    for name, processor in lawful.items():
        table = WordTable(encode_words(processor, in_table))
        assert find_other_text(table, processor, texts) is None, name


@settings(max_examples=100, deadline=None)
@given(text=hostile_texts, max_tokens=st.integers(1, 8))
def test_a_text_is_cut_behind_the_same_id(
    lawful: dict[str, sentencepiece.SentencePieceProcessor], text: str, max_tokens: int
) -> None:
    for name, processor in lawful.items():
        table = WordTable(encode_words(processor, ["the", "cat", "\u0301", "\t"]))
        found = table.encode(text, max_tokens, processor.encode)
        assert found == processor.encode(text)[:max_tokens], name


@pytest.mark.parametrize("odd", _ODD)
def test_odd_characters_beside_spaces_change_nothing(
    lawful: dict[str, sentencepiece.SentencePieceProcessor], odd: str
) -> None:
    texts = [
        f"{odd} {odd}",
        f" {odd}{odd}  {odd} ",
        f"cat {odd}cat{odd} {odd} {odd} cat",
        f"{odd} ",
    ]
    for name, processor in lawful.items():
        for in_table in ([odd], ["cat"], [odd, "cat", f"{odd}cat{odd}"]):
            table = WordTable(encode_words(processor, in_table))
            assert find_other_text(table, processor, texts) is None, name


@pytest.mark.slow
def test_every_rule_of_the_pipeline_keeps_to_its_word(own: bytes) -> None:
    processor = load(own)
    table = WordTable(encode_words(processor, ["a", "the"]))
    texts = [f"a {source} {source}a a{source} the" for source in build_rules()]
    assert find_other_text(table, processor, texts) is None


# Each with a text that shows why: its ids are not those of its words.
UNLAWFUL = {
    "unigram": (
        lambda: train(model_type="unigram", vocab_size=80),
        "Expected a BPE model, found UNIGRAM.",
        None,  # it may hold, and nothing promises it
    ),
    "char": (lambda: train(model_type="char"), "Expected a BPE model, found CHAR.", None),
    "pieces over a space": (
        lambda: train(split_by_whitespace=False),
        "Expected split_by_whitespace True, found False. Expected U+2581 at the start of a piece "
        "only, found '",
        "the cat sat on the mat",
    ),
    "no dummy prefix": (
        lambda: train(add_dummy_prefix=False),
        "Expected add_dummy_prefix True, found False.",
        "the cat",
    ),
    "spaces kept": (
        lambda: train(remove_extra_whitespaces=False),
        "Expected remove_extra_whitespaces True, found False.",
        "the  cat",
    ),
    "spaces not escaped": (
        lambda: change(
            train(), lambda model: setattr(model.normalizer_spec, "escape_whitespaces", False)
        ),
        "Expected escape_whitespaces True, found False.",
        None,
    ),
    "space as a suffix": (
        lambda: train(treat_whitespace_as_suffix=True),
        "Expected treat_whitespace_as_suffix False, found True.",
        None,
    ),
    "no rules": (
        lambda: train(normalizer=None, normalization_rule_name="identity"),
        "Expected a normalisation rule for U+2581, found none: it would count as a space.",
        "the▁ cat",
    ),
    "a rule over a space": (
        lambda: train({" \u0301": "x"}),
        "Expected normalisation rules within words, found one for ' \u0301'.",
        "the \u0301",
    ),
    "a rule up to a space": (
        lambda: train({"t ": "s"}),
        "Expected normalisation rules within words, found one for 't '.",
        "cat the",
    ),
    "another space": (
        lambda: train({" ": "_"}),
        "Expected normalisation rules within words, found one for ' '.",
        "cat the",
    ),
    "two spaces left": (
        lambda: train({"!": "  "}),
        "Expected normalisation to leave no U+2581 and no two spaces in a row, found '  ' for '!'.",
        "the! cat",
    ),
    "U+2581 left": (
        lambda: train({"!": "▁"}),
        "Expected normalisation to leave no U+2581 and no two spaces in a row, found '▁' for '!'.",
        "the! cat",
    ),
    "a user-defined piece": (
        lambda: train(user_defined_symbols=["the▁cat"]),
        "Expected no user-defined or unused piece, found 'the▁cat'.",
        "the cat",
    ),
    "U+2581 unknown": (
        lambda: change(
            train(), lambda model: setattr(model.pieces[_mark(model)], "piece", "\ue001")
        ),
        "Expected U+2581 among the pieces, found none.",
        "𓀀 𓀀",
    ),
    "damaged rules": (
        lambda: change(
            train(), lambda model: setattr(model.normalizer_spec, "precompiled_charsmap", b"x")
        ),
        "Expected normalisation rules that can be read, found INTERNAL",
        None,
    ),
}


def _mark(model: Any) -> int:
    return [piece.piece for piece in model.pieces].index("▁")


@pytest.mark.parametrize("name", UNLAWFUL)
def test_a_tokenizer_without_the_law_gets_no_table(name: str) -> None:
    make, problem, witness = UNLAWFUL[name]
    tokenizer = make()
    assert problem in " ".join(find_law_problems(tokenizer))
    result = build_word_table(tokenizer, ["the", "cat"], test_texts=["the"], probe_texts=[])
    assert result.words is None
    assert result.refusal.startswith(
        "With this tokenizer the ids of a text may not be those of its words. "
    )
    if witness is not None:
        processor = load(tokenizer)
        words = processor.encode(witness.split(" "))
        assert processor.encode(witness) != [token for ids in words for token in ids]


def test_unused_pieces_are_refused() -> None:
    def retire(model: Any) -> None:
        for piece in model.pieces:
            if piece.piece == "▁the":
                piece.type = piece.UNUSED

    (problem,) = find_law_problems(change(train(), retire))
    assert problem == "Expected no user-defined or unused piece, found '▁the'."


def test_all_problems_are_told_together(own: bytes) -> None:
    def spoil(model: Any) -> None:
        model.normalizer_spec.add_dummy_prefix = False
        model.pieces[5].type = model.pieces[5].UNUSED

    assert len(find_law_problems(change(own, spoil))) == 2


def test_a_table_holds_every_word_sorted(own: bytes) -> None:
    processor = load(own)
    words = ["the", "고양이", "!!", "cat", "～", "😀"]
    arrays = encode_words(processor, words)
    check_word_bounds(arrays, processor.get_piece_size())
    check_word_content(arrays)
    assert arrays.sizes.words == 6
    table = WordTable(arrays)
    assert {word: table.find(word) for word in words} == {
        word: tuple(processor.encode(word)) for word in words
    }
    assert table.find("!!") == ()
    for name, dtype in (("word_bytes", np.uint8), ("word_ids", np.int32)):
        assert getattr(arrays, name).dtype == dtype


def test_hostile_texts_stand_in_pairs_and_beside_words() -> None:
    texts = make_hostile_texts(["the", "cat"])
    assert "▁already▁escaped▁ nul\x00inside" in texts
    assert "cat 𓀀𓀁𓀂 𓀃𓀄 cat𓀀𓀁𓀂 𓀃𓀄 𓀀𓀁𓀂 𓀃𓀄cat  cat" in texts
    assert len(texts) == len(HOSTILE_TEXTS) * (len(HOSTILE_TEXTS) + 2)


def test_the_table_of_a_run_is_proven_and_measured(own: bytes) -> None:
    test_texts = ["the cat", "the unseen cat", "", "  "]
    result = build_word_table(
        own, ["the", "cat", "dog"], test_texts=test_texts, probe_texts=["고양이"]
    )
    assert result.refusal is None
    assert result.words.sizes.words == 3
    assert result.to_json() == {
        "words": 3,
        "refusal": None,
        "checked_texts": 4 + 1 + len(HOSTILE_TEXTS) * (len(HOSTILE_TEXTS) + 3),
        "test_word_share": 0.8,
        "test_text_share": 0.75,
    }


def test_a_table_whose_ids_differ_anywhere_is_dropped(
    own: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if the checks had overlooked something that only this model does.
    tokenizer = train({"t ": "s"})
    monkeypatch.setattr("export.word_table.find_law_problems", lambda tokenizer: [])
    result = build_word_table(tokenizer, ["the"], test_texts=["the"], probe_texts=["cat the"])
    assert result.words is None
    assert result.refusal == (
        "Expected the tokenizer's ids from the word table on every text, found others for "
        "'cat the'."
    )


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (None, r"The run has no words\.txt: it was trained before runs kept .* `make train` with"),
        ([], r"The training texts hold no words that fit a word table\."),
    ],
)
def test_a_run_without_words_gets_no_table(
    own: bytes, words: list[str] | None, refusal: str
) -> None:
    result = build_word_table(own, words, test_texts=["a"], probe_texts=[])
    assert result.words is None
    assert re.match(refusal, result.refusal)
    assert result.to_json()["words"] == 0


def test_no_test_text_gives_no_share(own: bytes) -> None:
    result = build_word_table(own, ["the"], test_texts=[], probe_texts=[])
    assert (result.word_share, result.text_share) == (0.0, 0.0)
