"""How the calls of one row are timed side by side in one process: warm, and with cold caches.

Warm: blocks of calls, the forms in random order, afresh in every block, so that a slow stretch of
the machine meets all of them. Within a block a form runs alone, because what a neighbour leaves in
the caches is not what it would find in use. A sample is one pass over the requests, or several
where a pass is too short for the clock.

Cold: before every single call a buffer larger than the inner caches is written over, so tables
and weights come from the last cache or from memory; the forms take turns call by call.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving_compare.sampling import (
    COLD_BYTES,
    CellSamples,
    choose_inner_loops,
    resting_collector,
)

Arguments = tuple[Any, ...]
Work = tuple[Callable[..., Any], Sequence[Arguments]]
"""What is called, and with which requests in turn."""
Measured = Iterator[tuple[str, str, CellSamples]]
"""Form, cell, samples."""

WARM_UP_REQUESTS = 10
"""Requests asked untimed where single requests are timed."""


@dataclass(frozen=True, kw_only=True)
class BlockLimits:
    """Stop rules of one form in one block.

    Attributes:
        blocks: How many blocks, at least 1.
        warm_up_s: Time of passes thrown away at the start of a block; at least one pass is.
        min_passes: Take so many samples at least,
        duration_s: and go on for this time.
    """

    blocks: int
    warm_up_s: float
    min_passes: int
    duration_s: float


def measure_warm(
    works: Mapping[str, Work],
    limits: BlockLimits,
    *,
    random: np.random.Generator,
    timer_cost_ns: int,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, CellSamples]:
    """Time whole passes over each form's requests, block by block.

    Args:
        works: Form to its work.
        limits: When to stop.
        random: Draws the order of the forms in each block.
        timer_cost_ns: From `sampling.measure_timer_cost_ns`, of this process.
        clock: Monotonic, ns.

    Returns:
        Form to its samples; `inner_loops` is the number of calls in a sample.
    """
    passes: dict[str, int] = {}
    elapsed_ns: dict[str, list[int]] = {name: [] for name in works}
    warm_up_calls = dict.fromkeys(works, 0)
    with resting_collector():
        for _ in range(limits.blocks):
            for name in _shuffle(list(works), random):
                call, requests = works[name]
                pass_ns, count = _warm_up(call, requests, limits.warm_up_s, clock)
                warm_up_calls[name] += count * len(requests)
                if name not in passes:
                    passes[name] = choose_inner_loops(pass_ns, timer_cost_ns)
                elapsed_ns[name] += _sample(call, requests, limits, passes[name], clock)
    return {
        name: CellSamples(
            elapsed_ns=np.array(elapsed_ns[name], np.int64),
            inner_loops=passes[name] * len(requests),
            warm_up_calls=warm_up_calls[name],
            is_warm=True,
        )
        for name, (_, requests) in works.items()
    }


def measure_cold(
    works: Mapping[str, Work],
    *,
    samples: int,
    random: np.random.Generator,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, CellSamples]:
    """Time single calls, each behind a walk over `COLD_BYTES`.

    Args:
        works: Form to its work.
        samples: How many calls of each form; its requests are asked in turn.
        random: Draws the order of the forms for each sample.
        clock: Monotonic, ns.
    """
    elapsed_ns: dict[str, list[int]] = {name: [] for name in works}
    buffer = np.zeros(COLD_BYTES // 8, np.int64)
    with resting_collector():
        for number in range(samples):
            for name in _shuffle(list(works), random):
                call, requests = works[name]
                arguments = requests[number % len(requests)]
                buffer += 1
                before = clock()
                call(*arguments)
                elapsed_ns[name].append(clock() - before)
    return {
        name: CellSamples(
            elapsed_ns=np.array(values, np.int64), inner_loops=1, warm_up_calls=0, is_warm=False
        )
        for name, values in elapsed_ns.items()
    }


def measure_single(
    works: Mapping[str, Work],
    *,
    random: np.random.Generator,
    chunk: int = 50,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, CellSamples]:
    """Time every request of each form once, by itself; the forms take turns chunk by chunk.

    Args:
        works: Form to its work.
        random: Draws the order of the forms in each chunk.
        chunk: Requests between two changes of form. Before them, the last requests of the chunk
            before are asked untimed: what the other forms left in the caches is theirs.
        clock: Monotonic, ns.
    """
    elapsed_ns: dict[str, list[int]] = {name: [] for name in works}
    warm_up_calls = dict.fromkeys(works, 0)
    longest = max(len(requests) for _, requests in works.values())
    with resting_collector():
        for start in range(0, longest, chunk):
            for name in _shuffle(list(works), random):
                call, requests = works[name]
                previous = requests[max(0, start - WARM_UP_REQUESTS) : start]
                warm_up = previous or requests[-WARM_UP_REQUESTS:]
                for arguments in warm_up:
                    call(*arguments)
                warm_up_calls[name] += len(warm_up)
                for arguments in requests[start : start + chunk]:
                    before = clock()
                    call(*arguments)
                    elapsed_ns[name].append(clock() - before)
    return {
        name: CellSamples(
            elapsed_ns=np.array(values, np.int64),
            inner_loops=1,
            warm_up_calls=warm_up_calls[name],
            is_warm=True,
        )
        for name, values in elapsed_ns.items()
    }


def _shuffle(names: Sequence[str], random: np.random.Generator) -> list[str]:
    return [names[int(i)] for i in random.permutation(len(names))]


def _warm_up(
    call: Callable[..., Any],
    requests: Sequence[Arguments],
    limit_s: float,
    clock: Callable[[], int],
) -> tuple[float, int]:
    """Median ns of a pass, and the number of passes."""
    times_ns = []
    deadline_ns = clock() + int(limit_s * 1e9)
    while True:
        before = clock()
        for arguments in requests:
            call(*arguments)
        now_ns = clock()
        times_ns.append(now_ns - before)
        if now_ns >= deadline_ns:
            return statistics.median(times_ns), len(times_ns)


def _sample(
    call: Callable[..., Any],
    requests: Sequence[Arguments],
    limits: BlockLimits,
    passes: int,
    clock: Callable[[], int],
) -> list[int]:
    elapsed_ns: list[int] = []
    deadline_ns = clock() + int(limits.duration_s * 1e9)
    # A longer list instead of a loop around the loop: less of ours between two short calls.
    repeated = list(requests) * passes
    while True:
        before = clock()
        for arguments in repeated:
            call(*arguments)
        now_ns = clock()
        elapsed_ns.append(now_ns - before)
        if now_ns >= deadline_ns and len(elapsed_ns) >= limits.min_passes:
            return elapsed_ns
