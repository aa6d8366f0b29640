"""Time by length, ids in, batch 1, and the floor under it: what one step costs and why.

A step of the recurrence reads all recurrent weights once and computes the gates. Both can be timed
without any model, by reading a buffer of that size in a circle and by computing the gates alone:
no kernel with these weights can be faster than their sum. It is taken in the same process, between
the rows, so that it has the same clock and the same neighbours.

Cells: `warm_<T>`, `cold_<T>`; for the floor, whose "forms" are `read float32`, `read int16`,
`read int8` and `gates`, the one cell `step`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from serving_compare.bench.forms import NATIVE, Form
from serving_compare.bench.interleave import BlockLimits, Measured, measure_cold, measure_warm
from serving_compare.bench.models import draw_rows
from serving_compare.sampling import CellSamples

REQUESTS = 8
"""Different rows that a cell asks in turn; their table rows stay in the caches when warm."""
WEIGHT_BYTES = {"float32": 4, "int16": 2, "int8": 1}
FLOOR_CELL = "step"
GATES = "gates"
FLOOR_SAMPLES = 5
"""Samples of the floor behind each row; a run has a dozen rows."""
FLOOR_SAMPLE_S = 0.002
"""About how long such a sample takes: long beside the clock, short beside a time slice."""


def weight_bytes(units: int, dtype: str) -> int:
    """Return the bytes of recurrent weights (H, 3H) that one step reads."""
    return 3 * units * units * WEIGHT_BYTES[dtype]


def list_floors() -> list[str]:
    """Return the names of everything the floor is made of."""
    return [*(f"read {dtype}" for dtype in WEIGHT_BYTES), GATES]


def measure_lengths(
    forms: Mapping[str, Form],
    job: Mapping[str, Any],
    *,
    random: np.random.Generator,
    timer_cost_ns: int,
) -> Measured:
    """Time every form at every length, warm and cold, and the floor between the rows.

    Args:
        forms: By name, loaded.
        job: `vocab_size`, `units`, `lengths`, `cold_lengths`, `cold_samples`, `limits` (fields of
            `BlockLimits`), `data_seed`.
        random: Draws every order.
        timer_cost_ns: Of this process.
    """
    rows = draw_rows(job["vocab_size"], job["lengths"], count=REQUESTS, seed=job["data_seed"])
    limits = BlockLimits(**job["limits"])
    has_floor = any(name.startswith(NATIVE) for name in forms)
    floors: dict[str, list[CellSamples]] = {}
    for position in random.permutation(len(job["lengths"])):
        length = job["lengths"][int(position)]
        lengths = np.array([length], np.int32)
        requests = [(row[None], lengths) for row in rows[length]]
        works = {name: (form.make_call(length), requests) for name, form in forms.items()}
        for call, _ in works.values():
            call(*requests[0])  # plans and buffers of this length are made at the first call
        warm = measure_warm(works, limits, random=random, timer_cost_ns=timer_cost_ns)
        yield from ((name, f"warm_{length}", samples) for name, samples in warm.items())
        if length in job["cold_lengths"]:
            cold = measure_cold(works, samples=job["cold_samples"], random=random)
            yield from ((name, f"cold_{length}", samples) for name, samples in cold.items())
        if has_floor:
            for name, samples in measure_floor(job["units"]):
                floors.setdefault(name, []).append(samples)
    yield from ((name, FLOOR_CELL, _join(parts)) for name, parts in floors.items())


def measure_floor(units: int) -> Iterator[tuple[str, CellSamples]]:
    """Time reading the recurrent weights once, for each type they may have, and the gates alone.

    Args:
        units: H.
    """
    from export.lookup.native import load_extension

    extension = load_extension()
    isa = extension.list_isas()[0]  # the machine's best, whatever the form uses
    for dtype in WEIGHT_BYTES:
        size = weight_bytes(units, dtype)
        yield f"read {dtype}", _repeat(partial(extension.read_seconds, isa, size))
    yield GATES, _repeat(partial(extension.gates_seconds, isa, units))


def _repeat(seconds: Callable[[int], float]) -> CellSamples:
    """Samples of something that repeats itself: `seconds(n)` is how long n repeats take."""
    repeats = 1
    while (taken_s := seconds(repeats)) < FLOOR_SAMPLE_S:
        repeats = int(repeats * min(100.0, 1.2 * FLOOR_SAMPLE_S / max(taken_s, 1e-9))) + 1
    elapsed_ns = [round(seconds(repeats) * 1e9) for _ in range(FLOOR_SAMPLES)]
    return CellSamples(
        elapsed_ns=np.array(elapsed_ns, np.int64),
        inner_loops=repeats,
        warm_up_calls=repeats,
        is_warm=True,
    )


def _join(parts: Sequence[CellSamples]) -> CellSamples:
    """One set of samples of all parts, whose numbers of repeats may differ: in ns x 1000."""
    per_repeat = [part.elapsed_ns * 1000 // part.inner_loops for part in parts]
    return CellSamples(
        elapsed_ns=np.concatenate(per_repeat),
        inner_loops=1000,
        warm_up_calls=sum(part.warm_up_calls for part in parts),
        is_warm=True,
    )


def ask_all(forms: Mapping[str, Form], job: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """Yield each form's answers to all requests of all lengths, in order: (N, C) float32.

    Args:
        forms: By name, loaded.
        job: `vocab_size`, `lengths`, `data_seed` as in `measure_lengths`.
    """
    rows = draw_rows(job["vocab_size"], job["lengths"], count=REQUESTS, seed=job["data_seed"])
    for name, form in forms.items():
        answers = []
        for length, ids in rows.items():
            call = form.make_call(length)
            lengths = np.array([length], np.int32)
            # Copies: an answer may be a buffer that the next call overwrites.
            answers += [np.array(call(row[None], lengths)) for row in ids]
        yield name, np.concatenate(answers)
