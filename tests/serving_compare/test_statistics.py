from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving_compare.statistics import (
    MIN_SAMPLES_P99,
    bootstrap_quantile,
    compare_rounds,
    compare_slices,
    quantile,
    summarise_cell,
)

times = st.lists(st.integers(1, 10**9), min_size=1, max_size=40)
medians = st.lists(st.integers(1, 10**9), min_size=1, max_size=12)


def test_quantile_is_a_measured_value():
    assert quantile([1, 2, 3, 4], 0.5) == 2
    assert quantile(list(range(1, 101)), 0.99) == 99


def test_median_and_p99_of_known_samples():
    rounds = [np.arange(1, 10_001), np.arange(10_001, 20_001)]
    summary = summarise_cell(rounds, is_single_call=True)
    assert (summary.median_ns, summary.p99_ns) == (10_000, 19_800)
    assert summary.samples == 20_000
    assert summary.ci95_ns is not None
    assert summary.ci95_ns[0] <= 10_000 <= summary.ci95_ns[1]


def test_p99_needs_ten_thousand_samples():
    few = summarise_cell([np.arange(1, MIN_SAMPLES_P99)], is_single_call=True)
    enough = summarise_cell([np.arange(1, MIN_SAMPLES_P99 + 1)], is_single_call=True)
    assert few.p99_ns is None
    assert few.p99_reason == "9999 samples, 10000 needed"
    assert (enough.p99_ns, enough.p99_reason) == (9900, None)


def test_means_of_several_calls_have_no_p99():
    summary = summarise_cell([np.ones(20_000)], is_single_call=False)
    assert (summary.p99_ns, summary.p99_reason) == (None, "samples are means of several calls")


def test_one_round_has_no_interval_and_is_not_called_stable():
    summary = summarise_cell([np.arange(1, 10)], is_single_call=True)
    assert summary.ci95_ns is None
    assert not summary.is_stable


@pytest.mark.parametrize(("last", "is_stable"), [(110, True), (111, False)])
def test_rounds_more_than_a_tenth_apart_are_unstable(last: int, is_stable: bool):
    rounds = [np.full(5, 100), np.full(5, 100), np.full(5, last)]
    assert summarise_cell(rounds, is_single_call=True).is_stable is is_stable


def test_no_sample_is_dropped():
    summary = summarise_cell([np.array([1, 1, 1, 10**12])] * 3, is_single_call=True)
    assert summary.samples == 12


def test_same_samples_give_the_same_interval():
    rounds = [np.random.default_rng(r).integers(100, 200, 50) for r in range(6)]
    assert bootstrap_quantile(rounds, 0.5) == bootstrap_quantile(rounds, 0.5)


def test_bootstrap_agrees_with_resampling_written_out():
    rounds = [np.random.default_rng(r).integers(100 + 5 * r, 200, 30 + r) for r in range(6)]
    random = np.random.default_rng(0)
    weights = random.multinomial(6, np.full(6, 1 / 6), size=4000)
    resampled = [
        quantile(np.concatenate([np.tile(r, w) for r, w in zip(rounds, row, strict=True)]), 0.5)
        for row in weights
    ]
    interval = bootstrap_quantile(rounds, 0.5)
    assert interval is not None
    # Expanded tail for six rounds: Phi(-sqrt(6/5) * 2.5706) = 0.24 %.
    tail = 0.002429
    assert interval == (quantile(resampled, tail), quantile(resampled, 1 - tail))


@settings(deadline=None, max_examples=40)
@given(st.lists(times, min_size=2, max_size=8), st.sampled_from([0.5, 0.99]))
def test_interval_contains_the_quantile(rounds: list[list[int]], share: float):
    arrays = [np.array(values) for values in rounds]
    interval = bootstrap_quantile(arrays, share, resamples=200)
    assert interval is not None
    assert interval[0] <= quantile(np.concatenate(arrays), share) <= interval[1]


@settings(deadline=None, max_examples=30)
@given(medians)
def test_identical_rounds_give_ratio_one_and_no_claim(values: list[int]):
    paired = compare_rounds(values, values)
    assert paired.ratio == pytest.approx(1)
    assert paired.winner is None


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)), min_size=2, max_size=9))
def test_swapping_the_backends_gives_the_reciprocal(pairs: list[tuple[int, int]]):
    first, second = zip(*pairs, strict=True)
    forth, back = compare_rounds(first, second), compare_rounds(second, first)
    assert forth.ratio == pytest.approx(1 / back.ratio)
    assert forth.ci95 is not None
    assert forth.ci95[0] <= forth.ratio * (1 + 1e-12)
    assert forth.ratio <= forth.ci95[1] * (1 + 1e-12)


