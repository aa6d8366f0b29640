from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from serving_compare.markdown_report import format_harness, format_report_markdown
from serving_compare.report import build_report
from serving_compare.results import Results
from serving_compare.tables import make_tables

MakeResults = Callable[..., Results]


def test_markdown_report_holds_every_table_the_losses_and_the_limits(make_results: MakeResults):
    report = build_report(make_results())
    text = format_report_markdown(report)
    for table in make_tables(report):
        assert f"## {table.title}\n" in text
    assert "## Where the lookup table loses\n\n- onnx is faster" in text
    assert "Not measured: serving over HTTP, " in text
    assert "6 rounds of 6 planned, seed 1" in text
    assert "1 layer of bidirectional GRU(4), vocabulary 64, 3 classes, pooling max" in text


def test_a_compressed_lookup_folder_is_told_of(make_results: MakeResults):
    exact = make_results()
    model = exact.artifact["model"] | {"table_dtype": "int8", "recurrent_dtype": "float32"}
    stored = dataclasses.replace(exact, artifact={**exact.artifact, "model": model})
    text = format_report_markdown(build_report(stored))
    assert "pooling max, lookup stored as int8 tables and float32 kernels" in text
    assert "Same top 3 everywhere, but where the error of compressed lookup tables explains" in text
    assert "compressed" not in format_report_markdown(build_report(exact))


def test_harness_line_names_where_it_weighs_most(make_results: MakeResults):
    text = format_harness(build_report(make_results()))
    assert text == (
        "Harness: reading the clock costs 50 ns. The null backend takes at most 0.25% of the "
        "fastest backend's median (0.100 of 40.2 µs, onnx, batch_32)."
    )


def test_harness_line_counts_cells_that_never_warmed_up(make_results: MakeResults):
    results = make_results()
    results.processes[0]["cells"]["tokens_1"]["is_warm"] = False
    assert "In 1 cells the warm-up ended by its time limit." in format_harness(
        build_report(results)
    )


def test_the_answer_comes_first(make_results: MakeResults):
    lines = format_report_markdown(build_report(make_results())).splitlines()
    assert lines[0] == "# made-up"
    assert lines[2].startswith("onnx is the fastest: 40.2 µs for one title of 20 characters")


def test_http_has_its_tables_where_it_was_measured(
    make_results: MakeResults, http_section: dict[str, Any]
):
    report = build_report(make_results()) | {"http": http_section}
    text = format_report_markdown(report)
    assert "## Most requests a second with a p99 within 10 ms\n" in text
    assert "## Latency by rate, every probe" in text
    assert "HTTP" not in format_report_markdown(report | {"http": None}).replace("over HTTP", "")
