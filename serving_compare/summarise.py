"""From raw results to the figures of report.json. Pure functions; nothing is read or written.

Times are in µs, cold start in ms, sizes in bytes. What is printed has six digits: more would be
noise, and would change with the order of a sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from serving_compare.backends import NULL
from serving_compare.results import Results
from serving_compare.statistics import CellSummary, compare_slices, quantile, summarise_cell
from serving_compare.workload import split_cell

if TYPE_CHECKING:
    from numpy.typing import NDArray

LATENCY_KINDS = ("tokens", "title_text", "title_ids", "zipf", "uniform", "cold")
BULK_KINDS = ("batch", "all_cores")
COLD_STAGES = ("start", "import", "load", "first")

Json = dict[str, Any]
Cells = Mapping[tuple[str, str], CellSummary]
"""(backend, cell) to its summary."""


def summarise_cells(results: Results) -> dict[tuple[str, str], CellSummary]:
    """Reduce the samples of every cell."""
    cells = {}
    for cell in results.cell_names():
        for backend in results.backends_in(cell):
            slices = results.slice_medians_ns(backend, cell)
            cells[backend, cell] = summarise_cell(
                results.call_ns(backend, cell),
                is_single_call=results.is_single_call(backend, cell),
                # Results of version 1 have one slice a round: there the samples are pooled.
                slice_medians_ns=slices if any(len(medians) > 1 for medians in slices) else None,
            )
    return cells


def count_rounds(results: Results) -> int:
    """Return how many rounds were run."""
    return len({process["round"] for process in results.processes})


def summarise_backend(results: Results, cells: Cells, backend: str) -> Json:
    """Return a backend's entry in report.json."""
    by_kind = _by_kind(
        [cell for name, cell in cells if name == backend], (*LATENCY_KINDS, *BULK_KINDS)
    )
    return {
        "latency": {
            kind: {size: _format_cell(cells[backend, cell]) for size, cell in by_kind[kind].items()}
            for kind in LATENCY_KINDS
        },
        "batch": {
            size: _format_bulk_cell(cells[backend, cell], int(size))
            for size, cell in by_kind["batch"].items()
        },
        "all_cores": {
            size: {
                **_format_bulk_cell(cells[backend, cell], int(size)),
                "threads": results.threads_in(backend, cell),
            }
            for size, cell in by_kind["all_cores"].items()
        },
        "cold_start": _summarise_cold_start(results, backend),
        "memory": _summarise_memory(results, backend),
        "size": {f"{part}_bytes": size for part, size in results.sizes[backend].items()},
        "accuracy": results.accuracy.get(backend),
        "agreement": results.agreement.get(backend),
    }


def compare_cells(results: Results) -> Json:
    """Return kind to size to all pairs of backends, the null backend aside."""
    return {
        kind: {
            size: _compare_pairs(
                {
                    backend: results.slice_medians_ns(backend, cell)
                    for backend in results.backends_in(cell)
                },
            )
            for size, cell in sizes.items()
        }
        for kind, sizes in _by_kind(results.cell_names(), (*LATENCY_KINDS, *BULK_KINDS)).items()
    }


def compare_cold_starts(results: Results) -> list[Json]:
    """Return all pairs of backends by their whole cold start."""
    return _compare_pairs(
        {
            backend: [np.array([total]) for total in _cold_totals(results, backend)]
            for backend in results.backends
        }
    )


def summarise_harness(results: Results, cells: Cells) -> Json:
    """Return what the harness itself costs, and where it weighs most against a real backend."""
    shares = []
    for cell in results.cell_names():
        timed = results.backends_in(cell)
        real = [backend for backend in timed if backend != NULL]
        if real and NULL in timed:
            fastest = min(real, key=lambda backend: cells[backend, cell].median_ns)
            share = cells[NULL, cell].median_ns / cells[fastest, cell].median_ns
            shares.append((share, cell, fastest))
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


def _significant(value: float) -> float:
    return float(f"{value:.6g}")


def _scaled(pair: Sequence[float] | None, scale: float = 1.0) -> list[float] | None:
    return None if pair is None else [_significant(value / scale) for value in pair]


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


def _format_bulk_cell(summary: CellSummary, size: int) -> Json:
    rate = size * 1e9
    interval = summary.ci95_ns and [rate / ns for ns in reversed(summary.ci95_ns)]
    return {
        **_format_cell(summary),
        "sequences_per_s": _significant(rate / summary.median_ns),
        "sequences_per_s_ci95": _scaled(interval),
    }


def _by_kind(names: Sequence[str], kinds: Sequence[str]) -> dict[str, dict[str, str]]:
    """Kind to size to cell name, sizes ascending: {"tokens": {"1": "tokens_1", ...}, ...}."""
    found: dict[str, dict[int, str]] = {kind: {} for kind in kinds}
    for name in names:
        kind, size = split_cell(name)
        found[kind][size] = name
    return {
        kind: {str(size): sizes[size] for size in sorted(sizes)} for kind, sizes in found.items()
    }


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
    return {**cold, "total_ms": _summarise_processes(_cold_totals(results, backend), 1e6)}


def _summarise_memory(results: Results, backend: str) -> Json:
    processes = [process["memory"] for process in results.processes_of(backend)]
    return {
        name: _summarise_processes([memory[name] for memory in processes], 1.0)
        for name in sorted(processes[0])
    }


def _cold_totals(results: Results, backend: str) -> list[float]:
    return [
        float(sum(process["stages_ns"][stage] for stage in COLD_STAGES))
        for process in results.processes_of(backend)
    ]


def _compare_pairs(medians: Mapping[str, Sequence[NDArray[np.float64]]]) -> list[Json]:
    pairs = []
    for first, second in combinations([name for name in medians if name != NULL], 2):
        paired = compare_slices(medians[first], medians[second])
        pairs.append(
            {
                "first": first,
                "second": second,
                "ratio": _significant(paired.ratio),
                "ci95": _scaled(paired.ci95),
                "rounds": paired.rounds,
                "winner": None if paired.winner is None else (first, second)[paired.winner],
                "spread": _significant(paired.spread),
                "stable": paired.is_stable,
            }
        )
    return pairs
