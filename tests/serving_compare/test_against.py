from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving_compare.against import (
    AgainstError,
    RegressionError,
    check_alike,
    check_nothing_worse,
    compare_reports,
    format_against_markdown,
    format_summary,
    make_against_tables,
    read_report,
)
from serving_compare.report import build_report
from serving_compare.results import Results

MakeResults = Callable[..., Results]
SLOWED = {
    "saved_model": [1_000_000 + 1000 * r for r in range(6)],
    "onnx": [40_000 + 100 * r for r in range(6)],
    "lookup": [75_000 + 150 * r for r in range(6)],
}


def test_the_same_report_has_nothing_worse_and_says_so(make_results: MakeResults):
    report = build_report(make_results())
    comparison = compare_reports(report, report)
    check_nothing_worse(comparison)
    assert [table.title for table in make_against_tables(comparison)] == [
        "Every figure that both reports have"
    ]
    (line,) = format_summary(comparison)
    assert line == (
        "0 of 30 figures got worse than in made-up, 0 got better. A time counts where the whole "
        "95 % interval of its change, in proportion to the other backends, lies beyond 10%; "
        "accuracy where it fell by more than 0.1 points."
    )


def test_what_got_worse_is_a_failed_check_with_a_table(make_results: MakeResults):
    old = build_report(make_results(name="old"))
    new = build_report(make_results(SLOWED, name="new"))
    comparison = compare_reports(old, new)
    assert {change.backend for change in comparison.worse} == {"lookup"}
    with pytest.raises(
        RegressionError,
        match=r"lookup, 1 token: expected no worse than in old, 50.25 µs, found 75.35 µs; 6 "
        r"figures in all. Read against.md in the report's folder, and compare again before you "
        r"believe a single one.",
    ):
        check_nothing_worse(comparison)
    worse = make_against_tables(comparison)[0]
    assert worse.title == "Worse than in old"
    assert list(worse.rows[0][:5]) == ["1 token", "lookup", "50.25 µs", "75.35 µs",
                                       "1.50 [1.49, 1.51]"]  # fmt: skip
    text = format_against_markdown(comparison)
    assert text.startswith("# Against old\n\n- 6 of 30 figures got worse than in old")
    assert "## Worse than in old\n\n| Figure | Backend |" in text


def test_what_got_better_is_told_too(make_results: MakeResults):
    comparison = compare_reports(build_report(make_results(SLOWED)), build_report(make_results()))
    check_nothing_worse(comparison)
    assert {change.backend for change in comparison.better} == {"lookup"}
    assert make_against_tables(comparison)[0].title == "Better than in made-up"


def test_what_differs_besides_is_noted(make_results: MakeResults, http_section: dict[str, Any]):
    old = build_report(make_results(versions={"python": "3.11.7", "numpy": "2.4.6"}))
    few = {"onnx": [60_000] * 3, "lookup": [75_000] * 3}
    now = make_results(few, name="now", versions={"python": "3.11.7", "numpy": "2.5"})
    new = build_report(now) | {"http": http_section}
    new["artifact"] = {**new["artifact"], "version": 2, "manifest_sha256": "f" * 64}
    assert format_summary(compare_reports(old, new))[1:] == [
        "All in-process times taken together changed by the factor 1.49: the machine, or what all "
        "backends share. That is left out of the judgement.",
        "No in-process time is judged: that takes 6 rounds in both reports, now has 3.",
        "Not in both reports: saved_model.",
        "Only one of the reports went over HTTP.",
        "Other versions: numpy 2.4.6 to 2.5.",
        "Another version of the artifact: 1 then, 2 now.",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"machine": {"cpu": "Other CPU"}},
            r"--against old: expected the same machine.cpu, 'Made-up CPU', found 'Other CPU'. "
            r"Unlike machines, artifacts or requests say nothing about a change; read the reports "
            r"side by side instead.",
        ),
        ({"artifact": {"name": "other"}}, r"the same artifact.name, 'tiny', found 'other'"),
        (
            {"artifact": {"max_tokens": 9}},
            r"expected the same artifact.max_tokens, 32, found 9",
        ),
        ({"artifact": {"model": {"units": 8}}}, r"the same artifact.model.units, 4, found 8"),
        ({"workload": {"sha256": "2" * 64}}, r"expected the same workload.sha256, '1111"),
    ],
)  # fmt: skip
def test_unlike_machines_artifacts_and_requests_are_refused(
    make_results: MakeResults, change: dict[str, Any], message: str
):
    old, new = (build_report(make_results(name=name)) for name in ("old", "new"))
    for part, facts in change.items():
        model = {**new[part].get("model", {}), **facts.pop("model", {})}
        new[part] = {**new[part], **facts} | ({"model": model} if model else {})
    with pytest.raises(AgainstError, match=message):
        compare_reports(old, new)


def test_how_a_model_was_trained_and_the_load_average_may_differ(make_results: MakeResults):
    report = build_report(make_results())
    model = {**report["artifact"]["model"], "head_dropout": 0.5}
    check_alike(
        report,
        machine={**report["machine"], "load_average": [9.0, 9.0, 9.0]},
        artifact={**report["artifact"], "model": model},
    )


def test_a_report_is_read_from_its_folder_or_its_file(tmp_path: Path, make_results: MakeResults):
    report = build_report(make_results())
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert read_report(tmp_path) == read_report(tmp_path / "report.json") == report


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"report.json: expected a report.json or a report's folder, found No such file"),
        ("{", r"report.json: expected JSON, found Expecting property name"),
        ("[]", r"expected a report of schema_version 1 or 2, found None"),
        ('{"schema_version": 3}', r"schema_version 1 or 2, found 3. Use the gatetable that wrote"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, content: str | None, message: str):
    if content is not None:
        (tmp_path / "report.json").write_text(content)
    with pytest.raises(AgainstError, match=message):
        read_report(tmp_path)


def test_a_file_too_large_is_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("serving_compare.against.MAX_REPORT_BYTES", 10)
    (tmp_path / "report.json").write_text(" " * 11)
    with pytest.raises(AgainstError, match=r"expected at most 10 bytes, found 11."):
        read_report(tmp_path)
