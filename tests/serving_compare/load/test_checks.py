"""What is asked of a server, on recordings that hold it and on some that do not."""

from __future__ import annotations

import numpy as np
import pytest

from serving_compare.load.checks import (
    Check,
    check_crash,
    check_drain,
    check_errors,
    check_few_refused,
    check_generator,
    check_overload,
    check_rss,
    check_swap,
    count_outcomes,
    find_recovery_s,
)
from serving_compare.load.recording import Failure

from .conftest import MakeRecording

MS = 1_000_000
S = 1_000_000_000


def found(check: Check) -> tuple[str, bool]:
    return check.found, check.holds


def test_a_late_generator_makes_the_scenario_void(make_recording: MakeRecording) -> None:
    assert found(check_generator("steady", make_recording(MS))) == ("0.00 ms", True)
    late = check_generator("steady", make_recording(9 * MS, lag_ns=4 * MS))
    assert found(late) == ("4.00 ms", False)


def test_one_error_is_too_many_and_a_refusal_is_none(make_recording: MakeRecording) -> None:
    fine = make_recording(MS, count=1000, status=[200] * 990 + [429] * 10)
    assert found(check_errors("steady", fine)) == ("0 of 1,000", True)
    bad = make_recording(MS, count=1000, status=[200] * 997 + [500, 500, Failure.TIMEOUT])
    assert found(check_errors("steady", bad)) == ("3 of 1,000 (500: 2, timeout: 1)", False)


def test_below_the_capacity_one_percent_may_be_refused(make_recording: MakeRecording) -> None:
    fine = make_recording(MS, count=1000, status=[200] * 990 + [429] * 10)
    assert found(check_few_refused("steady", fine)) == ("10 of 1,000", True)
    bad = make_recording(MS, count=1000, status=[200] * 989 + [503] * 11)
    assert found(check_few_refused("steady", bad)) == ("11 of 1,000", False)


def test_memory_may_wander_but_not_grow() -> None:
    wander = [100_000_000 + 5_000_000 * (number % 3) for number in range(600)]
    assert found(check_rss("steady", wander)) == ("+0.0 MB, 105 MB in the end", True)
    growing = [100_000_000 + 40_000 * number for number in range(600)]
    assert found(check_rss("steady", growing)) == ("+21.6 MB, 123 MB in the end", False)
    assert check_rss("steady", [-1 * size for size in growing]).holds  # shrinking is fine
    assert found(check_rss("steady", [1] * 9)) == ("only 9 samples", False)


def make_overload(make_recording: MakeRecording, **changes: object):  # type: ignore[no-untyped-def]
    """A request a ms: 4 s of overload, half of it refused, then 4 s of peace."""
    status = [200, 429] * 2000 + [200] * 4000
    latency = [15 * MS, MS] * 2000 + [2 * MS] * 4000
    return make_recording(**({"latency_ns": latency, "status": status} | changes))


def judge(recording) -> dict[str, tuple[str, bool]]:  # type: ignore[no-untyped-def]
    checks = check_overload("overload", recording, overload_s=4.0, slo_ms=10.0)
    return {check.subject: found(check) for check in checks}


def test_an_overload_that_is_handled_holds(make_recording: MakeRecording) -> None:
    assert judge(make_overload(make_recording)) == {
        "share refused": ("50%", True),
        "time to a refusal, p99": ("1.0 ms", True),
        "latency of what was accepted, p99": ("15.0 ms", True),
        "back to normal behind the overload": ("0 s", True),
    }


def test_slow_refusals_late_answers_and_no_recovery_do_not_hold(
    make_recording: MakeRecording,
) -> None:
    bad = judge(
        make_overload(make_recording, latency_ns=[21 * MS, 51 * MS] * 2000 + [11 * MS] * 4000)
    )
    assert bad == {
        "share refused": ("50%", True),
        "time to a refusal, p99": ("51.0 ms", False),
        "latency of what was accepted, p99": ("21.0 ms", False),
        "back to normal behind the overload": ("never", False),
    }


def test_a_load_that_nothing_is_refused_of_was_no_overload(make_recording: MakeRecording) -> None:
    calm = judge(make_overload(make_recording, status=200))
    assert calm["share refused"] == ("0%", False)
    assert calm["time to a refusal, p99"] == ("nothing to measure", False)