def test_a_clear_win_is_claimed_for_the_faster_one():
    paired = compare_rounds([200, 202, 198, 201, 199, 200], [100, 101, 99, 100, 100, 101])
    assert paired.ratio == pytest.approx(2, rel=0.01)
    assert paired.winner == 1
    assert compare_rounds([100] * 6, [200] * 6).winner == 0


def test_an_interval_across_one_claims_nothing():
    paired = compare_rounds([90, 110, 95, 105, 92, 108], [100] * 6)
    assert paired.ci95 is not None
    assert paired.ci95[0] < 1 < paired.ci95[1]
    assert paired.winner is None


def test_five_rounds_are_too_few_to_claim_a_win():
    assert compare_rounds([200] * 5, [100] * 5).winner is None
    assert compare_rounds([200] * 6, [100] * 6).winner == 1


def test_interval_covers_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        first = np.exp(random.normal(0, 0.05, 6))
        interval = compare_rounds(list(first), [1.0] * 6).ci95
        assert interval is not None
        hits += interval[0] <= 1 <= interval[1]
    # 95 % of 400 is 380; plain percentiles reach 88 %.
    assert 368 <= hits <= 396


def test_unpaired_rounds_are_refused():
    with pytest.raises(ValueError, match=r"expected 2 rounds as in first_ns .* found 1\."):
        compare_rounds([1, 2], [1])


def test_slices_are_paired_within_their_round():
    # The machine halves its speed in every other slice; both backends feel it.
    mood = np.array([1.0, 2.0, 1.0, 2.0])
    paired = compare_slices([300 * mood] * 6, [100 * mood] * 6)
    assert paired.ratio == pytest.approx(3)
    assert paired.spread == pytest.approx(0)
    assert (paired.winner, paired.is_stable) == (1, True)


def test_one_wild_slice_of_a_round_does_not_move_its_ratio():
    wild = [np.array([300.0, 310.0, 9000.0])] * 6
    assert compare_slices(wild, [np.array([100.0, 100.0, 100.0])] * 6).ratio == pytest.approx(3.1)


def test_one_wild_round_does_not_move_the_ratio_and_widens_its_interval():
    calm, wild = [np.array([300.0, 303.0])] * 5, [np.array([900.0, 909.0])]
    paired = compare_slices([*calm, *wild], [np.array([100.0, 101.0])] * 6)
    assert paired.ratio == pytest.approx(3)
    assert paired.ci95 == pytest.approx((3, 9))


def test_the_interval_of_slices_holds_the_ratio_and_turns_over_with_it():
    random = np.random.default_rng(1)
    for _ in range(20):
        first, second = [[random.lognormal(size=4) for _ in range(6)] for _ in range(2)]
        forth, back = compare_slices(first, second), compare_slices(second, first)
        assert forth.ci95 is not None
        assert back.ci95 is not None
        assert forth.ci95[0] <= forth.ratio <= forth.ci95[1]
        assert forth.ci95 == pytest.approx((1 / back.ci95[1], 1 / back.ci95[0]))


def test_swapping_two_backends_gives_the_reciprocal_for_an_even_number_of_slices_too():
    random = np.random.default_rng(0)
    first, second = [[random.lognormal(size=4) for _ in range(6)] for _ in range(2)]
    forth, back = compare_slices(first, second), compare_slices(second, first)
    assert forth.ratio == pytest.approx(1 / back.ratio, rel=1e-12)
    assert forth.spread == pytest.approx(back.spread, rel=1e-9)


def test_ratios_of_rounds_that_differ_are_unstable():
    paired = compare_rounds([200.0, 240.0, 200.0], [100.0, 100.0, 100.0])
    assert paired.spread == pytest.approx(0.2)
    assert not paired.is_stable
    assert not compare_rounds([200.0], [100.0]).is_stable


def test_unlike_slices_are_refused():
    with pytest.raises(
        ValueError, match=r"expected rounds of \[2\] slices as in first_ns .* \[1\]"
    ):
        compare_slices([np.ones(2)], [np.ones(1)])


def test_a_slow_stretch_weighs_no_less_for_holding_fewer_samples():
    rounds = [np.array([100.0] * 90 + [200.0] * 10 + [200.0] * 10)]
    slices = [np.array([100.0, 200.0, 200.0])]
    summary = summarise_cell(rounds, is_single_call=True, slice_medians_ns=slices)
    assert summary.median_ns == 200
    assert summarise_cell(rounds, is_single_call=True).median_ns == 100
