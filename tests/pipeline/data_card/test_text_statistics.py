"""Lengths, words, pieces and unknown characters of a split."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data_card import text_statistics
from pipeline.data_card.text_statistics import (
    SplitStatistics,
    WordCounts,
    list_missing,
    make_histogram,
    summarise_lengths,
)
from pipeline.data_card.word_hashes import hash_words

LENGTHS = st.lists(st.integers(1, 500), min_size=1, max_size=60)


@given(st.lists(st.lists(st.integers(0, 20), max_size=20), max_size=6), st.integers(1, 10))
def test_words_are_counted_whatever_the_chunks(chunks: list[list[int]], pending: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_statistics, "_PENDING_WORDS", pending)
        counts = WordCounts()
        for chunk in chunks:
            counts.add(np.array(chunk, dtype=np.uint64))
        counts.merge()
    expected = Counter(word for chunk in chunks for word in chunk)
    assert dict(zip(counts.hashes.tolist(), counts.counts.tolist(), strict=True)) == expected


def test_share_of_words_seen_counts_uses_and_distinct_words() -> None:
    train, test = WordCounts(), WordCounts()
    train.add(hash_words(["a b", "a"]).exact)
    test.add(hash_words(["a a a c"]).exact)
    train.merge()
    test.merge()
    assert test.share_seen_in(train) == (0.75, 0.5)


def add(statistics: SplitStatistics, rows: list[tuple[str, list[int]]]) -> None:
    texts = [text for text, _ in rows]
    starts = np.cumsum([0, *(len(ids) for _, ids in rows)])
    ids = np.array([index for _, ids in rows for index in ids], dtype=np.int32)
    statistics.add(texts, hash_words(texts), ids, starts)


def test_pieces_lengths_and_unknown_rows_add_up_over_chunks() -> None:
    statistics = SplitStatistics(6, frozenset("abc▁"))
    add(statistics, [("ab c", [2, 3]), ("x", [1])])
    add(statistics, [("a xy", [4, 1, 1])])
    assert statistics.piece_counts.tolist() == [0, 3, 1, 1, 1, 0]
    assert statistics.rows_with_unknown == 2
    assert statistics.missing == {"x": 2, "y": 1}
    assert statistics.lengths("words").tolist() == [2, 1, 2]
    assert statistics.lengths("tokens").tolist() == [2, 1, 3]


def test_summary_has_lengths_of_real_texts() -> None:
    summary = summarise_lengths(np.array([1, 2, 2, 9], dtype=np.int32))
    assert (summary.min, summary.mean, summary.max) == (1, 3.5, 9)
    assert summary.quantiles == {"p1": 1, "p25": 1, "p50": 2, "p75": 2, "p90": 9, "p99": 9}


@given(LENGTHS, LENGTHS)
def test_histogram_holds_every_row_in_its_bin(train: list[int], test: list[int]) -> None:
    splits = {"train": train, "test": test}
    histogram = make_histogram({s: np.array(v, dtype=np.int32) for s, v in splits.items()})
    edges = histogram.edges
    assert len({b - a for a, b in itertools.pairwise(edges)}) == 1
    assert len(edges) <= 31
    for split, lengths in splits.items():
        bins = histogram.counts[split]
        for index, count in enumerate(bins):
            last = index == len(bins) - 1
            upper = np.inf if last else edges[index + 1]
            assert count == sum(edges[index] <= length < upper for length in lengths)


def test_missing_characters_are_named_most_frequent_first() -> None:
    found = list_missing(Counter({"é": 3, "\ue000": 3, "日": 5}), limit=3)
    assert [(m.code_point, m.name, m.count) for m in found] == [
        ("U+65E5", "CJK UNIFIED IDEOGRAPH-65E5", 5),
        ("U+00E9", "LATIN SMALL LETTER E WITH ACUTE", 3),
        ("U+E000", "unnamed", 3),
    ]