def test_recovery_is_the_first_whole_good_second(make_recording: MakeRecording) -> None:
    latency = [2 * MS] * 2000 + [30 * MS] * 1500 + [2 * MS] * 2500
    recording = make_recording(latency)
    assert find_recovery_s(recording, from_s=0.0, slo_ms=10.0) == 0.0
    assert find_recovery_s(recording, from_s=2.0, slo_ms=10.0) == 2.0
    refusing = make_recording(latency, status=[200] * 2000 + [429] * 4000)
    assert find_recovery_s(refusing, from_s=2.0, slo_ms=10.0) is None


def test_every_request_has_one_outcome(make_recording: MakeRecording) -> None:
    status = [200, 429, 503, 500, *(failure.value for failure in Failure)]
    assert count_outcomes(make_recording(MS, count=len(status), status=status)) == {
        "answered": 1,
        "refused": 2,
        "unread": 1,
        "not connected": 1,
        "lost": 3,
        "other": 2,  # the 500 and what was no HTTP
    }


def test_a_drain_may_leave_requests_unread_but_lose_none(make_recording: MakeRecording) -> None:
    fine = make_recording(MS, count=4, status=[200, 503, Failure.NOT_READ, Failure.NOT_CONNECTED])
    lost, codes = check_drain("drain", [fine, fine], [0, 0])
    assert found(lost) == (
        "2 answered, 2 refused, 2 unread, 2 not connected, 0 lost, 0 other",
        True,
    )
    assert found(codes) == ("2 times 0", True)


@pytest.mark.parametrize("status", [Failure.UNANSWERED, Failure.CUT_OFF, Failure.TIMEOUT, 500])
def test_a_drain_that_loses_one_request_does_not_hold(
    make_recording: MakeRecording, status: int
) -> None:
    bad = make_recording(MS, count=2, status=[200, status])
    assert not check_drain("drain", [bad], [0])[0].holds


def test_a_drain_must_end_with_code_0(make_recording: MakeRecording) -> None:
    _, codes = check_drain("drain", [make_recording(MS)] * 3, [0, 1, -9])
    assert found(codes) == ("1 times 0, also [-9, 1]", False)


def test_a_kill_may_take_what_is_in_flight_with_it_and_nothing_else(
    make_recording: MakeRecording,
) -> None:
    # Requests 0 to 9 are due at 0 to 9 ms and end 2 ms later; killed at 5 ms.
    status = np.full(10, 200)
    status[[4, 5]] = Failure.UNANSWERED
    start_ns = 7 * S
    kill = [(start_ns + 5 * MS, start_ns + 5 * MS + 2000)]
    recording = make_recording(2 * MS, count=10, status=status, start_ns=start_ns)
    lost, back = check_crash("crash", recording, kill, [1.5])
    assert lost.holds
    assert lost.found.startswith("0; in flight were 2 in 1 kills; 8 answered")
    assert found(back) == ("1 times, the slowest in 1.50 s", True)
    status[8] = Failure.UNANSWERED  # sent behind the kill
    worse = make_recording(2 * MS, count=10, status=status, start_ns=start_ns)
    assert not check_crash("crash", worse, kill, [1.5])[0].holds


def test_a_worker_must_be_back_in_time_and_every_time(make_recording: MakeRecording) -> None:
    recording = make_recording(MS)
    kills = [(0, 1), (2, 3)]
    assert not check_crash("crash", recording, kills, [0.5, 2.1])[1].holds
    assert not check_crash("crash", recording, kills, [0.5])[1].holds
    assert not check_crash("crash", recording, kills, [])[1].holds
    slow = check_crash("crash", recording, kills, [0.5, 2.1], 12.34)[1]
    assert (slow.asked, slow.holds) == ("within 12.3 s, 2 times", True)


def test_every_version_must_be_served_soon() -> None:
    assert found(check_swap("swap", [1.0, 4.9])) == ("2 of 2, the slowest in 4.9 s", True)
    assert not check_swap("swap", [1.0, 5.1]).holds
    assert found(check_swap("swap", [1.0, None])) == ("1 of 2, the slowest in 1.0 s", False)
    assert found(check_swap("swap", [None])) == ("0 of 1", False)
