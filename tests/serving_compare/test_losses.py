from __future__ import annotations

from collections.abc import Callable
from typing import Any

from serving_compare.losses import list_http_losses, list_losses
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


def test_more_memory_shared_out_is_a_loss_where_it_was_measured(make_results: MakeResults):
    report = build_report(make_results())
    for name, pss in (("lookup", 50_000_000), ("onnx", 40_000_000)):
        report["backends"][name]["memory"]["pss_bytes"] = {"median": pss}
    assert (
        "Proportional memory up to the first answer: lookup 50.00 MB, onnx 40.00 MB."
        in list_losses(report)
    )


def test_new_kinds_of_cells_are_named_in_words(make_results: MakeResults):
    report = build_report(make_results())
    for kind in ("zipf", "uniform", "cold", "all_cores"):
        report["ratios"][kind] = {"10": report["ratios"]["tokens"]["10"]}
    losses = list_losses(report)
    assert "onnx is faster: ids as frequent as in the texts, tokens 10 (1.25x)." in losses
    assert "onnx is faster: ids uniform over the vocabulary, tokens 10 (1.25x)." in losses
    assert "onnx is faster: cold caches, tokens 10 (1.25x)." in losses
    assert "onnx is faster: all cores, batches of 10 (1.25x)." in losses


def test_what_http_leaves_of_the_lead_is_told(http_section: dict[str, Any]):
    assert list_http_losses(http_section) == [
        "Behind HTTP the lead shrinks. 87% of a request to lookup is HTTP: "
        "45.0x becomes 6.5x against saved_model, 4.5x becomes 1.5x against onnx."
    ]


def test_a_rival_that_answers_more_requests_is_named(http_section: dict[str, Any]):
    (pair,) = [pair for pair in http_section["ratios"] if pair["first"] == "onnx"]
    pair.update(winner="onnx")
    http_section["backends"]["onnx"]["server"]["max_rate_per_s"] = 3000.0
    assert list_http_losses(http_section)[0] == (
        "onnx answers more requests a second within the p99 of 10 ms: 3,000, lookup 2,400."
    )
    pair.update(winner=None)
    assert list_http_losses(http_section)[0] == (
        "Requests a second within the p99 of 10 ms are too close to call against onnx: "
        "lookup 2,400, onnx 3,000."
    )


def test_a_rival_faster_over_http_is_named(http_section: dict[str, Any]):
    http_section["backends"]["onnx"]["single_stream"].update(median_us=200.0, ci95=[195.0, 205.0])
    assert (
        "onnx is faster over HTTP, one request at a time: 200 µs, lookup 300 µs."
        in list_http_losses(http_section)
    )


def test_nothing_is_said_of_http_where_it_was_not_measured(http_section: dict[str, Any]):
    assert list_http_losses(None) == []
    del http_section["backends"]["lookup"]
    assert list_http_losses(http_section) == []
