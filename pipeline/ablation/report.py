"""The report: one `ablation.json`, and three views of it: terminal, Markdown, SVG.

Every view is a pure function of the JSON, so a committed report can be drawn again and checked
for drift. `write_report` and `read_report` are inverses.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.table import Table

from pipeline.ablation.plot import draw_ladder
from pipeline.run_folder import write_json

SCHEMA_VERSION = 1
JSON_FILE = "ablation.json"
MARKDOWN_FILE = "ablation.md"
PLOT_FILE = "ablation.svg"

HEADER = (
    "rung",
    "first epoch, ex/s",
    "against naive",
    "later epochs, ex/s",
    "against naive",
    "first batch, s",
    "memory, MB",
    "padded tokens/ex",
    "waiting",
    "step against preloaded",
)


class ReportError(ValueError):
    """An ablation.json that cannot be read."""


def read_report(path: Path) -> dict[str, Any]:
    """Read an `ablation.json`.

    Raises:
        ReportError: It is missing, no JSON, or of another schema.
    """
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = report["schema_version"]
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise ReportError(
            f"{path}: expected the JSON of an ablation, found {err!r}. Make one with "
            "`make ablation`."
        ) from err
    if version != SCHEMA_VERSION:
        raise ReportError(
            f"{path}: expected schema_version {SCHEMA_VERSION}, found {version!r}. Measure again "
            "with `make ablation`."
        )
    return report


def write_report(folder: Path, report: dict[str, Any]) -> None:
    """Write the JSON and its two views into `folder`, which exists."""
    write_json(folder / JSON_FILE, report)
    (folder / MARKDOWN_FILE).write_text(format_markdown(report), encoding="utf-8")
    (folder / PLOT_FILE).write_text(draw_ladder(report), encoding="utf-8")


def _describe_storage(report: dict[str, Any], storage: str) -> str:
    latency = report["latencies"][storage]
    if latency is None:
        return "local disk"
    calibration = report["calibration"][storage]
    return (
        f"simulated remote storage ({latency['open_ms']:g} ms an open, {latency['read_ms']:g} ms a "
        f"read of {latency['records_per_read']} records; a shard of {calibration['rows']:,} rows "
        f"asks for {calibration['delay_s']:.2f} s of delay, reading it took "
        f"{calibration['found_s']:.2f} s)"
    )


def _format_ratio(ratio: dict[str, Any]) -> str:
    text = f"{ratio['median']:.2f}x"
    if ratio["rounds"] > 1:
        text += f" [{ratio['low']:.2f}, {ratio['high']:.2f}]"
    return text


def _rows(report: dict[str, Any], storage: str) -> Iterator[tuple[str, ...]]:
    """Yield the cells of one storage's table."""
    entries = {entry["rung"]: entry for entry in report["summary"] if entry["storage"] == storage}
    for rung in report["rungs"]:
        entry = entries[rung["name"]]
        waiting = entry["waiting"]
        yield (
            rung["name"],
            f"{entry['first_per_s']:,.0f}",
            _format_ratio(entry["first_ratio"]),
            f"{entry['later_per_s']:,.0f}",
            _format_ratio(entry["later_ratio"]),
            f"{entry['first_batch_s']:.2f}",
            f"{entry['memory_bytes'] / 1e6:.0f}",
            f"{entry['padded_tokens']:.1f}",
            "n/a" if waiting is None else f"{waiting['wait_share']:.1%}",
            "n/a"
            if waiting is None
            else f"{waiting['step_ms'] / waiting['preloaded_step_ms']:.2f}x",
        )


def list_findings(report: dict[str, Any]) -> list[str]:
    """Say of each rung and storage, in words, what it is against the naive one.

    The words follow from the figures by `summary.Ratio.verdict`; steps that do not pay on this
    machine are in the list like all others.
    """
    entries = {(entry["rung"], entry["storage"]): entry for entry in report["summary"]}
    findings = []
    for rung in report["rungs"][1:]:
        for storage in report["latencies"]:
            entry = entries[rung["name"], storage]
            findings.append(
                f"{rung['name']}, {storage}: first epoch "
                f"{_format_ratio(entry['first_ratio'])}, {entry['first_ratio']['verdict']}; "
                f"later epochs {_format_ratio(entry['later_ratio'])}, "
                f"{entry['later_ratio']['verdict']}"
            )
    return findings


def format_promises(report: dict[str, Any]) -> list[str]:
    """Return one line a promise of the default pipeline: held, or not."""
    return [
        f"{'held' if promise['is_held'] else 'NOT HELD'}: {promise['what']}, "
        f"{promise['storage']}: {promise['found']} (promised {promise['target']})"
        for promise in report["promises"]
    ]


def make_tables(report: dict[str, Any]) -> list[Table]:
    """Return one table a storage for the terminal."""
    tables = []
    for storage in report["latencies"]:
        table = Table(title=_describe_storage(report, storage), title_justify="left")
        for index, column in enumerate(HEADER):
            table.add_column(column, justify="right" if index else "left", no_wrap=not index)
        for cells in _rows(report, storage):
            table.add_row(*cells)
        tables.append(table)
    return tables


def format_markdown(report: dict[str, Any]) -> str:
    """Return the report as Markdown, the plot beside it by its file name."""
    profile, machine = report["profile"], report["machine"]
    lines = [
        f"# tf.data ladder: {report['name']}",
        "",
        f"{report['created_utc']}, profile {profile['name']}, {machine['cpu']}, "
        f"{machine['cores']} cores, TensorFlow {report['versions']['tensorflow']}, "
        f"{report['seconds']:.0f} s.",
        "",
        "Ratios are examples a second over those of `naive` on the same storage, by round: median "
        "[lowest, highest]. The first epoch counts from the call that builds the dataset. Memory "
        "is the highest of the process beyond what TensorFlow takes by itself; `waiting` the share "
        "of a real training step spent waiting for its batch; the last column the step's duration "
        "over that on the same batches preloaded. Every epoch was checked to deliver each row "
        "exactly once.",
        "",
        f"![Examples a second against the naive pipeline]({PLOT_FILE})",
        "",
    ]
    for storage in report["latencies"]:
        lines += [
            f"## {_describe_storage(report, storage)[0].upper()}"
            f"{_describe_storage(report, storage)[1:]}",
            "",
            "| " + " | ".join(HEADER) + " |",
            "|" + "|".join(["---"] + ["--:"] * (len(HEADER) - 1)) + "|",
            *("| " + " | ".join(cells) + " |" for cells in _rows(report, storage)),
            "",
        ]
    few = {entry["rows"] for entry in report["summary"]}
    lines += [
        f"Rows: {min(few):,} for the rungs that handle single rows, {max(few):,} for those on "
        f"batches, of {report['train_rows']:,} in the training split.",
        "",
        "## The rungs",
        "",
        *(f"* `{rung['name']}` ({rung['base']}): {rung['title']}" for rung in report["rungs"]),
        "",
        "## In words",
        "",
        *(f"* {finding}" for finding in list_findings(report)),
        "",
        "## Promises",
        "",
        *(f"* {line}" for line in format_promises(report)),
    ]
    return "\n".join(lines) + "\n"
