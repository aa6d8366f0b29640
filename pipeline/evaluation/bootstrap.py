"""How sure a share is: percentile intervals of the bootstrap (Efron 1979), alone and in pairs.

Texts are drawn with replacement, as many as there are, ten thousand times. A text counts only by
which of a few outcomes it has, so the counts of a draw are multinomial and are drawn as such: the
same bootstrap, without an index. The seed is fixed: the same answers give the same interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
RESAMPLES = 10_000
_SEED = 1
_TAILS = (2.5, 97.5)
"""Percentiles of a 95 % interval."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference is told from none."""
        return self.low > 0 or self.high < 0


def bootstrap_share(hits: Bools) -> Interval:
    """Return the share of True among (N,) outcomes, N at least 1."""
    rows, right = len(hits), int(hits.sum())
    draws = np.random.default_rng(_SEED).binomial(rows, right / rows, RESAMPLES) / rows
    low, high = np.percentile(draws, _TAILS)
    return Interval(value=right / rows, low=float(low), high=float(high))


def bootstrap_difference(hits: Bools, others: Bools) -> Interval:
    """Return the share of `hits` minus that of `others`, over the same N texts, drawn in pairs."""
    rows = len(hits)
    better, worse = int((hits & ~others).sum()), int((others & ~hits).sum())
    outcomes = np.array([better, worse, rows - better - worse]) / rows
    draws = np.random.default_rng(_SEED).multinomial(rows, outcomes, RESAMPLES)
    low, high = np.percentile((draws[:, 0] - draws[:, 1]) / rows, _TAILS)
    return Interval(value=(better - worse) / rows, low=float(low), high=float(high))
