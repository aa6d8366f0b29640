"""Percentiles, bootstrap intervals, paired ratios. Pure functions of NumPy arrays; nothing dropped.

The unit of resampling is the round, that is one process of each backend: samples of one process
share its memory layout and its neighbours' noise and are far from independent, so an interval
from resampling single calls would be several times too narrow. The bootstrap is written out in
NumPy because scipy.stats.bootstrap cannot resample groups of unlike size, and because weights
over sorted groups need no resampled arrays at all. With the few rounds a comparison has, plain
percentile intervals are too narrow too; they are expanded as T. Hesterberg gives it ("What
Teachers Should Know about the Bootstrap", 2015, section 4.2.3), so that a normal statistic gets
the width of Student's t.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtr, stdtrit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64Array = NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 4000
MIN_SAMPLES_P99 = 10_000
"""Below it, p99 rests on fewer than 100 calls and is printed as n/a."""
MIN_ROUNDS_TO_CLAIM = 6
"""Fewer rounds could all fall on one side by chance in more than 5 % of cases: 2 / 2**5 = 6 %."""
MAX_STABLE_SPREAD = 0.10
"""A cell whose per-round medians lie further apart than this share of their median is unstable."""


@dataclass(frozen=True, kw_only=True)
class CellSummary:
    """One backend in one cell, all rounds together. Times in ns a call.

    Attributes:
        median_ns: Median of the slices' medians; of all samples where no slices are known.
        ci95_ns: Bootstrap interval of it, or None with a single round.
        p99_ns: 99th percentile, or None where `p99_reason` says why not.
        p99_ci95_ns: Its interval.
        p99_reason: Why there is no p99, or None.
        samples: Their number.
        rounds: How many processes they come from.
        spread: (largest - smallest) / median of the per-round medians.
    """

    median_ns: float
    ci95_ns: tuple[float, float] | None
    p99_ns: float | None
    p99_ci95_ns: tuple[float, float] | None
    p99_reason: str | None
    samples: int
    rounds: int
    spread: float

    @property
    def is_stable(self) -> bool:
        """Whether the rounds are shown to agree; a single round shows nothing."""
        return self.rounds >= 2 and self.spread <= MAX_STABLE_SPREAD


@dataclass(frozen=True, kw_only=True)
class PairedRatio:
    """How many times the second backend's time the first one's is, from rounds both took part in.

    Attributes:
        ratio: First over second: the median over slices, or the geometric mean over rounds.
        ci95: Bootstrap interval of it, or None with a single round.
        rounds: Number of pairs.
        winner: 0 or 1, the faster one, or None where the data do not support a claim.
        spread: Largest of the rounds' ratios / smallest, minus 1.
    """

    ratio: float
    ci95: tuple[float, float] | None
    rounds: int
    winner: int | None
    spread: float

    @property
    def is_stable(self) -> bool:
        """Whether the rounds are shown to agree; a single round shows nothing."""
        return self.rounds >= 2 and self.spread <= MAX_STABLE_SPREAD


def quantile(values: Sequence[float] | NDArray[Any], share: float) -> float:
    """Return the smallest value that at least `share` of the values do not exceed.

    No interpolation: what is printed was measured. The median of 1, 2, 3, 4 is 2.
    """
    return float(np.quantile(np.asarray(values), share, method="inverted_cdf"))


def summarise_cell(
    rounds_ns: Sequence[NDArray[Any]],
    *,
    is_single_call: bool,
    slice_medians_ns: Sequence[NDArray[Any]] | None = None,
    seed: int = 0,
) -> CellSummary:
    """Reduce the samples of one cell.

    The median is that of the slices' medians: in a slow stretch a slice holds fewer samples, and
    pooled samples would weigh it less than a fast one.

    Args:
        rounds_ns: One array a round of ns per call, none empty, at least one.
        is_single_call: Whether every sample is one call; a mean of several has no percentiles.
        slice_medians_ns: One array a round of the slices' medians; without them the samples stand
            for themselves.
        seed: Of the resampling: the same raw data give the same report.
    """
    pooled = np.concatenate(list(rounds_ns))
    centres = rounds_ns if slice_medians_ns is None else slice_medians_ns
    medians = [quantile(values, 0.5) for values in centres]
    reason = None
    if not is_single_call:
        reason = "samples are means of several calls"
    elif len(pooled) < MIN_SAMPLES_P99:
        reason = f"{len(pooled)} samples, {MIN_SAMPLES_P99} needed"
    return CellSummary(
        median_ns=quantile(np.concatenate(list(centres)), 0.5),
        ci95_ns=bootstrap_quantile(centres, 0.5, seed=seed),
        p99_ns=None if reason else quantile(pooled, 0.99),
        p99_ci95_ns=None if reason else bootstrap_quantile(rounds_ns, 0.99, seed=seed),
        p99_reason=reason,
        samples=len(pooled),
        rounds=len(rounds_ns),
        spread=(max(medians) - min(medians)) / max(quantile(medians, 0.5), 1e-9),
    )


def bootstrap_quantile(
    rounds: Sequence[NDArray[Any]], share: float, *, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float] | None:
    """Return the 95 % interval of a quantile of all samples, by resampling whole rounds.

    A resample is a weight for each round. Its quantile is found by bisection over the sorted
    samples, for all resamples at once.

    Returns:
        Low and high, always around the quantile itself; None with fewer than two rounds.
    """
    if len(rounds) < 2:
        return None
    pooled = np.sort(np.concatenate(list(rounds)))
    # How many samples of each round do not exceed each pooled one.
    counts = np.stack([np.searchsorted(np.sort(r), pooled, side="right") for r in rounds], axis=1)
    weights, drawn = _draw_weights(len(rounds), resamples, seed)
    needed = share * (weights @ np.array([len(r) for r in rounds]))
    low = np.zeros(len(weights), np.int64)
    high = np.full(len(weights), len(pooled) - 1)
    while np.any(low < high):
        middle = (low + high) // 2
        # A hair of slack: 0.99 * n is not exact in binary.
        is_enough = np.einsum("sr,sr->s", weights, counts[middle]) >= needed * (1 - 1e-12)
        high = np.where(is_enough, middle, high)
        low = np.where(is_enough, low, middle + 1)
    resampled = pooled[low[drawn]].astype(np.float64)
    return _interval(resampled, len(rounds), quantile(pooled, share))


def compare_rounds(
    first_ns: Sequence[float], second_ns: Sequence[float], *, seed: int = 0
) -> PairedRatio:
    """Compare two backends by their per-round medians, paired by round.

    What slowed the machine in one round slowed both and drops out of the ratio. Ratios are averaged
    as logarithms: swapping the two backends gives exactly the reciprocal.

    Args:
        first_ns: Positive medians of the first backend, one a round.
        second_ns: Those of the second, of the same rounds in the same order.
        seed: Of the resampling.
    """
    if len(first_ns) != len(second_ns) or not first_ns:
        raise ValueError(
            f"second_ns: expected {len(first_ns)} rounds as in first_ns and at least one, "
            f"found {len(second_ns)}."
        )
    logs = np.log(np.asarray(first_ns, np.float64)) - np.log(np.asarray(second_ns, np.float64))
    return _compare_logs(logs, seed)


def compare_slices(
    first_ns: Sequence[NDArray[Any]], second_ns: Sequence[NDArray[Any]], *, seed: int = 0
) -> PairedRatio:
    """Compare two backends by the medians of their slices, paired by slice within the round.

    The slices of a pair ran within a second or so of each other: closer than the two halves of a
    round are, which may lie in different moods of the machine. The ratio is the median of all
    slices' ratios, so that a round in an odd mood weighs no more than another, and the round stays
    the unit of chance: the interval resamples whole rounds.

    Args:
        first_ns: Positive medians of the first backend's slices, one array a round.
        second_ns: Those of the second, of the same rounds and slices in the same order.
        seed: Of the resampling.
    """
    counts = [[len(slices) for slices in rounds] for rounds in (first_ns, second_ns)]
    if counts[0] != counts[1] or not counts[0]:
        raise ValueError(
            f"second_ns: expected rounds of {counts[0]} slices as in first_ns and at least one, "
            f"found {counts[1]}."
        )
    logs = [np.log(a) - np.log(b) for a, b in zip(first_ns, second_ns, strict=True)]
    # The mean of the two in the middle: an even number must not favour one side.
    centre = float(np.median(np.concatenate(logs)))
    interval = _interval_of_median(logs, centre, seed)
    medians = np.array([np.median(slices) for slices in logs])
    return _make_ratio(centre, interval, medians)


def _interval_of_median(
    rounds: Sequence[Float64Array], centre: float, seed: int
) -> tuple[float, float] | None:
    """Interval of the median over rounds; of the negated values it is the negated interval."""
    forth = bootstrap_quantile(rounds, 0.5, seed=seed)
    back = bootstrap_quantile([-slices for slices in rounds], 0.5, seed=seed)
    if forth is None or back is None:
        return None
    low, high = (forth[0] - back[1]) / 2, (forth[1] - back[0]) / 2
    return min(low, centre), max(high, centre)


def _compare_logs(logs: Float64Array, seed: int) -> PairedRatio:
    """Average the rounds' logarithms of a ratio and find the interval."""
    rounds = len(logs)
    mean = float(logs.mean())
    interval = None
    if rounds >= 2:
        weights, drawn = _draw_weights(rounds, RESAMPLES, seed)
        interval = _interval((weights @ logs / rounds)[drawn], rounds, mean)
    return _make_ratio(mean, interval, logs)


