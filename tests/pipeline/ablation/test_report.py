"""One JSON and its views: schema, table, Markdown, and no drift of the committed ones."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from rich.console import Console

from pipeline.ablation.plot import draw_ladder
from pipeline.ablation.report import (
    BEGIN,
    END,
    ReportError,
    fill_page,
    format_markdown,
    format_promises,
    list_findings,
    make_tables,
    read_report,
    write_docs,
    write_report,
)

ROOT = Path(__file__).parents[3]
SCHEMA = ROOT / "pipeline" / "schema" / "ablation.schema.json"


def test_the_report_follows_its_schema(report: dict[str, Any]) -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(report, schema)


def test_what_is_written_is_read_again_and_drawn_the_same(
    report: dict[str, Any], tmp_path: Path
) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    write_report(folders[0], report)
    again = read_report(folders[0] / "ablation.json")
    assert again == report
    write_report(folders[1], again)
    for name in ("ablation.json", "ablation.md", "ablation.svg"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_the_terminal_table_has_a_row_for_each_rung_and_fits_into_80_columns() -> None:
    reference = read_report(ROOT / "docs" / "reports" / "reference" / "ablation.json")
    console = Console(width=80, file=io.StringIO())
    for table in make_tables(reference):
        assert table.row_count == len(reference["rungs"])
        console.print(table)
    assert "…" not in console.file.getvalue()


def test_a_step_that_does_not_pay_is_said_so_in_words(report: dict[str, Any]) -> None:
    findings = list_findings(report)
    assert findings[0] == (
        "prefetch, local: first epoch 0.80x [0.80, 0.80], slower than naive here; later epochs "
        "0.90x [0.90, 0.90], slower than naive here"
    )
    assert len(findings) == 4  # naive is no finding
    assert "slower than naive here" in format_markdown(report)


def test_promises_are_printed_with_what_was_found(report: dict[str, Any]) -> None:
    lines = format_promises(report)
    assert "held: first epoch against naive, local: 6.0x (promised >= 3x)" in lines
    assert "NOT HELD: later epochs against naive, remote: 30.0x (promised >= 40x)" in lines
    assert "held: wait for input in a fit, local: 1.00% (promised < 3% of step time)" in lines


def test_remote_storage_says_what_it_simulates_and_what_it_cost(report: dict[str, Any]) -> None:
    assert (
        "**Simulated remote storage (100 ms an open, 10 ms a read of 256 records; a shard of 500 "
        "rows asks for 0.13 s of delay, reading it took 0.14 s)**"
    ) in format_markdown(report)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected the JSON of an ablation, found .*Make one with `make ablation`."),
        ("[]", "expected the JSON of an ablation, found "),
        ('{"schema_version": 9}', "expected schema_version 1, found 9. Measure again with"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "ablation.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ReportError, match=message):
        read_report(path)


def test_a_missing_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="expected the JSON of an ablation, found FileNotFound"):
        read_report(tmp_path / "ablation.json")


def test_the_page_is_filled_between_its_marks_alone(report: dict[str, Any], tmp_path: Path) -> None:
    page = f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n"
    (tmp_path / "input_pipeline.md").write_text(page, encoding="utf-8")
    write_docs(tmp_path, report)
    filled = (tmp_path / "input_pipeline.md").read_text(encoding="utf-8")
    assert filled.startswith(f"before\n\n{BEGIN}\n")
    assert filled.endswith(f"\n{END}\n\nafter\n")
    assert "| naive |" in filled
    assert "old" not in filled
    assert fill_page(filled, report) == filled
    assert (tmp_path / "reports" / "reference" / "ablation.svg").is_file()


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (None, "expected the page that shows the ladder, found no such file."),
        ("no marks", "expected the marks .* found none."),
        (f"{END}{BEGIN}", "expected the marks .* found none."),
    ],
)
def test_a_page_without_a_place_for_the_ladder_is_refused(
    report: dict[str, Any], tmp_path: Path, page: str | None, message: str
) -> None:
    if page is not None:
        (tmp_path / "input_pipeline.md").write_text(page, encoding="utf-8")
    with pytest.raises(ReportError, match=message):
        write_docs(tmp_path, report)
    assert not (tmp_path / "reports").exists()


def test_the_committed_reference_has_not_drifted() -> None:
    """`make ablation ARGS="--docs docs"` writes all four files."""
    reference = ROOT / "docs" / "reports" / "reference"
    report = read_report(reference / "ablation.json")
    jsonschema.validate(report, json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert (reference / "ablation.md").read_text(encoding="utf-8") == format_markdown(report)
    assert (reference / "ablation.svg").read_text(encoding="utf-8") == draw_ladder(report)
    page = (ROOT / "docs" / "input_pipeline.md").read_text(encoding="utf-8")
    assert fill_page(page, report) == page
