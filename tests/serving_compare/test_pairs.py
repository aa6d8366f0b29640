from __future__ import annotations

from typing import Any

import pytest

from serving_compare.pairs import has_pair, list_pairs, name_cell, name_kind, orient_pair

PAIR = {"first": "lookup", "second": "tf2onnx", "ratio": 0.25, "ci95": [0.2, 0.5]}


def test_pairs_are_turned_so_that_above_one_means_own_is_faster():
    ratio, interval, winner = orient_pair([{**PAIR, "winner": "lookup"}], "lookup", "tf2onnx")
    assert ratio == 4
    assert interval == pytest.approx([2, 5])
    assert winner == "lookup"
    assert orient_pair([{**PAIR, "winner": None}], "tf2onnx", "lookup") == (0.25, (0.2, 0.5), None)


def test_a_pair_without_an_interval_stays_without():
    single = {**PAIR, "ci95": None, "winner": None}
    assert orient_pair([single], "lookup", "tf2onnx") == (4, None, None)


def test_pairs_are_listed_by_cell_with_the_cold_start_last():
    pairs: list[Any] = [{**PAIR, "winner": None}]
    report = {"ratios": {"tokens": {"1": pairs}, "zipf": {}}, "cold_start_ratios": pairs}
    assert list_pairs(report) == [("tokens", "1", pairs), ("cold_start", "", pairs)]
    assert has_pair(pairs, "tf2onnx", "lookup")
    assert not has_pair(pairs, "tf2onnx", "onnx")


def test_kinds_and_cells_have_names_in_words_known_or_not():
    assert name_cell("cold", "10") == "10 tokens, cold caches"
    assert name_cell("cold_start", "") == "cold start"
    assert name_cell("new_kind", "3") == "new kind 3"
    assert name_kind("new_kind") == "new kind"
