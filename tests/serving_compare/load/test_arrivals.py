from __future__ import annotations

import numpy as np
import pytest

from serving_compare.load.arrivals import Phase, draw_arrivals


def test_the_same_seed_gives_the_same_arrivals_and_another_seed_others() -> None:
    phases = [Phase(1000, 1.0)]
    assert draw_arrivals(phases, seed=1).tolist() == draw_arrivals(phases, seed=1).tolist()
    assert draw_arrivals(phases, seed=1).tolist() != draw_arrivals(phases, seed=2).tolist()


def test_gaps_are_exponential_with_the_mean_of_the_rate() -> None:
    arrivals = draw_arrivals([Phase(2000, 20.0)], seed=1)
    gaps = np.diff(arrivals) / 1e9 * 2000
    assert arrivals.dtype == np.int64
    assert (np.diff(arrivals) >= 0).all()
    # 40,000 gaps: mean and spread of an exponential law are both 1, within 5 standard errors.
    assert abs(gaps.mean() - 1) < 0.025
    assert abs(gaps.std() - 1) < 0.05
    assert abs((gaps > 1).mean() - np.exp(-1)) < 0.0125


def test_phases_follow_each_other() -> None:
    arrivals = draw_arrivals([Phase(100, 1.0), Phase(5000, 0.5), Phase(1, 0.1)], seed=4)
    counts, _ = np.histogram(arrivals, [0, 1e9, 1.5e9, 1.6e9])
    assert counts.tolist() == [100, 2500, 1]  # never fewer than one
    assert (np.diff(arrivals) >= 0).all()


@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan")])
def test_a_rate_and_a_duration_must_be_positive(value: float) -> None:
    with pytest.raises(ValueError, match="rate_per_s: expected a positive number, found"):
        draw_arrivals([Phase(value, 1.0)], seed=1)
    with pytest.raises(ValueError, match="duration_s: expected a positive number, found"):
        draw_arrivals([Phase(1.0, value)], seed=1)
