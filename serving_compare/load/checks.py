"""What an endurance scenario asks of a server, judged from recordings: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from serving_compare.load.capacity import ALLOWED_SHARE, MAX_LAG_NS
from serving_compare.load.recording import Failure, Recording
from serving_compare.statistics import quantile

if TYPE_CHECKING:
    from serving_compare.load.recording import Mask

LOST = (Failure.UNANSWERED, Failure.CUT_OFF, Failure.TIMEOUT)
"""What became of a request that a server had accepted and did not answer."""
MAX_REFUSAL_MS = 50.0
MAX_RECOVERY_S = 5.0
MAX_RSS_DRIFT_MB = 20.0
MAX_RESTART_S = 2.0
MAX_SWAP_S = 5.0
WINDOW_S = 1.0
"""Length of the stretches by which the return to normal is judged."""
MIN_RSS_SAMPLES = 10


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing asked of a server.

    Attributes:
        scenario: Its name.
        subject: What is looked at.
        asked: What it should be, in words.
        found: What it was, in words.
        holds: Whether the one is the other.
    """

    scenario: str
    subject: str
    asked: str
    found: str
    holds: bool

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def check_generator(scenario: str, recording: Recording) -> Check:
    """Ask that the generator kept its schedule; otherwise the scenario says nothing."""
    lag_ns = quantile(recording.lag_ns, 0.99)
    return Check(
        scenario=scenario,
        subject="lag of the generator, p99",
        asked=f"at most {MAX_LAG_NS / 1e6:g} ms, else the scenario is void",
        found=f"{lag_ns / 1e6:.2f} ms",
        holds=lag_ns <= MAX_LAG_NS,
    )


def check_errors(scenario: str, recording: Recording) -> Check:
    """Ask that every request was answered or cleanly refused."""
    errors = recording.select(recording.is_error)
    kinds = ", ".join(f"{name}: {count}" for name, count in errors.count_statuses().items())
    return Check(
        scenario=scenario,
        subject="requests neither answered nor refused",
        asked="0",
        found=f"{len(errors):,} of {len(recording):,}" + (f" ({kinds})" if kinds else ""),
        holds=not len(errors),
    )


def check_few_refused(scenario: str, recording: Recording) -> Check:
    """Ask that a server below its capacity refuses next to nothing."""
    refused = int(recording.is_refused.sum())
    return Check(
        scenario=scenario,
        subject="requests refused",
        asked=f"at most {ALLOWED_SHARE:.0%}",
        found=f"{refused:,} of {len(recording):,}",
        holds=refused <= ALLOWED_SHARE * len(recording),
    )


