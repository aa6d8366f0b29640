"""From raw results to the content of bench.json: a pure function, the same samples the same bytes.

The unit of chance is the process. A cell tells the median over all samples and its interval; a
ratio is paired by process, because the forms of a row took turns within each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from serving_compare.bench.bulk import PIECES, split_bulk_name
from serving_compare.bench.cold import STAGES
from serving_compare.bench.forms import EXACT_NATIVE, NATIVE, ONNX_FORMS
from serving_compare.bench.run import COLD_PART, INTERFACES, MODEL_PART, TEXT_PART, Parts
from serving_compare.bench.steps import FLOOR_CELL, GATES
from serving_compare.bench.text import TEXT_CELL
from serving_compare.results import Results
from serving_compare.statistics import PairedRatio, compare_rounds, quantile, summarise_cell

BENCH_SCHEMA_VERSION = 1
STEP_LENGTHS = (1, 20)
"""Their difference gives the price of a step: the first one multiplies nothing."""
NULL = "null"

Json = dict[str, Any]


def build_bench(parts: Parts) -> Json:
    """Return the content of bench.json but for its `targets`.

    Times are in µs (steps in ns, cold starts in ms), sizes in bytes. A speedup is the time of the
    rival over the time of ours.

    Args:
        parts: Raw results by part, as `run_bench` gives them.
    """
    first = next(iter(parts.values()))
    cold = {
        interface: _summarise_starts(parts[f"{COLD_PART}{interface}"])
        for interface in INTERFACES
        if f"{COLD_PART}{interface}" in parts
    }
    return {
        "schema_version": BENCH_SCHEMA_VERSION,
        "name": first.name,
        "created_utc": first.created_utc,
        "machine": first.machine,
        "versions": first.versions,
        "protocol": {
            **first.settings,
            "processes": len({process["round"] for process in first.processes}),
        },
        "models": {
            units: _summarise_model(parts[f"{MODEL_PART}{units}"])
            for units in map(str, first.settings["profile"]["units"])
        },
        "text": _summarise_text(parts[TEXT_PART]) if TEXT_PART in parts else None,
        "cold_start": cold or None,
    }


def _significant(value: float) -> float:
    """Six digits: more would be noise."""
    return float(f"{value:.6g}")


def _scaled(pair: Sequence[float] | None, scale: float) -> list[float] | None:
    return None if pair is None else [_significant(value / scale) for value in pair]


def _medians_ns(part: Results, form: str, cell: str) -> dict[int, float]:
    """Process to its median ns per call, for those that timed the form in the cell."""
    return {
        int(process["round"]): quantile(part.samples[process["round"], form, cell], 0.5)
        / process["cells"][cell]["inner_loops"]
        for process in part.processes_of(form)
        if cell in process["cells"]
    }


def _summarise(part: Results, form: str, cell: str) -> Json:
    rounds_ns = [
        part.samples[process["round"], form, cell] / process["cells"][cell]["inner_loops"]
        for process in part.processes_of(form)
        if cell in process["cells"]
    ]
    summary = summarise_cell(rounds_ns, is_single_call=False)
    return {
        "median_us": _significant(summary.median_ns / 1e3),
        "ci95": _scaled(summary.ci95_ns, 1e3),
        "n": summary.samples,
        "processes": summary.rounds,
        "spread": _significant(summary.spread),
        "stable": summary.is_stable,
    }


def _format_ratio(paired: PairedRatio) -> Json:
    return {
        "ratio": _significant(paired.ratio),
        "ci95": _scaled(paired.ci95, 1.0),
        "processes": paired.rounds,
        "claimed": paired.winner is not None,
    }


def _compare(part: Results, cell: str, first: str, second: str) -> Json:
    """Time of `first` over time of `second`, paired by process."""
    one, two = _medians_ns(part, first, cell), _medians_ns(part, second, cell)
    shared = sorted(one.keys() & two.keys())
    return _format_ratio(
        compare_rounds([one[number] for number in shared], [two[number] for number in shared])
    )


def _speedups(part: Results, cell: str, forms: Sequence[str]) -> Json:
    """Ours to rival to how many times faster ours is."""
    ours = [form for form in forms if form.startswith("lookup ")]
    rivals = [form for form in forms if form not in ours and form != NULL]
    return {form: {rival: _compare(part, cell, rival, form) for rival in rivals} for form in ours}


def _fastest(cells: Json, candidates: Sequence[str]) -> str | None:
    """The candidate with the smallest median, None where none was timed."""
    timed = [name for name in candidates if name in cells]
    return min(timed, key=lambda name: float(cells[name]["median_us"]), default=None)


def _summarise_row(part: Results, cell: str) -> Json:
    """All forms in one cell, and how they compare."""
    forms = [
        name
        for name in dict.fromkeys(process["backend"] for process in part.processes)
        if any(cell in process["cells"] for process in part.processes_of(name))
    ]
    return {
        "forms": {form: _summarise(part, form, cell) for form in forms},
        "speedups": _speedups(part, cell, forms),
    }


def _summarise_model(part: Results) -> Json:
    profile = part.settings["profile"]
    model: Json = {
        **part.artifact,
        "agreement": part.agreement,
        "float32": next((form for form in EXACT_NATIVE if form in part.backends), None),
        "warm": {},
        "cold": {},
        "bulk": {},
    }
    for kind, sizes in (("warm", profile["lengths"]), ("cold", profile["cold_lengths"])):
        for size in sizes:
            row = _summarise_row(part, f"{kind}_{size}")
            row["best"] = {"onnx": _fastest(row["forms"], ONNX_FORMS)}
            model[kind][str(size)] = row
    for size in profile["batch_sizes"]:
        row = _summarise_row(part, f"bulk_{size}")
        for cell in row["forms"].values():
            cell["sequences_per_s"] = _significant(size * 1e6 / cell["median_us"])
        row["best"] = {
            form: _fastest(
                row["forms"], [name for name in row["forms"] if split_bulk_name(name)[0] == form]
            )
            for form in PIECES
        }
        model["bulk"][str(size)] = row
    model["steps"] = _summarise_steps(part)
    return model


def _summarise_steps(part: Results) -> Json:
    """Native form to the price of a step and its share that reading and gates explain."""
    low, high = STEP_LENGTHS
    steps: Json = {}
    for form in (name for name in part.backends if name.startswith(NATIVE)):
        dtype = form.split()[-1] if form not in EXACT_NATIVE else "float32"
        short, long = (_medians_ns(part, form, f"warm_{length}") for length in STEP_LENGTHS)
        read, gates = (_medians_ns(part, floor, FLOOR_CELL) for floor in (f"read {dtype}", GATES))
        shared = sorted(short.keys() & long.keys() & read.keys() & gates.keys())
        slopes = [(long[number] - short[number]) / (high - low) for number in shared]
        if not shared or min(slopes) <= 0:
            continue
        floors = [read[number] + gates[number] for number in shared]
        steps[form] = {
            "weights": dtype,
            "step_ns": _significant(quantile(slopes, 0.5)),
            "read_ns": _significant(quantile([read[number] for number in shared], 0.5)),
            "gates_ns": _significant(quantile([gates[number] for number in shared], 0.5)),
            "floor_share": _format_ratio(compare_rounds(floors, slopes)),
        }
    return steps


def _summarise_text(part: Results) -> Json:
    return {
        "artifact": part.artifact,
        "texts": part.workload["texts"],
        "source": part.workload["source"],
        "word_table": part.workload["word_table"],
        **_summarise_row(part, TEXT_CELL),
    }


def _summarise_values(values: Sequence[float], scale: float) -> Json:
    summary = summarise_cell([np.array([value]) for value in values], is_single_call=False)
    return {
        "median": _significant(summary.median_ns / scale),
        "ci95": _scaled(summary.ci95_ns, scale),
        "processes": summary.rounds,
    }


def _summarise_starts(part: Results) -> Json:
    """Form to its stages, its total, and its memory beyond `null`'s in the same round."""
    peaks = {
        process["round"]: process["memory"]["peak_bytes"] for process in part.processes_of(NULL)
    }
    starts: Json = {}
    for form in part.backends:
        processes = part.processes_of(form)
        stages = [process["stages_ns"] for process in processes]
        beyond = [
            float(process["memory"]["peak_bytes"] - peaks[process["round"]])
            for process in processes
        ]
        starts[form] = {
            **{
                f"{stage}_ms": _summarise_values([found[stage] for found in stages], 1e6)
                for stage in STAGES
            },
            "total_ms": _summarise_values([sum(found.values()) for found in stages], 1e6),
            "peak_bytes": _summarise_values(
                [process["memory"]["peak_bytes"] for process in processes], 1.0
            ),
            "beyond_null_bytes": _summarise_values(beyond, 1.0),
        }
    return starts
