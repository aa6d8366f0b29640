"""The figures of both kinds: what they show, what they say to those who cannot see them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest

from serving_compare import figures, http_figures
from serving_compare.report import build_report
from serving_compare.results import Results
from serving_compare.verdict import find_verdict

MakeResults = Callable[..., Results]
TEXT = "{http://www.w3.org/2000/svg}text"


@pytest.fixture
def report(make_results: MakeResults) -> dict[str, Any]:
    return build_report(make_results())


def read(svg: str | None) -> tuple[str, list[str]]:
    """The text alternative and the texts of a figure."""
    assert svg is not None
    root = ElementTree.fromstring(svg)
    return root.attrib["aria-label"], [element.text or "" for element in root.iter(TEXT)]


def test_the_headline_has_a_bar_for_each_backend_the_fastest_first(report: dict[str, Any]):
    verdict = find_verdict(report)
    assert verdict is not None
    alt, texts = read(figures.draw_headline(verdict))
    assert alt == (
        "Bars: time for one title of 20 characters. onnx 40 µs, lookup 50 µs, saved_model 1.0 ms."
    )
    assert "50 µs · 1.2 times" in texts


def test_times_by_length_are_named_at_their_ends(report: dict[str, Any]):
    alt, texts = read(figures.draw_lengths(report, "tokens", "tokens"))
    assert alt.endswith("At 10: saved_model 1.0 ms, onnx 40 µs, lookup 50 µs.")
    assert {"1", "10", "saved_model", "onnx", "lookup"} <= set(texts)
    assert figures.draw_lengths(report, "title_text", "characters") is None  # a single length


def test_ratios_have_a_row_for_each_cell_of_their_kinds(report: dict[str, Any]):
    _, texts = read(figures.draw_ratios(report, "onnx", ("title_text", "cold_start")))
    assert {"20 characters", "cold start", "times as long as onnx takes"} <= set(texts)
    assert "1 token" not in texts
    assert figures.draw_ratios(report, "onnx", ("zipf",)) is None


def test_batches_need_two_sizes(report: dict[str, Any]):
    assert figures.draw_batches(report) is None
    for entry in report["backends"].values():
        entry["batch"]["8"] = entry["batch"]["32"]
    report["ratios"]["batch"]["8"] = report["ratios"]["batch"]["32"]
    alt, _ = read(figures.draw_batches(report))
    assert "lookup 636," in alt


def test_other_ids_and_cold_caches_are_marks_in_one_row_a_backend(report: dict[str, Any]):
    assert figures.draw_variants(report) is None
    for kind in ("zipf", "cold"):
        report["ratios"][kind] = {"10": report["ratios"]["tokens"]["10"]}
        for entry in report["backends"].values():
            entry["latency"][kind] = {"10": entry["latency"]["tokens"]["10"]}
    alt, texts = read(figures.draw_variants(report))
    assert alt.endswith("for as they come, frequent ids, cold caches.")
    assert {"frequent ids", "cold caches", "µs, 10 tokens"} <= set(texts)


def test_start_memory_and_size_have_a_row_for_each_backend(report: dict[str, Any]):
    alt, texts = read(figures.draw_cold_start(report))
    assert alt.startswith("Stacked bars: milliseconds of Python starts, imports, load, first ans")
    assert {"saved_model", "null", "1,028 ms"} <= set(texts)
    assert read(figures.draw_memory(report))[1].count("30 MB") == 4
    assert "lookup 47.0 MB 80.00 %" in read(figures.draw_size_accuracy(report))[0]
    for entry in report["backends"].values():
        entry["accuracy"] = None
    assert figures.draw_size_accuracy(report) is None


def test_the_curve_leaves_out_void_probes_and_those_too_small_for_a_p99(
    http_section: dict[str, Any],
):
    alt, texts = read(http_figures.draw_curve(http_section))
    assert "limit 10 ms" in texts
    assert alt.endswith(
        "The highest rates within it: saved_model 400, onnx 1,600, lookup 2,400, null 2,800."
    )
    for found in http_section["backends"].values():
        found["curve"] = [probe for probe in found["curve"] if not probe["valid"]]
    assert http_figures.draw_curve(http_section) is None


def test_rates_and_shares_are_bars(http_section: dict[str, Any]):
    assert {"2,400", "lookup"} <= set(read(http_figures.draw_rates(http_section))[1])
    alt, texts = read(http_figures.draw_shares(http_section))
    assert "300 µs, 87% HTTP" in texts
    assert "lookup 40 and 260" in alt
    for found in http_section["backends"].values():
        found["single_stream"]["in_process_median_us"] = None
        found["server"]["max_rate_per_s"] = 0.0
    assert http_figures.draw_shares(http_section) is None
    assert http_figures.draw_rates(http_section) is None