def check_rss(scenario: str, samples_bytes: Sequence[int]) -> Check:
    """Ask that memory does not grow: median of the last tenth against that of the first.

    Args:
        scenario: Its name.
        samples_bytes: Resident set of the worker, at regular times from after the warm-up on.
    """
    if len(samples_bytes) < MIN_RSS_SAMPLES:
        found, holds = f"only {len(samples_bytes)} samples", False
    else:
        tenth = max(1, len(samples_bytes) // 10)
        first, last = (
            quantile(part, 0.5) for part in (samples_bytes[:tenth], samples_bytes[-tenth:])
        )
        drift_mb = (last - first) / 1e6
        found = f"{drift_mb:+.1f} MB, {last / 1e6:.0f} MB in the end"
        holds = drift_mb < MAX_RSS_DRIFT_MB
    return Check(
        scenario=scenario,
        subject="growth of the resident set",
        asked=f"below {MAX_RSS_DRIFT_MB:g} MB",
        found=found,
        holds=holds,
    )


def check_overload(
    scenario: str, recording: Recording, *, overload_s: float, slo_ms: float
) -> list[Check]:
    """Ask that a server above its capacity refuses soon, serves well what it takes, and recovers.

    Args:
        scenario: Its name.
        recording: Of the overload, and a load below the capacity behind it.
        overload_s: Length of the overload.
        slo_ms: Most that the p99 may be without one.
    """
    is_during = recording.scheduled_ns < overload_s * 1e9
    refused = recording.select(is_during & recording.is_refused)
    accepted = recording.select(is_during & recording.is_ok)
    recovery_s = find_recovery_s(recording, from_s=overload_s, slo_ms=slo_ms)
    return [
        Check(
            scenario=scenario,
            subject="share refused",
            asked="more than none: otherwise it was no overload",
            found=f"{len(refused) / max(1, int(is_during.sum())):.0%}",
            holds=len(refused) > 0,
        ),
        _check_p99(scenario, "time to a refusal, p99", refused, MAX_REFUSAL_MS),
        _check_p99(scenario, "latency of what was accepted, p99", accepted, 2 * slo_ms),
        Check(
            scenario=scenario,
            subject="back to normal behind the overload",
            asked=f"within {MAX_RECOVERY_S:g} s",
            found="never" if recovery_s is None else f"{recovery_s:.0f} s",
            holds=recovery_s is not None and recovery_s <= MAX_RECOVERY_S,
        ),
    ]


def find_recovery_s(recording: Recording, *, from_s: float, slo_ms: float) -> float | None:
    """Return how long behind `from_s` the first whole normal second begins; None for never.

    A second is normal where at most 1 % of its requests were late or not answered.
    """
    seconds = (recording.scheduled_ns / 1e9 - from_s) / WINDOW_S
    is_good = recording.is_ok & (recording.latency_ns <= slo_ms * 1e6)
    last = int(np.floor(seconds.max())) if len(seconds) else 0
    for number in range(last):  # the last one is not whole
        mine = (seconds >= number) & (seconds < number + 1)
        if mine.any() and (~is_good[mine]).sum() <= ALLOWED_SHARE * mine.sum():
            return number * WINDOW_S
    return None


def count_outcomes(recording: Recording) -> dict[str, int]:
    """Return how many requests were answered, refused, unread, not connected, lost, or other.

    Lost: the server had read the whole request, and did not answer. Unread: its connection was
    closed before the server read it, as happens where a client and a server part at the same
    moment; it may be sent again without risk.
    """
    status = recording.status
    outcomes = {
        "answered": recording.is_ok,
        "refused": recording.is_refused,
        "unread": status == Failure.NOT_READ,
        "not connected": status == Failure.NOT_CONNECTED,
        "lost": find_lost(recording),
    }
    counted = {name: int(mask.sum()) for name, mask in outcomes.items()}
    return {**counted, "other": len(recording) - sum(counted.values())}


def check_drain(
    scenario: str, recordings: Sequence[Recording], codes: Sequence[int]
) -> list[Check]:
    """Ask that no SIGTERM under load loses an accepted request.

    Args:
        scenario: Its name.
        recordings: One a SIGTERM.
        codes: Exit codes of the servers.
    """
    totals = _add_outcomes(recordings)
    bad = [code for code in codes if code]
    return [
        _check_lost(scenario, "accepted requests lost", totals),
        Check(
            scenario=scenario,
            subject="exit codes",
            asked=f"{len(codes)} times 0",
            found=f"{len(codes) - len(bad)} times 0"
            + (f", also {sorted(set(bad))}" if bad else ""),
            holds=not bad,
        ),
    ]


def check_crash(
    scenario: str,
    recording: Recording,
    kills_ns: Sequence[tuple[int, int]],
    backs_s: Sequence[float],
    bound_s: float = MAX_RESTART_S,
) -> list[Check]:
    """Ask that a killed worker loses only what was in its hands, and is soon replaced.

    Args:
        scenario: Its name.
        recording: Of a load over all kills.
        kills_ns: `perf_counter_ns` right before and behind each kill.
        backs_s: How long each replacement took.
        bound_s: How long it may take.
    """
    lost = find_lost(recording)
    in_flight = np.zeros_like(lost)
    for before_ns, behind_ns in kills_ns:
        in_flight |= (recording.sent_ns <= behind_ns - recording.start_ns) & (
            recording.last_ns >= before_ns - recording.start_ns
        )
    totals = count_outcomes(recording)
    slowest = max(backs_s, default=float("inf"))
    return [
        Check(
            scenario=scenario,
            subject="requests lost that were not in flight at a kill",
            asked="0",
            found=f"{int((lost & ~in_flight).sum())}; in flight were "
            f"{int((lost & in_flight).sum())} in {len(kills_ns)} kills; {_format_outcomes(totals)}",
            holds=not (lost & ~in_flight).any() and not totals["other"],
        ),
        Check(
            scenario=scenario,
            subject="a killed worker is replaced",
            asked=f"within {bound_s:.3g} s, {len(kills_ns)} times",
            found=f"{len(backs_s)} times, the slowest in {slowest:.2f} s",
            holds=len(backs_s) == len(kills_ns) and slowest <= bound_s,
        ),
    ]


def check_swap(scenario: str, swaps_s: Sequence[float | None]) -> Check:
    """Ask that every new version was soon served.

    Args:
        scenario: Its name.
        swaps_s: From publishing a version to its being served; None for never.
    """
    times = [time_s for time_s in swaps_s if time_s is not None]
    found = f"{len(times)} of {len(swaps_s)}"
    return Check(
        scenario=scenario,
        subject="new versions served",
        asked=f"{len(swaps_s)}, each within {MAX_SWAP_S:g} s",
        found=f"{found}, the slowest in {max(times):.1f} s" if times else found,
        holds=len(times) == len(swaps_s) and max(times, default=0.0) <= MAX_SWAP_S,
    )


def find_lost(recording: Recording) -> Mask:
    """Return which requests the server had accepted and did not answer."""
    return np.isin(recording.status, LOST)


def _check_p99(scenario: str, subject: str, recording: Recording, limit_ms: float) -> Check:
    p99_ms = quantile(recording.latency_ns, 0.99) / 1e6 if len(recording) else None
    return Check(
        scenario=scenario,
        subject=subject,
        asked=f"at most {limit_ms:g} ms",
        found="nothing to measure" if p99_ms is None else f"{p99_ms:.1f} ms",
        holds=p99_ms is not None and p99_ms <= limit_ms,
    )


def _check_lost(scenario: str, subject: str, totals: dict[str, int]) -> Check:
    return Check(
        scenario=scenario,
        subject=subject,
        asked="0",
        found=_format_outcomes(totals),
        holds=not totals["lost"] and not totals["other"],
    )


def _add_outcomes(recordings: Sequence[Recording]) -> dict[str, int]:
    counted = [count_outcomes(recording) for recording in recordings]
    return {name: sum(one[name] for one in counted) for name in counted[0]}


def _format_outcomes(totals: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in totals.items())
