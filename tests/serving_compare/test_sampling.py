from __future__ import annotations

import gc
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving_compare.sampling import (
    COLD_CALLS,
    MAX_TIMER_SHARE,
    PASS_REQUESTS,
    REWARM_NS,
    CellLimits,
    ColdCell,
    WarmCell,
    choose_inner_loops,
    do_nothing,
    group_requests,
    measure_timer_cost_ns,
)

LIMITS = CellLimits(min_samples=10, min_duration_s=0.0, max_duration_s=1.0, warm_up_s=0.5)


class FakeClock:
    """Time passes only when somebody works; reading it costs nothing."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


def make_call(clock: FakeClock, times_ns: list[int]) -> Callable[..., None]:
    """A call that takes the given times in turn, the last one for ever."""
    calls = itertools.chain(times_ns, itertools.repeat(times_ns[-1]))

    def call(*arguments: object) -> None:
        clock.now_ns += next(calls)

    return call


def make_cell(
    times_ns: list[int],
    requests: Sequence[tuple[int, ...]] = ((),),
    limits: CellLimits = LIMITS,
) -> WarmCell:
    clock = FakeClock()
    call = make_call(clock, times_ns)
    return WarmCell(call=call, requests=requests, limits=limits, timer_cost_ns=50, clock=clock)


def test_samples_are_the_times_of_single_calls():
    cell = make_cell([7000], [()] * 4)
    cell.take_slice()
    samples = cell.samples()
    assert samples.inner_loops == 1
    assert set(samples.elapsed_ns) == {7000}
    assert samples.slices == (12,)


def test_slow_first_calls_are_warm_up_and_not_in_the_samples():
    cell = make_cell([900_000] + [50_000] * 7 + [20_000] * 8 + [8000] * 8 + [8100])
    cell.take_slice()
    samples = cell.samples()
    assert set(samples.elapsed_ns) == {8100}
    assert (samples.is_warm, samples.warm_up_calls) == (True, 32)


def test_warm_up_ends_by_its_time_limit_and_says_so():
    cell = make_cell([100_000_000, 200_000_000] * 10)
    cell.take_slice()
    samples = cell.samples()
    assert not samples.is_warm
    assert samples.warm_up_calls == 4


def test_short_calls_are_timed_several_at_once():
    cell = make_cell([100])
    cell.take_slice()
    samples = cell.samples()
    assert samples.inner_loops == 64
    assert set(samples.elapsed_ns) == {6400}


def test_no_line_of_the_harness_runs_between_short_calls():
    clock = FakeClock()
    lines = Counter[str]()

    def call() -> None:
        clock.now_ns += 100

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_name == "_sample" and event == "line":
            lines["harness"] += 1
        elif frame.f_code is call.__code__ and event == "call":
            lines["calls"] += 1
        return trace

    cell = WarmCell(call=call, requests=[()], limits=LIMITS, timer_cost_ns=50, clock=clock)
    cell.take_slice()
    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        cell.take_slice()
    finally:
        sys.settrace(previous)
    samples = cell.samples()
    assert samples.slices[1] * samples.inner_loops <= lines["calls"]
    # A handful of lines a sample, whatever the number of calls in it.
    assert lines["harness"] < 15 * samples.slices[1] + 20 < lines["calls"]


def test_every_slice_is_kept_apart_and_a_later_one_warms_the_caches_again():
    cell = make_cell([500_000], [()] * 4)
    cell.take_slice()
    warm_up_calls = cell.samples().warm_up_calls
    cell.take_slice()
    samples = cell.samples()
    assert samples.slices == (12, 12)
    assert len(samples.elapsed_ns) == 24
    assert samples.warm_up_calls == warm_up_calls + REWARM_NS // 500_000


def test_a_later_slice_throws_one_slow_call_away_at_least():
    cell = make_cell([50_000_000])
    cell.take_slice()
    before = cell.samples().warm_up_calls
    cell.take_slice()
    assert cell.samples().warm_up_calls == before + 1


def test_a_slice_goes_on_until_both_minima_are_met():
    few_long = CellLimits(min_samples=3, min_duration_s=0.001, max_duration_s=1.0, warm_up_s=0.1)
    cell = make_cell([10_000], limits=few_long)
    cell.take_slice()
    assert cell.samples().slices == (100,)
    cell = make_cell([10_000], limits=few_long._replace(min_samples=250))
    cell.take_slice()
    assert cell.samples().slices == (250,)


def test_a_slice_stops_at_the_longest_duration_after_a_whole_pass():
    limits = CellLimits(min_samples=10**6, min_duration_s=0.0, max_duration_s=0.001, warm_up_s=0.1)
    cell = make_cell([40_000], [()] * 8, limits)
    cell.take_slice()
    # 25 calls fill the millisecond; the fourth pass of eight is finished.
    assert cell.samples().slices == (32,)


@pytest.mark.parametrize("call_ns", [10_000, 1000])
def test_every_request_is_asked_equally_often(call_ns: int):
    clock = FakeClock()
    asked: list[int] = []

    def call(number: int) -> None:
        asked.append(number)
        clock.now_ns += call_ns

    cell = WarmCell(
        call=call, requests=[(n,) for n in range(3)], limits=LIMITS, timer_cost_ns=50, clock=clock
    )
    cell.take_slice()
    timed = asked[cell.samples().warm_up_calls :]
    assert len(set(Counter(timed).values())) == 1
    assert set(timed) == {0, 1, 2}


def test_a_cell_of_many_requests_goes_on_with_the_next_ones():
    clock = FakeClock()
    asked: list[int] = []

    def call(number: int) -> None:
        asked.append(number)
        clock.now_ns += 10_000_000

    once = CellLimits(min_samples=1, min_duration_s=0.0, max_duration_s=0.001, warm_up_s=0.001)
    cell = WarmCell(
        call=call,
        requests=[(n,) for n in range(2 * PASS_REQUESTS)],
        limits=once,
        timer_cost_ns=50,
        clock=clock,
    )
    for _ in range(3):
        cell.take_slice()
    first, second = list(range(PASS_REQUESTS)), list(range(PASS_REQUESTS, 2 * PASS_REQUESTS))
    # Each slice begins with one call that is thrown away.
    assert asked == [0, *first, 0, *second, 0, *first]


def test_garbage_collector_rests_while_sampling_and_works_afterwards():
    clock = FakeClock()
    states: list[bool] = []

    def call() -> None:
        states.append(gc.isenabled())
        clock.now_ns += 10_000

    WarmCell(
        call=call, requests=[()], limits=LIMITS, timer_cost_ns=50, clock=clock
    ).take_slice()  # fmt: skip
    ColdCell(call=call, requests=[()], clock=clock, cold_bytes=8).take_slice()
    assert states.count(True) == 1  # the cold cell's first call, which is thrown away
    assert gc.isenabled()


def test_garbage_collector_works_again_after_a_failing_call():
    def fail() -> None:
        raise RuntimeError("boom")

    cell = WarmCell(call=fail, requests=[()], limits=LIMITS, timer_cost_ns=50)
    with pytest.raises(RuntimeError, match="boom"):
        cell.take_slice()
    assert gc.isenabled()


def test_cold_calls_are_single_and_the_first_is_thrown_away():
    clock = FakeClock()
    asked: list[int] = []

    def call(number: int) -> None:
        asked.append(number)
        clock.now_ns += 100 if len(asked) > 1 else 10**9

    cell = ColdCell(call=call, requests=[(n,) for n in range(6)], clock=clock, cold_bytes=80)
    cell.take_slice()
    cell.take_slice()
    samples = cell.samples()
    assert list(samples.elapsed_ns) == [100] * 2 * COLD_CALLS
    assert samples.slices == (COLD_CALLS, COLD_CALLS)
    assert samples.inner_loops == 1
    assert asked == [0, *[n % 6 for n in range(2 * COLD_CALLS)]]
    assert do_nothing(1, 2) is None


def test_groups_of_requests_go_round():
    assert group_requests([("a",), ("b",), ("c",)], 2) == [
        [("a",), ("b",)],
        [("c",), ("a",)],
        [("b",), ("c",)],
    ]
    assert group_requests([("a",), ("b",)], 1) == [[("a",)], [("b",)]]


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.sampled_from([1, 2, 4, 64]))
def test_groups_ask_every_request_equally_often(count: int, size: int):
    groups = group_requests([(n,) for n in range(count)], size)
    assert [len(group) for group in groups] == [size] * count
    assert Counter(n for group in groups for (n,) in group) == dict.fromkeys(range(count), size)


@settings(deadline=None, max_examples=40)
@given(st.floats(0.1, 1e9), st.floats(1, 1e4))
def test_timer_costs_at_most_its_share_and_no_loop_too_many(call_ns: float, timer_ns: float):
    loops = choose_inner_loops(call_ns, timer_ns)
    per_call_ns = max(call_ns, 1.0)
    assert timer_ns <= MAX_TIMER_SHARE * loops * per_call_ns * (1 + 1e-9)
    assert loops == 1 or timer_ns > MAX_TIMER_SHARE * (loops / 2) * per_call_ns


def test_timer_cost_is_the_median_gap_between_two_readings():
    readings = iter([0, 40, 100, 150, 200, 1200])
    assert measure_timer_cost_ns(3, clock=lambda: next(readings)) == 50
    assert measure_timer_cost_ns() >= 0
