"""A report held against an earlier one: may they be compared, what got worse, and tables of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving_compare.changes import (
    LEAST_ACCURACY_LOSS,
    LEAST_EFFECT,
    Change,
    Estimate,
    find_drift,
    list_amount_changes,
    list_common_backends,
    list_http_changes,
    list_time_changes,
)
from serving_compare.machine import likeness
from serving_compare.statistics import MIN_ROUNDS_TO_CLAIM
from serving_compare.text_table import (
    NOT_AVAILABLE,
    Table,
    format_markdown_list,
    format_markdown_table,
)

AGAINST_FILE = "against.md"
READABLE_VERSIONS = (1, 2)
MAX_REPORT_BYTES = 2**26
"""Bound on a report.json before it is parsed."""

Json = Mapping[str, Any]


class AgainstError(Exception):
    """A report that cannot be read, or must not be compared with another."""


class RegressionError(Exception):
    """Something got worse than in the earlier report: a check failed."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What became of the figures of an earlier report.

    Attributes:
        old_name: Of the earlier report.
        changes: Every figure that both have.
        drift: How many times as long the middle one of all in-process times takes now.
        notes: What a reader of the table should know.
    """

    old_name: str
    changes: tuple[Change, ...]
    drift: float
    notes: tuple[str, ...]

    @property
    def worse(self) -> list[Change]:
        """Return what got worse, the worst first."""
        found = [change for change in self.changes if change.verdict == "worse"]
        return sorted(found, key=lambda change: -(change.beside or change.own).ratio)

    @property
    def better(self) -> list[Change]:
        """Return what got better, the best first."""
        found = [change for change in self.changes if change.verdict == "better"]
        return sorted(found, key=lambda change: (change.beside or change.own).ratio)


def read_report(path: Path) -> dict[str, Any]:
    """Read a report.json.

    Args:
        path: The file, or the report's folder.

    Raises:
        AgainstError: It is missing, too large, no report, or of a newer schema.
    """
    file = path / "report.json" if path.is_dir() else path
    try:
        size = file.stat().st_size
        if size > MAX_REPORT_BYTES:
            raise AgainstError(f"{file}: expected at most {MAX_REPORT_BYTES} bytes, found {size}.")
        report = json.loads(file.read_text(encoding="utf-8"))
    except OSError as err:
        raise AgainstError(
            f"{file}: expected a report.json or a report's folder, found {err.strerror}. Name one "
            "that `make compare` wrote."
        ) from err
    except ValueError as err:
        raise AgainstError(f"{file}: expected JSON, found {err}.") from err
    version = report.get("schema_version") if isinstance(report, dict) else None
    if version not in READABLE_VERSIONS:
        wanted = " or ".join(map(str, READABLE_VERSIONS))
        raise AgainstError(
            f"{file}: expected a report of schema_version {wanted}, found {version!r}. Use the "
            "gatetable that wrote it."
        )
    checked: dict[str, Any] = report
    return checked


def check_alike(
    old: Json, *, machine: Json, artifact: Json, workload_sha256: str | None = None
) -> None:
    """Refuse a report whose figures say nothing about these.

    Another version of the artifact may be compared, and other libraries: that is what one wants to
    know. Its name and shape must be the same, and so must be the machine and the requests.

    Args:
        old: Content of the earlier report.json.
        machine: Facts of the machine now.
        artifact: As in a report.json.
        workload_sha256: Hash of the requests now; None before they are made.

    Raises:
        AgainstError: See above.
    """
    compared: list[tuple[str, Any, Any]] = [
        *_list_facts("machine", likeness(old["machine"]), likeness(machine)),
        ("artifact.name", old["artifact"]["name"], artifact["name"]),
        ("artifact.max_tokens", old["artifact"]["max_tokens"], artifact["max_tokens"]),
        *_list_facts("artifact.model", old["artifact"]["model"], artifact["model"]),
    ]
    if workload_sha256 is not None:
        compared.append(("workload.sha256", old["workload"]["sha256"], workload_sha256))
    for subject, expected, found in compared:
        if expected != found:
            raise AgainstError(
                f"--against {old['name']}: expected the same {subject}, {expected!r}, found "
                f"{found!r}. Unlike machines, artifacts or requests say nothing about a change; "
                "read the reports side by side instead."
            )


def compare_reports(old: Json, new: Json) -> Comparison:
    """Hold a report against an earlier one of the same machine, artifact and requests.

    Args:
        old: Content of the earlier report.json.
        new: Of the later one.

    Raises:
        AgainstError: They must not be compared.
    """
    check_alike(
        old,
        machine=new["machine"],
        artifact=new["artifact"],
        workload_sha256=new["workload"]["sha256"],
    )
    times = list_time_changes(old, new)
    drift = find_drift(times)
    return Comparison(
        old_name=old["name"],
        changes=(*times, *list_http_changes(old, new, drift), *list_amount_changes(old, new)),
        drift=drift,
        notes=tuple(_list_notes(old, new)),
    )


def check_nothing_worse(comparison: Comparison) -> None:
    """Refuse a report in which something got worse.

    Raises:
        RegressionError: See above.
    """
    worse = comparison.worse
    if worse:
        first, plural = worse[0], "s" if len(worse) > 1 else ""
        expected, found = (_format_figure(value, first.unit) for value in (first.old, first.new))
        raise RegressionError(
            f"{first.backend}, {first.what}: expected no worse than in {comparison.old_name}, "
            f"{expected}, found {found}; {len(worse)} figure{plural} in all. Read {AGAINST_FILE} "
            "in the report's folder, and compare again before you believe a single one."
        )


def format_summary(comparison: Comparison) -> list[str]:
    """Return what was found, in sentences."""
    worse, better = len(comparison.worse), len(comparison.better)
    lines = [
        f"{worse} of {len(comparison.changes)} figures got worse than in {comparison.old_name}, "
        f"{better} got better. A time counts where the whole 95 % interval of its change, in "
        f"proportion to the other backends, lies beyond {LEAST_EFFECT - 1:.0%}; accuracy where it "
        f"fell by more than {100 * LEAST_ACCURACY_LOSS:g} points."
    ]
    if abs(math.log(comparison.drift)) > math.log(LEAST_EFFECT):
        lines.append(
            f"All in-process times taken together changed by the factor {comparison.drift:.2f}: "
            "the machine, or what all backends share. That is left out of the judgement."
        )
    return [*lines, *comparison.notes]


def make_against_tables(comparison: Comparison) -> list[Table]:
    """Return a table of what got worse, one of what got better, and one of everything."""
    columns = ["Figure", "Backend", "Before", "Now", "Times", "Beside the others"]
    tables = [
        Table(
            title=title,
            columns=columns,
            rows=[_format_change(change) for change in changes],
            note=note,
            is_detail=not note,
        )
        for title, changes, note in (
            (f"Worse than in {comparison.old_name}", comparison.worse, _NOTE),
            (f"Better than in {comparison.old_name}", comparison.better, _NOTE),
            ("Every figure that both reports have", comparison.changes, ""),
        )
    ]
    return [table for table in tables if table.rows]


def format_against_markdown(comparison: Comparison) -> str:
    """Return the whole against.md."""
    parts = [f"# Against {comparison.old_name}\n", format_markdown_list(format_summary(comparison))]
    for table in make_against_tables(comparison):
        parts += [f"## {table.title}\n", format_markdown_table(table)]
        if table.note:
            parts.append(f"{table.note}\n")
    return "\n".join(parts)


_NOTE = (
    "Times: now over before, for rates before over now; above 1 is worse. Beside the others: the "
    "same for the ratio to the middle one of the other backends, over HTTP to the machine's "
    "in-process times."
)


def _format_change(change: Change) -> list[str]:
    return [
        change.what,
        change.backend,
        _format_figure(change.old, change.unit),
        _format_figure(change.new, change.unit),
        _format_estimate(change.own),
        NOT_AVAILABLE if change.beside is None else _format_estimate(change.beside),
    ]


def _format_figure(value: float, unit: str) -> str:
    digits = ".2f" if unit == "%" else ",.0f" if value >= 1000 else ".4g"
    return f"{value:{digits}} {unit}"


def _format_estimate(estimate: Estimate) -> str:
    if estimate.ci95 is None or estimate.ci95[0] == estimate.ci95[1]:
        return f"{estimate.ratio:.2f}"
    return f"{estimate.ratio:.2f} [{estimate.ci95[0]:.2f}, {estimate.ci95[1]:.2f}]"


def _list_notes(old: Json, new: Json) -> list[str]:
    notes = []
    rounds = {report["name"]: report["protocol"]["rounds"] for report in (old, new)}
    few = {name: count for name, count in rounds.items() if count < MIN_ROUNDS_TO_CLAIM}
    for name, count in few.items():
        notes.append(
            f"No in-process time is judged: that takes {MIN_ROUNDS_TO_CLAIM} rounds in both "
            f"reports, {name} has {count}."
        )
    common = list_common_backends(old, new)
    alone = [name for name in {**old["backends"], **new["backends"]} if name not in common]
    alone = [name for name in alone if name not in old["backends"] or name not in new["backends"]]
    if alone:
        notes.append(f"Not in both reports: {', '.join(alone)}.")
    if (old.get("http") is None) != (new.get("http") is None):
        notes.append("Only one of the reports went over HTTP.")
    versions = {**old["versions"], **new["versions"]}
    changed = [
        f"{name} {old['versions'].get(name, 'absent')} to {new['versions'].get(name, 'absent')}"
        for name in versions
        if old["versions"].get(name) != new["versions"].get(name)
    ]
    if changed:
        notes.append(f"Other versions: {', '.join(changed)}.")
    if old["artifact"]["version"] != new["artifact"]["version"]:
        notes.append(
            f"Another version of the artifact: {old['artifact']['version']} then, "
            f"{new['artifact']['version']} now."
        )
    return notes


def _list_facts(subject: str, old: Json, new: Json) -> list[tuple[str, Any, Any]]:
    """Every fact by its name; how a model was trained does not change what it costs to run."""
    return [
        (f"{subject}.{name}", old.get(name), new.get(name))
        for name in {**old, **new}
        if not name.endswith("dropout")
    ]
