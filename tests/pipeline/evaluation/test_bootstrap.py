"""Intervals of shares and of their differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap

from pipeline.evaluation.bootstrap import Interval, bootstrap_difference, bootstrap_share

RNG = np.random.default_rng(0)
HITS = RNG.random(400) < 0.8
OTHERS = np.where(RNG.random(400) < 0.9, HITS, ~HITS)


def test_a_share_has_the_interval_that_drawing_the_rows_gives() -> None:
    found = bootstrap_share(HITS)
    by_rows = bootstrap(
        (HITS.astype(float),), np.mean, n_resamples=4000, method="percentile", rng=1
    ).confidence_interval
    assert found.value == HITS.mean()
    assert found.low == pytest.approx(by_rows.low, abs=0.005)
    assert found.high == pytest.approx(by_rows.high, abs=0.005)


def test_a_difference_is_drawn_in_pairs() -> None:
    found = bootstrap_difference(HITS, OTHERS)
    by_rows = bootstrap(
        (HITS.astype(float), OTHERS.astype(float)),
        lambda one, other, axis: one.mean(axis=axis) - other.mean(axis=axis),
        n_resamples=4000,
        paired=True,
        method="percentile",
        rng=1,
    ).confidence_interval
    assert found.value == pytest.approx(HITS.mean() - OTHERS.mean())
    assert found.low == pytest.approx(by_rows.low, abs=0.005)
    assert found.high == pytest.approx(by_rows.high, abs=0.005)
    # Unpaired it would be three times as wide.
    assert (
        found.high - found.low
        < 0.7 * (bootstrap_share(HITS).high - bootstrap_share(HITS).low) * 2**0.5
    )


def test_equal_answers_differ_by_nothing_and_one_sided_ones_exclude_it() -> None:
    same = bootstrap_difference(HITS, HITS)
    assert same == Interval(value=0.0, low=0.0, high=0.0)
    assert not same.excludes_zero
    assert bootstrap_difference(HITS, np.zeros_like(HITS)).excludes_zero
    assert bootstrap_difference(np.zeros_like(HITS), HITS).excludes_zero


def test_the_same_answers_give_the_same_interval() -> None:
    assert bootstrap_share(HITS) == bootstrap_share(HITS[::-1])
    assert bootstrap_share(np.ones(5, bool)) == Interval(value=1.0, low=1.0, high=1.0)
