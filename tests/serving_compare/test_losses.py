from __future__ import annotations

from collections.abc import Callable

import pytest

from serving_compare.losses import find_pair, list_losses
from serving_compare.report import build_report
from serving_compare.results import Results

MakeResults = Callable[..., Results]


def test_losses_name_who_is_faster_where_and_by_how_much(make_results: MakeResults):
    losses = list_losses(build_report(make_results()))
    assert losses[:5] == [
        "onnx is faster: ids in, tokens 1 (1.25x), 10 (1.25x).",
        "onnx is faster: string in, characters 20 (1.25x).",
        "onnx is faster: the same titles' ids in, characters 20 (1.25x).",
        "onnx is faster: batches of 32 (1.25x).",
        "onnx is faster: cold start (1.15x).",
    ]
    assert "Size on disk, ids in: lookup 47.00 MB, saved_model 8.00 MB, onnx 8.00 MB." in losses


def test_where_nothing_is_lost_it_says_so(make_results: MakeResults):
    results = make_results({"onnx": [2000] * 6, "lookup": [1000] * 6})
    results.sizes["lookup"] = {"ids": 1, "text": 1}
    assert list_losses(build_report(results)) == [
        "Nowhere, among what was measured on this machine."
    ]


def test_cells_too_close_to_call_are_listed(make_results: MakeResults):
    near = {"onnx": [1000, 1100, 900, 1050, 950, 1000], "lookup": [1000] * 6}
    losses = list_losses(build_report(make_results(near)))
    assert losses[-1].startswith("Too close to call against onnx: ids in, tokens 1, 10; string in")


def test_too_few_rounds_are_said_once(make_results: MakeResults):
    losses = list_losses(build_report(make_results({"onnx": [1000] * 3, "lookup": [2000] * 3})))
    assert losses[-1].startswith("No winner is named in any cell: that takes 6 rounds, found 3.")
    assert not [line for line in losses if "faster" in line]


def test_lower_accuracy_is_a_loss(make_results: MakeResults):
    results = make_results()
    results.accuracy["onnx"] = {**results.accuracy["onnx"], "top_1": 0.81}
    assert "onnx is more accurate: top-1 higher by 1.0000%." in list_losses(build_report(results))


def test_comparisons_without_lookup_or_without_rivals_say_so(make_results: MakeResults):
    without = build_report(make_results({"onnx": [1000] * 6}))
    alone = build_report(make_results({"lookup": [1000] * 6}))
    assert list_losses(without) == ["lookup was not compared."]
    assert list_losses(alone) == ["No other backend was compared."]


def test_pairs_are_turned_so_that_above_one_means_lookup_is_faster():
    pair = {"first": "lookup", "second": "tf2onnx", "ratio": 0.25, "ci95": [0.2, 0.5]}
    ratio, interval, winner = find_pair([{**pair, "winner": "lookup"}], "tf2onnx")
    assert ratio == 4
    assert interval == pytest.approx([2, 5])
    assert winner == "lookup"
