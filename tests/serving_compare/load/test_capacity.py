"""The search on a simulated server whose capacity is known, and the verdict on made-up probes."""

from __future__ import annotations

import pytest

from serving_compare.load.capacity import Verdict, is_void, judge_probe, search_capacity
from serving_compare.load.recording import Failure

from .conftest import MakeRecording

MS = 1_000_000
HOLDS = Verdict(is_valid=True, holds=True, limited_by=None)
FAILS = Verdict(is_valid=True, holds=False, limited_by="slo")
VOID = Verdict(is_valid=False, holds=False, limited_by="generator")


class Simulated:
    """A server that holds up to a capacity, and has moods: verdicts handed out first."""

    def __init__(self, capacity: float, *moods: Verdict) -> None:
        self.capacity = capacity
        self.moods = list(moods)
        self.asked: list[float] = []

    def __call__(self, rate: float) -> Verdict:
        self.asked.append(rate)
        return self.moods.pop(0) if self.moods else HOLDS if rate <= self.capacity else FAILS


@pytest.mark.parametrize("capacity", [3, 97, 1000, 1234, 5000, 49_999])
@pytest.mark.parametrize("start", [1, 800, 90_000])
def test_a_search_ends_within_its_precision_of_the_true_capacity(
    capacity: float, start: float
) -> None:
    found = search_capacity(Simulated(capacity), start_per_s=start, precision=1.05)
    assert found.rate_per_s is not None
    assert capacity / 1.05 <= found.rate_per_s <= capacity
    assert found.limited_by == "slo"


def test_a_search_near_its_goal_takes_few_probes() -> None:
    server = Simulated(1000)
    search_capacity(server, start_per_s=980, growth=1.1, precision=1.11, attempts=1)
    assert len(server.asked) == 2


def test_one_bad_moment_does_not_make_a_rate_too_high() -> None:
    found = search_capacity(Simulated(1000, HOLDS, FAILS, HOLDS), start_per_s=400)
    assert found.rate_per_s is not None
    assert found.rate_per_s > 950


def test_a_void_probe_is_repeated_and_not_counted_as_a_failure() -> None:
    server = Simulated(1000, VOID, FAILS, VOID, HOLDS)
    search_capacity(server, start_per_s=900)
    assert server.asked[:5] == [900, 900, 900, 900, 1800]


def test_a_generator_that_never_keeps_up_limits_the_search() -> None:
    found = search_capacity(lambda rate: HOLDS if rate < 500 else VOID, start_per_s=400)
    assert found.limited_by == "generator"
    assert found.rate_per_s is not None
    assert 400 <= found.rate_per_s < 500


def test_a_search_ends_behind_its_last_probe_with_what_it_has() -> None:
    server = Simulated(1000, *[VOID] * 2, HOLDS, FAILS)
    found = search_capacity(server, start_per_s=100, max_probes=4)
    assert server.asked == [100, 100, 100, 200]
    assert (found.rate_per_s, found.limited_by) == (100, "slo")
    nothing = search_capacity(lambda rate: VOID, start_per_s=100, max_probes=3)
    assert (nothing.rate_per_s, nothing.limited_by) == (None, "generator")


def test_a_server_that_holds_nothing_has_no_capacity() -> None:
    found = search_capacity(lambda rate: FAILS, start_per_s=64)
    assert (found.rate_per_s, found.limited_by) == (None, "slo")


def test_a_server_that_holds_everything_is_limited_by_the_generator() -> None:
    found = search_capacity(lambda rate: HOLDS, start_per_s=64)
    assert (found.rate_per_s, found.limited_by) == (100_000, "generator")


def test_one_percent_may_be_late_and_no_more(make_recording: MakeRecording) -> None:
    late = [11 * MS] * 20
    assert judge_probe(make_recording([1 * MS] * 1980 + late), slo_ns=10 * MS) == HOLDS
    assert judge_probe(make_recording([1 * MS] * 1979 + [*late, 11 * MS]), slo_ns=10 * MS) == FAILS


def test_a_refusal_counts_as_an_answer_that_never_came(make_recording: MakeRecording) -> None:
    few = make_recording(MS, count=1000, status=[200] * 990 + [429] * 10)
    many = make_recording(MS, count=1000, status=[200] * 989 + [429] * 11)
    assert judge_probe(few, slo_ns=10 * MS) == HOLDS
    assert judge_probe(many, slo_ns=10 * MS).limited_by == "errors"
    late_too = make_recording([11 * MS] * 1000, status=[200] * 989 + [503] * 11)
    assert judge_probe(late_too, slo_ns=10 * MS).limited_by == "slo"


@pytest.mark.parametrize("status", [500, 404, Failure.UNANSWERED, Failure.TIMEOUT])
def test_a_single_error_is_one_too_many(make_recording: MakeRecording, status: int) -> None:
    recording = make_recording(MS, count=1000, status=[200] * 999 + [status])
    assert judge_probe(recording, slo_ns=10 * MS).limited_by == "errors"


def test_a_late_generator_voids_the_probe(make_recording: MakeRecording) -> None:
    assert not is_void(make_recording(5 * MS, lag_ns=MS))
    late = make_recording(5 * MS, lag_ns=MS + 1)
    assert is_void(late)
    assert judge_probe(late, slo_ns=10 * MS) == VOID
