"""How one cell is timed inside a child process: warm up, calibrate, sample. Nothing is dropped.

After pyperf (calibrated loops, warm-up apart) and MLPerf LoadGen (a least number of samples *and*
a least duration). What a sample is: the wall time of one call, or of `inner_loops` calls in a row
where a single one is too short for the timer.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Call = Callable[..., Any]
Arguments = tuple[Any, ...]

MAX_TIMER_SHARE = 0.01
"""A single call is a sample while reading the clock costs at most this share of it."""
STABLE_CHANGE = 0.05
"""Warm-up ends when the median of a pass differs from the one before by no more than this."""


class CellLimits(NamedTuple):
    """Stop rules of one cell in one process.

    Attributes:
        min_samples: Go on until there are so many samples,
        min_duration_s: and so much time was spent on them;
        max_duration_s: but stop behind this time (at the end of the running pass).
        warm_up_s: Most time spent on calls that are thrown away before.
    """

    min_samples: int
    min_duration_s: float
    max_duration_s: float
    warm_up_s: float


@dataclass(frozen=True, kw_only=True)
class CellSamples:
    """What one process measured in one cell.

    Attributes:
        elapsed_ns: (n,) int64, in the order they were taken; each spans `inner_loops` calls.
        inner_loops: Calls a sample. 1 means that percentiles are of single calls.
        warm_up_calls: Calls thrown away before the first sample.
        is_warm: Whether the warm-up ended because the times stood still, not by its time limit.
    """

    elapsed_ns: NDArray[np.int64]
    inner_loops: int
    warm_up_calls: int
    is_warm: bool


def measure_timer_cost_ns(
    repeats: int = 2001, clock: Callable[[], int] = time.perf_counter_ns
) -> int:
    """Return the median time in ns between two readings of the clock with nothing in between."""
    gaps = []
    for _ in range(repeats):
        before = clock()
        gaps.append(clock() - before)
    return int(statistics.median(gaps))


def choose_inner_loops(call_ns: float, timer_cost_ns: float) -> int:
    """Return how many calls make one sample, a power of two.

    Example: with a timer of 50 ns, a call of 5 µs or more is a sample of its own (1), a call of
    100 ns needs 64 in a row for the timer to cost at most 1 %.
    """
    needed_ns = timer_cost_ns / MAX_TIMER_SHARE
    loops = 1
    while loops * max(call_ns, 1.0) < needed_ns:
        loops *= 2
    return loops


def measure_cell(
    call: Call,
    requests: Sequence[Arguments],
    limits: CellLimits,
    *,
    timer_cost_ns: int,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> CellSamples:
    """Time `call(*request)` over all requests in turn, in whole passes.

    Whole passes only, so that every request weighs the same in every backend's percentiles. The
    garbage collector runs before and after, not within: its pauses belong to the objects of the
    harness as much as to those of the backend.

    Args:
        call: What is timed.
        requests: Arguments of one call each; at least one.
        limits: When to stop.
        timer_cost_ns: From `measure_timer_cost_ns`, of this process.
        clock: Monotonic, ns.
    """
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        call_ns, warm_up_calls, is_warm = _warm_up(call, requests, limits.warm_up_s, clock)
        inner_loops = choose_inner_loops(call_ns, timer_cost_ns)
        elapsed_ns = _sample(call, requests, limits, inner_loops, clock)
    finally:
        if was_enabled:
            gc.enable()
    return CellSamples(
        elapsed_ns=np.array(elapsed_ns, np.int64),
        inner_loops=inner_loops,
        warm_up_calls=warm_up_calls,
        is_warm=is_warm,
    )


def _warm_up(
    call: Call, requests: Sequence[Arguments], limit_s: float, clock: Callable[[], int]
) -> tuple[float, int, bool]:
    """Median ns of a call in the last pass, number of calls, whether the medians stood still."""
    deadline_ns = clock() + int(limit_s * 1e9)
    previous_ns: float | None = None
    calls = 0
    while True:
        times_ns = []
        for arguments in requests:
            before = clock()
            call(*arguments)
            times_ns.append(clock() - before)
        calls += len(requests)
        median_ns = statistics.median(times_ns)
        if previous_ns is not None and abs(median_ns - previous_ns) <= STABLE_CHANGE * previous_ns:
            return median_ns, calls, True
        if clock() >= deadline_ns:
            return median_ns, calls, False
        previous_ns = median_ns


def _sample(
    call: Call,
    requests: Sequence[Arguments],
    limits: CellLimits,
    inner_loops: int,
    clock: Callable[[], int],
) -> list[int]:
    elapsed_ns: list[int] = []
    started_ns = clock()
    enough_ns = started_ns + int(limits.min_duration_s * 1e9)
    deadline_ns = started_ns + int(limits.max_duration_s * 1e9)
    while True:
        if inner_loops == 1:  # a loop of its own: `range(1)` would cost a tenth of a short call
            for arguments in requests:
                before = clock()
                call(*arguments)
                elapsed_ns.append(clock() - before)
        else:
            for arguments in requests:
                before = clock()
                for _ in range(inner_loops):
                    call(*arguments)
                elapsed_ns.append(clock() - before)
        now_ns = clock()
        if now_ns >= deadline_ns or (len(elapsed_ns) >= limits.min_samples and now_ns >= enough_ns):
            return elapsed_ns
