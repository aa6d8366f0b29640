"""Near duplicates of training texts: exactly those that a comparison of all pairs finds."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data_card import near_duplicates
from pipeline.data_card.near_duplicates import KINDS, HeldOutSplit, Leak, make_signatures
from pipeline.data_card.word_hashes import hash_words

WORD = st.sampled_from(["a", "b", "c", "d1", "d22"])
TEXTS = st.lists(st.lists(WORD, min_size=1, max_size=9).map(" ".join), min_size=1, max_size=12)


def find(held_out: list[str], training: list[str], *, chunk: int = 1000) -> Leak:
    split = HeldOutSplit()
    for start in range(0, len(held_out), chunk):
        split.add(make_signatures(hash_words(held_out[start : start + chunk])))
    for start in range(0, len(training), chunk):
        texts = training[start : start + chunk]
        split.meet(make_signatures(hash_words(texts)), [(text, 7) for text in texts])
    return split.find_leak()


def find_kind(held_out: str, training: str) -> str | None:
    """Compare one pair, by multisets."""
    if Counter(held_out.split()) == Counter(training.split()):
        return "word_order"
    one, two = (Counter(re.sub(r"\d+", "0", text).split()) for text in (held_out, training))
    if one == two:
        return "numbers"
    longest = near_duplicates.MAX_WORDS
    lengths = one.total(), two.total()
    least = near_duplicates.MIN_WORDS
    more, fewer = (one - two).total(), (two - one).total()
    if max(more, fewer) > 1 or max(lengths) > longest or lengths[0] < least:
        return None
    # One word replaced, or left out of the longer: each text that loses a word is long enough.
    return "one_word" if fewer == 0 or lengths[1] >= least else None


@given(TEXTS, TEXTS, st.integers(1, 5))
def test_rows_are_those_that_comparing_all_pairs_finds(
    held_out: list[str], training: list[str], chunk: int
) -> None:
    expected: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for row, text in enumerate(held_out):
        kinds = {find_kind(text, other) for other in training}
        first = next((kind for kind in KINDS if kind in kinds), None)
        if first:
            expected[first].append(row)
    found = find(held_out, training, chunk=chunk)
    assert {kind: rows.tolist() for kind, rows in found.rows.items()} == expected


@given(TEXTS, TEXTS)
def test_pairs_show_rows_of_their_kind_and_a_training_text_that_gives_it(
    held_out: list[str], training: list[str]
) -> None:
    leak = find(held_out, training)
    for kind, pairs in leak.pairs.items():
        assert [row for row, _ in pairs] == leak.rows[kind].tolist()
        for row, (text, label) in pairs:
            assert find_kind(held_out[row], text) == kind
            assert label == 7


@pytest.mark.parametrize(
    ("training", "kind"),
    [
        ("the tall man of paris walks", "word_order"),
        ("the man of paris walks tall", "word_order"),
        ("a man of paris walks tall", "one_word"),
        ("the man of paris walks", "one_word"),
        ("the man of paris now walks tall", "one_word"),
        ("a woman of paris walks tall", None),
    ],
)
def test_kinds_by_example(training: str, kind: str | None) -> None:
    leak = find(["the tall man of paris walks"], [training])
    assert [name for name in KINDS if len(leak.rows[name])] == ([kind] if kind else [])


def test_short_texts_are_not_compared_for_one_word() -> None:
    leak = find(["a genus of ferns"], ["a genus of herbs"])
    assert sum(map(len, leak.rows.values())) == 0
    assert leak.rows_compared_for_one_word == 0


def test_very_long_texts_are_compared_whole_only() -> None:
    words = [f"w{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(200)]
    text = " ".join(words)
    assert find([text], [" ".join(words[::-1])]).rows["word_order"].tolist() == [0]
    assert find([text], [" ".join(words[1:])]).rows["one_word"].tolist() == []


def test_rows_beyond_the_bound_on_memory_are_not_compared_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(near_duplicates, "MAX_SIGNATURES", 20)
    texts = [f"{word} one two three four five" for word in ("a", "b", "c", "d")]
    leak = find(texts, ["z one two three four five"], chunk=1)
    assert leak.rows["one_word"].tolist() == [0, 1]
    assert leak.rows_compared_for_one_word == 2


def test_no_training_text_means_no_leak() -> None:
    leak = find(["a b c d e f"], [])
    assert all(len(rows) == 0 for rows in leak.rows.values())
    assert leak.pairs == {kind: [] for kind in KINDS}


def test_signatures_of_no_text_are_empty() -> None:
    signatures = make_signatures(hash_words([]))
    assert len(signatures.numbers) == len(signatures.one_word) == 0
    assert signatures.numbers.dtype == np.uint64
