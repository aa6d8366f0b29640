"""From raw results to report.json, and publishing a report folder whole.

    build/reports/<name>/report.json   the contract: schema/report.schema.json
    build/reports/<name>/report.md     the same for people
    build/reports/<name>/raw/          what both are rebuilt from

`build_report` is a pure function of the raw results: the same samples give the same bytes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from serving_compare.backends import NULL
from serving_compare.markdown_report import format_report_markdown
from serving_compare.results import Results, write_results
from serving_compare.statistics import CellSummary, compare_rounds, quantile, summarise_cell
from serving_compare.tables import format_speedup
from serving_compare.text_table import Table, format_markdown_table
from serving_compare.workload import split_cell

REPORT_SCHEMA_VERSION = 1
REPORT_FILE = "report.json"
MARKDOWN_FILE = "report.md"
RAW_FOLDER = "raw"
LATEST_FILE = "latest"
LATENCY_KINDS = ("tokens", "title_text", "title_ids")
COLD_STAGES = ("start", "import", "load", "first")
NOT_MEASURED = (
    "serving over HTTP",
    "more than one thread or core",
    "GPUs",
    "a cold page cache",
    "the checks lookup makes when it loads (hashes and probes)",
    "size of the installed libraries",
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,149}")

Json = dict[str, Any]


class ReportError(Exception):
    """A report that cannot be written where it was asked for."""


def build_report(results: Results) -> Json:
    """Return the content of report.json.

    Times are in µs, cold start in ms, sizes in bytes, accuracies as fractions. A ratio is the time
    of `first` over the time of `second`; `winner` is named only where the data support it.
    """
    cells = {
        (backend, cell): summarise_cell(
            results.call_ns(backend, cell), is_single_call=results.is_single_call(backend, cell)
        )
        for backend in results.backends
        for cell in results.cell_names()
    }
    return {
        "schema_version": REPORT_SCHEMA_VERSION,
        "name": results.name,
        "created_utc": results.created_utc,
        "artifact": results.artifact,
        "machine": results.machine,
        "versions": results.versions,
        "protocol": {**results.settings, "rounds": _count_rounds(results)},
        "workload": results.workload,
        "backends": {
            backend: {
                **_cells_of_backend(cells, backend),
                "cold_start": _summarise_cold_start(results, backend),
                "memory": _summarise_memory(results, backend),
                "size": {f"{part}_bytes": size for part, size in results.sizes[backend].items()},
                "accuracy": results.accuracy.get(backend),
                "agreement": results.agreement.get(backend),
            }
            for backend in results.backends
        },
        "ratios": _compare_cells(results),
        "cold_start_ratios": _compare_pairs(results, _cold_totals(results)),
        "harness": _summarise_harness(results, cells),
        "not_measured": list(NOT_MEASURED),
    }


def format_readme_table(report: Mapping[str, Any]) -> str:
    """Return the result table of the README: median µs a call by token length, and ratios.

    Args:
        report: Content of a report.json.

    Returns:
        A Markdown table that ends in a newline. A ratio is followed by its 95 % interval; where
        the data support no claim, it says so instead.
    """
    backends = [name for name in report["backends"] if name != NULL]
    rivals = [name for name in backends if name != "lookup"] if "lookup" in backends else []
    rows = []
    for size, pairs in report["ratios"]["tokens"].items():
        row = [size]
        for name in backends:
            cell = report["backends"][name]["latency"]["tokens"][size]
            row.append(f"{cell['median_us']:.1f}" + ("" if cell["stable"] else " ~"))
        row += [format_speedup(pairs, rival) for rival in rivals]
        rows.append(row)
    return format_markdown_table(
        Table(
            title="",
            columns=[
                "Tokens",
                *(f"{name} µs" for name in backends),
                *(f"lookup against {rival}" for rival in rivals),
            ],
            rows=rows,
        )
    )


def publish_report(reports: Path, results: Results) -> Path:
    """Write raw results, report.json and report.md in one rename, then point `latest` at it.

    Returns:
        The report's folder, `reports / results.name`.

    Raises:
        ReportError: The folder exists.
    """
    target = reports / results.name
    check_report_name(reports, results.name)
    partial = reports / f".{results.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        write_results(partial / RAW_FOLDER, results)
        write_report(partial, build_report(results))
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    _write_text(reports / LATEST_FILE, results.name + "\n")
    return target


def write_report(folder: Path, report: Json) -> None:
    """Write report.json and report.md into an existing folder, each in one rename."""
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
    _write_text(folder / REPORT_FILE, text + "\n")
    _write_text(folder / MARKDOWN_FILE, format_report_markdown(report))


def find_report(reports: Path) -> Path:
    """Return the folder of the newest report.

    Raises:
        ReportError: There is none yet.
    """
    try:
        return reports / (reports / LATEST_FILE).read_text(encoding="utf-8").strip()
    except OSError as err:
        raise ReportError(
            f"{reports}: expected a report, found none yet. Make one with `make compare`."
        ) from err


def check_report_name(reports: Path, name: str) -> None:
    """Refuse a name that is unsafe or taken.

    Raises:
        ReportError: See above.
    """
    if not _NAME.fullmatch(name):
        raise ReportError(
            "--output: expected 1 to 150 letters, digits, '.', '_' or '-', starting with a letter "
            f"or digit, found {name!r}."
        )
    if (reports / name).exists():
        raise ReportError(f"{reports / name}: the report exists. Choose another --output name.")


def _write_text(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _significant(value: float) -> float:
    """Six digits: more would be noise, and would change with the order of a sum."""
    return float(f"{value:.6g}")


def _scaled(pair: Sequence[float] | None, scale: float = 1.0) -> list[float] | None:
    return None if pair is None else [_significant(value / scale) for value in pair]


def _count_rounds(results: Results) -> int:
    return len({process["round"] for process in results.processes})


def _format_cell(summary: CellSummary) -> Json:
    return {
        "median_us": _significant(summary.median_ns / 1e3),
        "ci95": _scaled(summary.ci95_ns, 1e3),
        "p99_us": None if summary.p99_ns is None else _significant(summary.p99_ns / 1e3),
        "p99_ci95": _scaled(summary.p99_ci95_ns, 1e3),
        "p99_reason": summary.p99_reason,
        "n": summary.samples,
        "rounds": summary.rounds,
        "spread": _significant(summary.spread),
        "stable": summary.is_stable,
    }


def _by_kind(names: Sequence[str], kinds: Sequence[str]) -> dict[str, dict[str, str]]:
    """Kind to size to cell name, sizes ascending: {"tokens": {"1": "tokens_1", ...}, ...}."""
    found: dict[str, dict[int, str]] = {kind: {} for kind in kinds}
    for name in names:
        kind, size = split_cell(name)
        if kind in found:
            found[kind][size] = name
    return {
        kind: {str(size): sizes[size] for size in sorted(sizes)} for kind, sizes in found.items()
    }


def _cells_of_backend(cells: Mapping[tuple[str, str], CellSummary], backend: str) -> Json:
    names = [cell for name, cell in cells if name == backend]
    latency = {
        kind: {size: _format_cell(cells[backend, cell]) for size, cell in sizes.items()}
        for kind, sizes in _by_kind(names, LATENCY_KINDS).items()
    }
    batch = {}
    for size, cell in _by_kind(names, ("batch",))["batch"].items():
        summary = cells[backend, cell]
        rate = int(size) * 1e9
        interval = summary.ci95_ns and [rate / ns for ns in reversed(summary.ci95_ns)]
        batch[size] = {
            **_format_cell(summary),
            "sequences_per_s": _significant(rate / summary.median_ns),
            "sequences_per_s_ci95": _scaled(interval),
        }
    return {"latency": latency, "batch": batch}


def _summarise_processes(values: Sequence[float], scale: float) -> Json:
    summary = summarise_cell([np.array([value]) for value in values], is_single_call=True)
    return {
        "median": _significant(summary.median_ns / scale),
        "ci95": _scaled(summary.ci95_ns, scale),
        "n": summary.samples,
    }


def _summarise_cold_start(results: Results, backend: str) -> Json:
    stages = [process["stages_ns"] for process in results.processes_of(backend)]
    cold = {
        f"{stage}_ms": _summarise_processes([process[stage] for process in stages], 1e6)
        for stage in COLD_STAGES
    }
    totals = [sum(process[stage] for stage in COLD_STAGES) for process in stages]
    return {**cold, "total_ms": _summarise_processes(totals, 1e6)}


def _summarise_memory(results: Results, backend: str) -> Json:
    processes = [process["memory"] for process in results.processes_of(backend)]
    return {
        name: _summarise_processes([memory[name] for memory in processes], 1.0)
        for name in sorted(processes[0])
    }


def _cold_totals(results: Results) -> dict[str, list[float]]:
    return {
        backend: [
            float(sum(process["stages_ns"][stage] for stage in COLD_STAGES))
            for process in results.processes_of(backend)
        ]
        for backend in results.backends
    }


def _compare_cells(results: Results) -> Json:
    names = results.cell_names()
    return {
        kind: {
            size: _compare_pairs(
                results,
                {
                    backend: [quantile(values, 0.5) for values in results.call_ns(backend, cell)]
                    for backend in results.backends
                },
            )
            for size, cell in sizes.items()
        }
        for kind, sizes in _by_kind(names, (*LATENCY_KINDS, "batch")).items()
    }


def _compare_pairs(results: Results, medians: Mapping[str, Sequence[float]]) -> list[Json]:
    pairs = []
    for first, second in combinations([name for name in results.backends if name != NULL], 2):
        paired = compare_rounds(medians[first], medians[second])
        pairs.append(
            {
                "first": first,
                "second": second,
                "ratio": _significant(paired.ratio),
                "ci95": _scaled(paired.ci95),
                "rounds": paired.rounds,
                "winner": None if paired.winner is None else (first, second)[paired.winner],
            }
        )
    return pairs


def _summarise_harness(results: Results, cells: Mapping[tuple[str, str], CellSummary]) -> Json:
    """What the harness itself costs, and where that weighs most against a real backend."""
    real = [backend for backend in results.backends if backend != NULL]
    shares = []
    for cell in results.cell_names() if real else []:
        fastest = min(real, key=lambda backend: cells[backend, cell].median_ns)
        shares.append((cells[NULL, cell].median_ns / cells[fastest, cell].median_ns, cell, fastest))
    worst = None
    if shares:
        share, cell, fastest = max(shares, key=lambda entry: entry[0])
        worst = {
            "cell": cell,
            "null_us": _significant(cells[NULL, cell].median_ns / 1e3),
            "fastest": fastest,
            "fastest_us": _significant(cells[fastest, cell].median_ns / 1e3),
            "share": _significant(share),
        }
    return {
        "timer_cost_ns": quantile([process["timer_cost_ns"] for process in results.processes], 0.5),
        "unwarmed_cells": sum(
            not cell["is_warm"]
            for process in results.processes
            for cell in process["cells"].values()
        ),
        "largest_share": worst,
    }