def _make_ratio(
    centre: float, interval: tuple[float, float] | None, rounds: Float64Array
) -> PairedRatio:
    """Leave the logarithms and name a winner if there is one; `rounds` has one a round."""
    ci95 = None if interval is None else (math.exp(interval[0]), math.exp(interval[1]))
    winner = None
    if ci95 is not None and len(rounds) >= MIN_ROUNDS_TO_CLAIM:
        winner = 1 if ci95[0] > 1 else 0 if ci95[1] < 1 else None
    return PairedRatio(
        ratio=math.exp(centre),
        ci95=ci95,
        rounds=len(rounds),
        winner=winner,
        spread=math.expm1(float(rounds.max() - rounds.min())),
    )


@functools.lru_cache(maxsize=8)
def _draw_weights(
    rounds: int, resamples: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How often each round is drawn in a resample.

    Returns:
        The distinct weights, (W, rounds), and which of them each resample has, (resamples,). Six
        rounds can be drawn in 462 ways only, so most of the work would be done ten times over.
    """
    random = np.random.default_rng(seed)
    weights = random.multinomial(rounds, np.full(rounds, 1 / rounds), size=resamples)
    distinct, drawn = np.unique(weights, axis=0, return_inverse=True)
    return distinct, drawn.reshape(resamples)


def _interval(resampled: Float64Array, rounds: int, point: float) -> tuple[float, float]:
    """Expanded percentile interval of the resampled statistic, widened to hold the point."""
    tail = (1 - CONFIDENCE) / 2
    widened = math.sqrt(rounds / (rounds - 1)) * float(stdtrit(rounds - 1, tail))  # negative
    tail = float(ndtr(widened))
    low = quantile(resampled, tail)
    high = quantile(resampled, 1 - tail)
    return min(low, point), max(high, point)
