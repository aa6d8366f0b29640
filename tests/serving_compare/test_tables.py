from __future__ import annotations

from collections.abc import Callable

from serving_compare.report import build_report
from serving_compare.results import Results
from serving_compare.tables import find_cell, make_pairs_table, make_tables

MakeResults = Callable[..., Results]


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


def test_report_without_labels_has_no_accuracy_table(make_results: MakeResults):
    titles = [table.title for table in make_tables(build_report(make_results(accuracy={})))]
    assert not [title for title in titles if "Accuracy" in title]


def test_every_cell_tells_how_many_times_the_fastests_time_each_takes(make_results: MakeResults):
    tables = {table.key: table for table in make_tables(build_report(make_results()))}
    assert list(tables["ratios"].columns) == ["Cell", "saved_model", "onnx", "lookup"]
    rows = {row[0]: row[1:] for row in tables["ratios"].rows}
    assert rows["10 tokens"][1:] == ["fastest", "1.25x [1.25, 1.25]"]
    assert len(rows) == 6
    assert tables["ratios"].is_detail


def test_all_pairs_are_one_long_table_of_their_own(make_results: MakeResults):
    rows = make_pairs_table(build_report(make_results())).rows
    assert len(rows) == 6 * 3
    assert rows[2][:2] == ["1 token", "onnx / lookup"]
    assert rows[2][4] == "onnx"


def test_other_ids_and_cold_caches_stand_beside_the_usual_ones(make_results: MakeResults):
    report = build_report(make_results())
    assert "variants" not in {table.key for table in make_tables(report)}
    for kind, factor in (("zipf", 0.5), ("uniform", 1.0), ("cold", 3.0)):
        report["ratios"][kind] = {"10": report["ratios"]["tokens"]["10"]}
        for name in ("onnx", "lookup"):  # as though saved_model had not been asked
            cells = report["backends"][name]["latency"]
            cell = cells["tokens"]["10"]
            cells[kind] = {"10": cell | {"median_us": factor * cell["median_us"]}}
    table = next(table for table in make_tables(report) if table.key == "variants")
    assert table.columns[2:] == ["As they come", "Frequent ids", "Uniform ids", "Cold caches"]
    assert list(table.rows) == [
        ["10", "saved_model", "1002.0", "n/a", "n/a", "n/a"],
        ["10", "onnx", "40.2", "20.1", "40.2", "120.8"],
        ["10", "lookup", "50.2", "25.1", "50.2", "150.8"],
    ]
    assert find_cell(report, "saved_model", "zipf", "10") is None


def test_batches_on_all_cores_are_a_row_of_the_batch_table(make_results: MakeResults):
    report = build_report(make_results())
    batch = report["backends"]["lookup"]["batch"]["32"]
    report["backends"]["lookup"]["all_cores"] = {"32": batch | {"sequences_per_s": 1234.0}}
    report["ratios"]["all_cores"] = {"32": []}
    table = next(table for table in make_tables(report) if table.key == "batch")
    assert table.rows[1] == ["32, all cores", "n/a", "n/a", "1,234"]
