"""The highest rate a server holds: when a probe holds, and the search for the last one that does.

A probe holds if at most 1 % of its requests were late or refused, and none failed: the p99 over all
requests is within the limit, a refusal counting as an answer that never came. A probe during which
the generator itself was late says nothing and is repeated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from serving_compare.load.recording import Recording
from serving_compare.statistics import quantile

MAX_LAG_NS = 1_000_000
"""A generator whose p99 of lag is above this did not keep its schedule."""
ALLOWED_SHARE = 0.01
"""Of requests late or refused: what lies above the 99th percentile."""
MAX_VOID = 3
"""How often a void probe is repeated at one rate before the search gives up on it."""
MIN_RATE_PER_S = 1.0
MAX_RATE_PER_S = 100_000.0
"""More than one Python process can send: what the search cannot pass."""

Limit = Literal["slo", "errors", "generator"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one probe says about one rate.

    Attributes:
        is_valid: Whether the generator kept its schedule.
        holds: Whether the server did; False where the probe is void.
        limited_by: What it did not hold by; None where it holds.
    """

    is_valid: bool
    holds: bool
    limited_by: Limit | None


def judge_probe(recording: Recording, *, slo_ns: float) -> Verdict:
    """Return whether a server held a rate.

    Args:
        recording: Of an open loop with at least one request.
        slo_ns: Most that the p99 of the latency may be.
    """
    if is_void(recording):
        return Verdict(is_valid=False, holds=False, limited_by="generator")
    allowed = ALLOWED_SHARE * len(recording.status)
    late = int((recording.is_ok & (recording.latency_ns > slo_ns)).sum())
    refused = int(recording.is_refused.sum())
    failed = int(recording.is_error.sum())
    if not failed and late + refused <= allowed:
        return Verdict(is_valid=True, holds=True, limited_by=None)
    # Requests that were refused because others were late are the lateness's doing.
    limited_by: Limit = "errors" if failed or (refused > allowed and not late) else "slo"
    return Verdict(is_valid=True, holds=False, limited_by=limited_by)


def is_void(recording: Recording) -> bool:
    """Return whether the generator was too late itself for the run to say anything."""
    return quantile(recording.lag_ns, 0.99) > MAX_LAG_NS


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What a search found.

    Attributes:
        rate_per_s: The highest rate that held; None where none did.
        limited_by: Why the next higher one did not.
    """

    rate_per_s: float | None
    limited_by: Limit


def search_capacity(
    probe: Callable[[float], Verdict],
    *,
    start_per_s: float,
    growth: float = 2.0,
    precision: float = 1.05,
    attempts: int = 2,
    max_probes: int = 60,
) -> Capacity:
    """Find the highest rate that holds: by growing steps, then by bisection.

    A machine shared with others has moments in which nothing holds. So a rate counts as too high
    only when it failed `attempts` times.

    Args:
        probe: Measures one rate.
        start_per_s: The first rate tried.
        growth: Factor of the first step, up while rates hold, down while they do not; each further
            step is a power higher, so that a search that begins far off does not crawl.
        precision: Bisect (geometrically) until the lowest rate that failed is at most so many
            times the highest that held.
        attempts: How often a rate may fail before it counts.
        max_probes: The search ends with what it has behind so many.
    """
    probes_left = max_probes

    def judge(rate_per_s: float) -> Verdict:
        nonlocal probes_left
        failed = void = 0
        while True:
            probes_left -= 1
            verdict = probe(rate_per_s)
            if verdict.holds:
                return verdict
            failed += verdict.is_valid
            void += not verdict.is_valid
            if failed >= attempts or void > MAX_VOID or probes_left <= 0:
                return verdict

    held: float | None = None
    too_high: float | None = None
    limited_by: Limit = "generator"
    step = growth
    rate = min(max(start_per_s, MIN_RATE_PER_S), MAX_RATE_PER_S)
    while probes_left > 0:
        verdict = judge(rate)
        if verdict.holds:
            held = rate
        else:
            too_high = rate
            limited_by = verdict.limited_by or limited_by
        if held is None:
            if rate <= MIN_RATE_PER_S:
                break
            rate = max(rate / step, MIN_RATE_PER_S)
            step *= growth
        elif too_high is None:
            if rate >= MAX_RATE_PER_S:
                break
            rate = min(rate * step, MAX_RATE_PER_S)
            step *= growth
        elif too_high / held > precision:
            rate = math.sqrt(too_high * held)
        else:
            break
    return Capacity(rate_per_s=held, limited_by=limited_by)
