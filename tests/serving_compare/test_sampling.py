from __future__ import annotations

import gc
import itertools
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving_compare.sampling import (
    MAX_TIMER_SHARE,
    CellLimits,
    choose_inner_loops,
    measure_cell,
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


def test_samples_are_the_times_of_single_calls():
    clock = FakeClock()
    cell = measure_cell(make_call(clock, [7000]), [()] * 4, LIMITS, timer_cost_ns=50, clock=clock)
    assert cell.inner_loops == 1
    assert set(cell.elapsed_ns) == {7000}


def test_slow_first_calls_are_warm_up_and_not_in_the_samples():
    clock = FakeClock()
    cell = measure_cell(
        make_call(clock, [900_000, 50_000, 20_000, 9000, 8000]),
        [()],
        LIMITS,
        timer_cost_ns=50,
        clock=clock,
    )
    assert set(cell.elapsed_ns) == {8000}
    assert cell.is_warm
    assert cell.warm_up_calls == 6


def test_warm_up_ends_by_its_time_limit_and_says_so():
    clock = FakeClock()
    restless = [100_000_000, 200_000_000] * 10
    cell = measure_cell(make_call(clock, restless), [()], LIMITS, timer_cost_ns=50, clock=clock)
    assert not cell.is_warm
    assert cell.warm_up_calls == 4


def test_short_calls_are_timed_several_at_once():
    clock = FakeClock()
    cell = measure_cell(make_call(clock, [100]), [()], LIMITS, timer_cost_ns=50, clock=clock)
    assert cell.inner_loops == 64
    assert set(cell.elapsed_ns) == {6400}


def test_sampling_goes_on_until_both_minima_are_met():
    clock = FakeClock()
    few_long = CellLimits(min_samples=3, min_duration_s=0.001, max_duration_s=1.0, warm_up_s=0.1)
    cell = measure_cell(make_call(clock, [10_000]), [()], few_long, timer_cost_ns=50, clock=clock)
    assert len(cell.elapsed_ns) == 100
    clock = FakeClock()
    many_short = few_long._replace(min_samples=250)
    cell = measure_cell(make_call(clock, [10_000]), [()], many_short, timer_cost_ns=50, clock=clock)
    assert len(cell.elapsed_ns) == 250


def test_sampling_stops_at_the_longest_duration_after_a_whole_pass():
    clock = FakeClock()
    limits = CellLimits(min_samples=10**6, min_duration_s=0.0, max_duration_s=0.001, warm_up_s=0.1)
    cell = measure_cell(make_call(clock, [40_000]), [()] * 8, limits, timer_cost_ns=50, clock=clock)
    # 25 calls fill the millisecond; the fourth pass of eight is finished.
    assert len(cell.elapsed_ns) == 32


def test_every_request_is_asked_equally_often():
    clock = FakeClock()
    asked: list[int] = []

    def call(number: int) -> None:
        asked.append(number)
        clock.now_ns += 10_000

    measure_cell(call, [(n,) for n in range(3)], LIMITS, timer_cost_ns=50, clock=clock)
    assert asked == [0, 1, 2] * (len(asked) // 3)


def test_garbage_collector_rests_while_sampling_and_works_afterwards():
    clock = FakeClock()
    states: list[bool] = []

    def call() -> None:
        states.append(gc.isenabled())
        clock.now_ns += 10_000

    measure_cell(call, [()], LIMITS, timer_cost_ns=50, clock=clock)
    assert not any(states)
    assert gc.isenabled()


def test_garbage_collector_works_again_after_a_failing_call():
    def fail() -> None:
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        measure_cell(fail, [()], LIMITS, timer_cost_ns=50)
    assert gc.isenabled()


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
