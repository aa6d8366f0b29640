from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from serving_compare.bench.interleave import (
    BlockLimits,
    measure_cold,
    measure_single,
    measure_warm,
)

LIMITS = BlockLimits(blocks=3, warm_up_s=0.0, min_passes=2, duration_s=0.0)


class FakeTime:
    """A clock that calls move on: form to ns a call."""

    def __init__(self, costs_ns: dict[str, int]) -> None:
        self.now_ns = 0
        self.costs_ns = costs_ns
        self.calls: list[tuple[str, Any]] = []
        self.was_collecting: set[bool] = set()

    def clock(self) -> int:
        return self.now_ns

    def make_call(self, name: str) -> Callable[[Any], None]:
        def call(request: Any) -> None:
            self.calls.append((name, request))
            self.was_collecting.add(gc.isenabled())
            self.now_ns += self.costs_ns[name]

        return call

    def make_works(self, requests: int) -> dict[str, Any]:
        return {name: (self.make_call(name), [(i,) for i in range(requests)])
                for name in self.costs_ns}  # fmt: skip


def test_a_warm_sample_is_whole_passes_over_the_requests():
    time = FakeTime({"slow": 10_000, "fast": 100})
    measured = measure_warm(
        time.make_works(4),
        LIMITS,
        random=np.random.default_rng(0),
        timer_cost_ns=50,
        clock=time.clock,
    )
    slow, fast = measured["slow"], measured["fast"]
    assert slow.inner_loops == 4
    assert slow.elapsed_ns.tolist() == [40_000] * 6  # 3 blocks of 2 passes
    # 4 calls of 100 ns are 400 ns; 5,000 are needed for a clock of 50 ns to be 1 %: 16 passes.
    assert fast.inner_loops == 64
    assert set(fast.elapsed_ns.tolist()) == {6_400}
    assert slow.warm_up_calls == 12


def test_forms_run_alone_within_a_block_and_in_another_order_in_each():
    time = FakeTime(dict.fromkeys("abcd", 10_000))
    measure_warm(
        time.make_works(2),
        BlockLimits(blocks=6, warm_up_s=0.0, min_passes=1, duration_s=0.0),
        random=np.random.default_rng(0),
        timer_cost_ns=50,
        clock=time.clock,
    )
    names = [name for name, _ in time.calls]
    runs = [names[i : i + 4] for i in range(0, len(names), 4)]  # a pass to warm up and one timed
    assert all(len(set(run)) == 1 for run in runs)
    orders = {tuple(run[0] for run in runs[i : i + 4]) for i in range(0, len(runs), 4)}
    assert len(orders) > 1
    assert all(sorted(order) == list("abcd") for order in orders)


def test_the_requests_are_asked_in_turn():
    time = FakeTime({"a": 10_000})
    measure_warm(time.make_works(3), LIMITS, random=np.random.default_rng(0), timer_cost_ns=50,
                 clock=time.clock)  # fmt: skip
    assert [request for _, request in time.calls] == [0, 1, 2] * 9  # warm-up and 2 passes, thrice


def test_a_block_goes_on_for_its_duration_and_its_warm_up_for_its_own():
    time = FakeTime({"a": 1_000_000})
    limits = BlockLimits(blocks=1, warm_up_s=0.01, min_passes=1, duration_s=0.02)
    measured = measure_warm(time.make_works(1), limits, random=np.random.default_rng(0),
                            timer_cost_ns=50, clock=time.clock)["a"]  # fmt: skip
    assert measured.warm_up_calls == 10
    assert len(measured.elapsed_ns) == 20


def test_cold_calls_are_single_and_take_turns():
    time = FakeTime({"a": 10, "b": 20})
    measured = measure_cold(
        time.make_works(2), samples=5, random=np.random.default_rng(0), clock=time.clock
    )
    assert measured["a"].elapsed_ns.tolist() == [10] * 5
    assert measured["b"].inner_loops == 1
    names = [name for name, _ in time.calls]
    assert all(sorted(names[i : i + 2]) == ["a", "b"] for i in range(0, 10, 2))
    assert [request for name, request in time.calls if name == "a"] == [0, 1, 0, 1, 0]


def test_single_requests_are_timed_once_each_behind_an_untimed_start():
    time = FakeTime({"a": 10, "b": 20})
    measured = measure_single(
        time.make_works(25), random=np.random.default_rng(0), chunk=10, clock=time.clock
    )
    assert measured["b"].elapsed_ns.tolist() == [20] * 25
    assert measured["b"].warm_up_calls == 30
    asked = [request for name, request in time.calls if name == "a"]
    assert asked == [*range(15, 25), *range(10), *range(10), *range(10, 20), *range(10, 20),
                     *range(20, 25)]  # fmt: skip


def test_the_garbage_collector_rests_and_is_as_before():
    time = FakeTime({"a": 10_000})
    measure_cold(time.make_works(1), samples=2, random=np.random.default_rng(0), clock=time.clock)
    assert time.was_collecting == {False}
    assert gc.isenabled()


def test_a_call_that_fails_leaves_the_collector_on():
    def fail(_: int) -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        measure_cold({"a": (fail, [(1,)])}, samples=1, random=np.random.default_rng(0))
    assert gc.isenabled()
