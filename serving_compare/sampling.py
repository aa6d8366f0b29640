"""How one cell is timed inside a child process: in short slices, between which others have a turn.

After pyperf (calibrated loops, warm-up apart) and MLPerf LoadGen (a least number of samples *and*
a least duration). What a sample is: the wall time of one call, or of `inner_loops` calls in a row
where a single one is too short for the timer. Nothing is dropped but warm-up.

A `WarmCell` begins its first slice with a warm-up until the times stand still, and every later one
with a few calls that bring its code and data back into the caches: another process ran on this core
meanwhile. A `ColdCell` does the opposite before every single call.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import starmap
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Call = Callable[..., Any]
Arguments = tuple[Any, ...]
Clock = Callable[[], int]

MAX_TIMER_SHARE = 0.01
"""A single call is a sample while reading the clock costs at most this share of it."""
STABLE_CHANGE = 0.05
"""Warm-up ends when the median of some calls differs from the ones before by no more than this."""
WARM_UP_CALLS = 8
"""How many calls such a median is of."""
REWARM_NS = 2_000_000
"""Time of the calls that are thrown away at the start of a later slice; at least one is."""
PASS_REQUESTS = 16
"""A pass is over so many requests at most; a cell with more goes on with the next ones, so that the
slice of a slow backend is short."""
COLD_BYTES = 24 * 10**6
"""Written over before a cold call: more than any second-level cache, less than most last ones."""
COLD_CALLS = 8
"""Cold calls a slice: writing over the caches takes far longer than most of the calls."""


class CellLimits(NamedTuple):
    """Stop rules of one slice.

    Attributes:
        min_samples: Go on until there are so many samples,
        min_duration_s: and so much time was spent on them;
        max_duration_s: but stop behind this time (at the end of the running pass).
        warm_up_s: Most time spent on calls that are thrown away before the first slice.
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
        warm_up_calls: Calls thrown away.
        is_warm: Whether the warm-up ended because the times stood still, not by its time limit.
        slices: Number of samples in each slice; together n.
    """

    elapsed_ns: NDArray[np.int64]
    inner_loops: int
    warm_up_calls: int
    is_warm: bool
    slices: tuple[int, ...] = ()


class Cell(Protocol):
    """One cell in one process."""

    def take_slice(self) -> None:
        """Take the next samples."""
        ...

    def samples(self) -> CellSamples:
        """Return all that was sampled so far."""
        ...


def measure_timer_cost_ns(repeats: int = 2001, clock: Clock = time.perf_counter_ns) -> int:
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


@dataclass(kw_only=True)
class WarmCell:
    """Times `call(*request)` over the requests in turn, in whole passes.

    Whole passes only, so that every request weighs the same in every backend's percentiles.

    Attributes:
        call: What is timed.
        requests: Arguments of one call each; at least one.
        limits: When a slice ends.
        timer_cost_ns: From `measure_timer_cost_ns`, of this process.
        clock: Monotonic, ns.
    """

    call: Call
    requests: Sequence[Arguments]
    limits: CellLimits
    timer_cost_ns: int
    clock: Clock = time.perf_counter_ns
    _elapsed_ns: list[int] = field(init=False, default_factory=list)
    _slices: list[int] = field(init=False, default_factory=list)
    _passes: list[Sequence[Sequence[Arguments]]] = field(init=False, default_factory=list)
    _next_pass: int = field(init=False, default=0)
    _inner_loops: int = field(init=False, default=0)
    _warm_up_calls: int = field(init=False, default=0)
    _is_warm: bool = field(init=False, default=False)

    def take_slice(self) -> None:
        """See `Cell.take_slice`. The first one warms up and decides what a sample is."""
        before = len(self._elapsed_ns)
        with resting_collector():
            if not self._passes:
                self._warm_up()
            else:
                self._rewarm()
            self._sample(before)
        self._slices.append(len(self._elapsed_ns) - before)

    def samples(self) -> CellSamples:
        """See `Cell.samples`."""
        return CellSamples(
            elapsed_ns=np.array(self._elapsed_ns, np.int64),
            inner_loops=self._inner_loops,
            warm_up_calls=self._warm_up_calls,
            is_warm=self._is_warm,
            slices=tuple(self._slices),
        )

    def _warm_up(self) -> None:
        clock, call = self.clock, self.call
        deadline_ns = clock() + int(self.limits.warm_up_s * 1e9)
        previous_ns: float | None = None
        times_ns: list[int] = []
        while True:
            arguments = self.requests[self._warm_up_calls % len(self.requests)]
            before = clock()
            call(*arguments)
            now_ns = clock()
            times_ns.append(now_ns - before)
            self._warm_up_calls += 1
            if len(times_ns) == WARM_UP_CALLS:
                median_ns = statistics.median(times_ns)
                if previous_ns and abs(median_ns - previous_ns) <= STABLE_CHANGE * previous_ns:
                    self._is_warm = True
                    break
                previous_ns, times_ns = median_ns, []
            if now_ns >= deadline_ns:
                median_ns = statistics.median(times_ns) if times_ns else previous_ns or 1.0
                break
        self._inner_loops = choose_inner_loops(median_ns, self.timer_cost_ns)
        self._passes = [
            group_requests(self.requests[start : start + PASS_REQUESTS], self._inner_loops)
            for start in range(0, len(self.requests), PASS_REQUESTS)
        ]

    def _rewarm(self) -> None:
        clock, call = self.clock, self.call
        deadline_ns = clock() + REWARM_NS
        while True:
            for arguments in self.requests[:PASS_REQUESTS]:
                call(*arguments)
                self._warm_up_calls += 1
                if clock() >= deadline_ns:
                    return

    def _sample(self, first: int) -> None:
        clock, call, elapsed_ns, limits = self.clock, self.call, self._elapsed_ns, self.limits
        # The loop around short calls runs in C: a Python loop would cost as much as a fast call.
        consume = deque[Any](maxlen=0).extend
        started_ns = clock()
        enough_ns = started_ns + int(limits.min_duration_s * 1e9)
        deadline_ns = started_ns + int(limits.max_duration_s * 1e9)
        while True:
            groups = self._passes[self._next_pass]
            self._next_pass = (self._next_pass + 1) % len(self._passes)
            if self._inner_loops == 1:
                for (arguments,) in groups:
                    before = clock()
                    call(*arguments)
                    elapsed_ns.append(clock() - before)
            else:
                for group in groups:
                    before = clock()
                    consume(starmap(call, group))
                    elapsed_ns.append(clock() - before)
            now_ns = clock()
            is_enough = len(elapsed_ns) - first >= limits.min_samples and now_ns >= enough_ns
            if is_enough or now_ns >= deadline_ns:
                return


@dataclass(kw_only=True)
class ColdCell:
    """Times single calls, each behind a walk over `COLD_BYTES`; a few a slice.

    Behind the walk a function that does nothing is called with the same arguments: the loop, the
    clock and the request are the harness's and the caller's, and are warm when a call is timed.

    Attributes:
        call: What is timed.
        requests: Arguments of one call each; at least one.
        clock: Monotonic, ns.
        cold_bytes: How much is written over.
    """

    call: Call
    requests: Sequence[Arguments]
    clock: Clock = time.perf_counter_ns
    cold_bytes: int = COLD_BYTES
    _elapsed_ns: list[int] = field(init=False, default_factory=list)
    _slices: list[int] = field(init=False, default_factory=list)

    def take_slice(self) -> None:
        """See `Cell.take_slice`. The very first call is thrown away: memory may be new to it."""
        if not self._slices:
            self.call(*self.requests[0])
        buffer = np.zeros(self.cold_bytes // 8, np.int64)
        with resting_collector():
            for _ in range(COLD_CALLS):
                arguments = self.requests[len(self._elapsed_ns) % len(self.requests)]
                buffer += 1
                for call in (do_nothing, self.call):
                    before = self.clock()
                    call(*arguments)
                    elapsed_ns = self.clock() - before
                self._elapsed_ns.append(elapsed_ns)
        self._slices.append(COLD_CALLS)

    def samples(self) -> CellSamples:
        """See `Cell.samples`. Cold calls have no warm-up that could end too early."""
        return CellSamples(
            elapsed_ns=np.array(self._elapsed_ns, np.int64),
            inner_loops=1,
            warm_up_calls=1,
            is_warm=True,
            slices=tuple(self._slices),
        )


def do_nothing(*arguments: Any) -> None:
    """Take any arguments and return at once."""


def group_requests(requests: Sequence[Arguments], size: int) -> list[list[Arguments]]:
    """Return as many groups of `size` successive requests as there are requests.

    Going round, so that all are asked equally often and no group repeats one request alone.

    Example: requests a, b, c in groups of 2 are ab, ca, bc.
    """
    count = len(requests)
    return [
        [requests[(start * size + step) % count] for step in range(size)] for start in range(count)
    ]


@contextmanager
def resting_collector() -> Iterator[None]:
    """Keep the garbage collector away: its pauses depend on the harness's objects too."""
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
