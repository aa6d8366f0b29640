from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable

from rich.console import Console

from serving_compare.report import build_report
from serving_compare.results import Results
from serving_compare.tables import (
    Table,
    format_harness,
    format_markdown_table,
    format_report_markdown,
    make_tables,
    print_tables,
)

MakeResults = Callable[..., Results]


def test_markdown_table_has_a_first_column_left_and_others_right():
    table = Table(title="t", columns=["a", "b"], rows=[["1", "2"]])
    assert format_markdown_table(table) == "| a | b |\n|---|--:|\n| 1 | 2 |\n"


def test_classic_table_is_in_milliseconds_by_title_length(make_results: MakeResults):
    classic = make_tables(build_report(make_results()))[0]
    assert list(classic.columns) == ["Length", "tf (saved_model)", "onnx", "lookup"]
    # Pooled median of six rounds, 1.000 to 1.005 ms.
    assert classic.rows == [["20", "1.002", "0.040", "0.050"]]


def test_unstable_cells_are_marked_and_kept(make_results: MakeResults):
    rough = make_results({"onnx": [1000, 1000, 2000, 1000, 1000, 1000], "lookup": [1000] * 6})
    rows = make_tables(build_report(rough))[1].rows
    marked = {(row[0], row[1]): row[2] for row in rows}
    assert marked["1", "onnx"].endswith(" ~")
    assert not marked["1", "lookup"].endswith(" ~")


def test_p99_below_ten_thousand_samples_is_not_available(make_results: MakeResults):
    few = make_tables(build_report(make_results(samples_each=101)))[1]
    many = make_tables(build_report(make_results(samples_each=1701)))[1]
    assert {row[4] for row in few.rows} == {"n/a"}
    assert "n/a" not in {row[4] for row in many.rows}


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


def test_report_without_labels_has_no_accuracy_table(make_results: MakeResults):
    titles = [table.title for table in make_tables(build_report(make_results(accuracy={})))]
    assert not [title for title in titles if "Accuracy" in title]


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


def test_terminal_shows_the_tables_without_the_details(make_results: MakeResults):
    shown = io.StringIO()
    print_tables(Console(file=shown, width=100), make_tables(build_report(make_results())))
    text = shown.getvalue()
    assert "Milliseconds by title length" in text
    assert "All ratios of time" not in text
