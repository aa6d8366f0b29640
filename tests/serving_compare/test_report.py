from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from serving_compare.backends import BACKENDS
from serving_compare.report import (
    ReportError,
    build_report,
    check_report_name,
    find_report,
    format_readme_table,
    publish_report,
)
from serving_compare.results import Results, read_results

MakeResults = Callable[..., Results]
SCHEMA_PATH = Path(__file__).parents[2] / "serving_compare" / "schema" / "report.schema.json"


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(SCHEMA_PATH.read_text())
    jsonschema.Draft202012Validator.check_schema(loaded)
    return loaded


@pytest.mark.parametrize("rounds", [1, 6])
@pytest.mark.parametrize("samples_each", [11, 10_001])
def test_report_is_of_its_schema(
    make_results: MakeResults, schema: dict[str, Any], rounds: int, samples_each: int
):
    medians = {"onnx": [40_000] * rounds, "lookup": [20_000] * rounds}
    results = make_results(medians, samples_each=samples_each, accuracy={})
    jsonschema.validate(build_report(results), schema)


def test_report_with_unknown_fields_is_not_of_the_schema(
    make_results: MakeResults, schema: dict[str, Any]
):
    report = build_report(make_results())
    report["backends"]["onnx"]["latency"]["tokens"]["1"]["mean_us"] = 1.0
    with pytest.raises(jsonschema.ValidationError, match="mean_us"):
        jsonschema.validate(report, schema)


def test_known_samples_give_known_figures(make_results: MakeResults):
    report = build_report(make_results())
    cell = report["backends"]["lookup"]["latency"]["tokens"]["10"]
    # Rounds have medians 50.0, 50.1 ... 50.5 µs.
    assert cell["median_us"] == pytest.approx(50.25, abs=0.05)
    assert cell["ci95"][0] <= cell["median_us"] <= cell["ci95"][1]
    assert (cell["n"], cell["rounds"], cell["stable"]) == (606, 6, True)
    assert cell["spread"] == pytest.approx(0.01, rel=0.01)
    pairs = {(p["first"], p["second"]): p for p in report["ratios"]["tokens"]["10"]}
    assert pairs["saved_model", "lookup"]["ratio"] == pytest.approx(1_002_500 / 50_250, rel=1e-3)
    assert pairs["saved_model", "lookup"]["winner"] == "lookup"
    assert pairs["onnx", "lookup"]["winner"] == "onnx"
    batch = report["backends"]["lookup"]["batch"]["32"]
    assert batch["sequences_per_s"] == pytest.approx(32e6 / batch["median_us"], rel=1e-5)
    cold = report["backends"]["lookup"]["cold_start"]
    assert cold["start_ms"]["median"] == 20
    assert cold["total_ms"]["median"] == pytest.approx(76.2)


def test_null_is_reported_but_never_compared(make_results: MakeResults):
    report = build_report(make_results())
    assert "null" in report["backends"]
    pairs = [pair for sizes in report["ratios"].values() for p in sizes.values() for pair in p]
    assert "null" not in {pair["first"] for pair in pairs} | {pair["second"] for pair in pairs}


def test_same_results_give_the_same_report(make_results: MakeResults):
    assert build_report(make_results()) == build_report(make_results())


def test_readme_table_has_medians_and_ratios_by_token_length(make_results: MakeResults):
    table = format_readme_table(build_report(make_results()))
    lines = table.splitlines()
    assert lines[0] == (
        "| Tokens | saved_model µs | onnx µs | lookup µs | lookup against saved_model "
        "| lookup against onnx |"
    )
    assert lines[1] == "|---|--:|--:|--:|--:|--:|"
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| 1", "| 10"]
    assert "| 19.95x [" in lines[2]
    assert "| 0.80x [" in lines[2]
    assert table.endswith("|\n")


def test_readme_table_claims_nothing_the_data_do_not_support(make_results: MakeResults):
    few = make_results({"onnx": [40_000] * 3, "lookup": [20_000] * 3})
    assert "| 2.00x (no claim) |" in format_readme_table(build_report(few))


def test_readme_table_is_the_same_from_the_published_file(
    tmp_path: Path, make_results: MakeResults
):
    results = make_results()
    folder = publish_report(tmp_path, results)
    stored = json.loads((folder / "report.json").read_text())
    assert format_readme_table(stored) == format_readme_table(build_report(results))


def test_published_folder_is_whole_and_rebuilt_from_its_raw_results(
    tmp_path: Path, make_results: MakeResults
):
    folder = publish_report(tmp_path, make_results())
    assert sorted(path.name for path in folder.iterdir()) == [
        *("raw", "report.html", "report.json", "report.md"),
    ]
    assert (tmp_path / "latest").read_text() == "made-up\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "made-up"]
    stored = json.loads((folder / "report.json").read_text())
    assert build_report(read_results(folder / "raw")) == stored


def test_nothing_half_written_stays_when_publishing_fails(
    tmp_path: Path, make_results: MakeResults, monkeypatch: pytest.MonkeyPatch
):
    def fail(report: object) -> str:
        raise OSError("disk full")

    monkeypatch.setattr("serving_compare.report.format_report_markdown", fail)
    with pytest.raises(OSError, match="disk full"):
        publish_report(tmp_path, make_results())
    assert list(tmp_path.iterdir()) == []


def test_an_existing_report_is_not_overwritten(tmp_path: Path, make_results: MakeResults):
    publish_report(tmp_path, make_results())
    with pytest.raises(ReportError, match=r"made-up: the report exists\. Choose another --output"):
        publish_report(tmp_path, make_results())


@pytest.mark.parametrize("name", ["", "../out", ".hidden", "a/b", "x" * 151])
def test_unsafe_report_names_are_refused(tmp_path: Path, name: str):
    with pytest.raises(ReportError, match="--output: expected 1 to 150 letters, digits"):
        check_report_name(tmp_path, name)


def test_report_names_no_path_of_the_machine(make_results: MakeResults):
    text = json.dumps(build_report(replace(make_results(), name="n")))
    assert '"/' not in text


def test_the_newest_report_is_found_by_name_of_latest(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="expected a report, found none yet. Make one with"):
        find_report(tmp_path)
    (tmp_path / "latest").write_text("first\n", encoding="utf-8")
    assert find_report(tmp_path) == tmp_path / "first"


def test_the_schema_knows_every_backend():
    schema = json.loads(SCHEMA_PATH.read_text())
    assert schema["$defs"]["backend_name"]["enum"] == list(BACKENDS)


def test_a_section_over_http_is_of_the_schema(
    make_results: MakeResults, schema: dict[str, Any], http_section: dict[str, Any]
):
    report = build_report(make_results())
    assert report["http"] is None
    assert report["not_measured"][:2] == ["serving over HTTP", "more than one thread or core"]
    jsonschema.validate(report | {"http": http_section}, schema)
    http_section["backends"]["onnx"]["curve"][0]["p98_us"] = 1.0
    with pytest.raises(jsonschema.ValidationError, match="p98_us"):
        jsonschema.validate(report | {"http": http_section}, schema)


@pytest.mark.parametrize("name", ["report", "bench"])
def test_the_committed_reference_is_of_its_schema(name: str):
    root = SCHEMA_PATH.parents[2]
    schema = json.loads((SCHEMA_PATH.parent / f"{name}.schema.json").read_text())
    reference = root / "docs" / "reports" / "reference" / f"{name}.json"
    stored = json.loads(reference.read_text())
    jsonschema.validate(stored, schema)
