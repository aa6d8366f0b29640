"""Measures over logits, against scikit-learn and against sums done by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from pipeline.evaluation.measures import (
    BINS,
    Bin,
    SplitMeasures,
    log_softmax,
    measure_bins,
    measure_brier,
    measure_calibration,
    measure_ece,
    measure_nll,
    measure_split,
    rank_classes,
)

NAMES = ("cat", "dog", "fox", "owl")


def make_split(rows: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are often right, and labels; nothing has the label `owl`."""
    rng = np.random.default_rng(0)
    labels = rng.choice(3, rows, p=[0.6, 0.3, 0.1])
    logits = rng.normal(0, 1.5, (rows, 4))
    logits[np.arange(rows), labels] += 2.0
    return logits, labels


LOGITS, LABELS = make_split()
PROBABILITIES = np.exp(log_softmax(LOGITS))


@pytest.fixture(scope="module")
def measured() -> SplitMeasures:
    return measure_split(LOGITS, LABELS, label_names=NAMES, k=2)


def test_accuracies_and_scores_are_those_of_scikit_learn(measured: SplitMeasures) -> None:
    answers = LOGITS.argmax(axis=1)
    assert measured.rows == 600
    assert measured.top_1.value == metrics.accuracy_score(LABELS, answers)
    assert measured.top_k.value == pytest.approx(
        metrics.top_k_accuracy_score(LABELS, LOGITS, k=2, labels=range(4))
    )
    assert measured.nll == pytest.approx(metrics.log_loss(LABELS, PROBABILITIES, labels=range(4)))
    assert measured.top_1.low < measured.top_1.value < measured.top_1.high


def test_classes_and_confusion_are_those_of_scikit_learn(measured: SplitMeasures) -> None:
    answers = LOGITS.argmax(axis=1)
    expected = metrics.precision_recall_fscore_support(
        LABELS, answers, labels=range(4), zero_division=0
    )
    found = [(one.precision, one.recall, one.f1, one.support) for one in measured.classes]
    np.testing.assert_allclose(np.array(found).T, np.array(expected))
    matrix = np.zeros((4, 4), int)
    for right, answer, count in measured.confusion:
        matrix[right, answer] = count
    np.testing.assert_array_equal(
        matrix, metrics.confusion_matrix(LABELS, answers, labels=range(4))
    )


def test_means_over_classes_leave_out_those_that_the_split_does_not_hold(
    measured: SplitMeasures,
) -> None:
    answers = LOGITS.argmax(axis=1)
    assert measured.classes[3].support == 0
    assert measured.classes[3].predicted > 0
    assert measured.macro_f1 == pytest.approx(
        metrics.f1_score(LABELS, answers, labels=range(3), average="macro")
    )
    assert measured.balanced_accuracy == pytest.approx(
        metrics.recall_score(LABELS, answers, labels=range(3), average="macro")
    )


def test_the_brier_score_is_summed_over_the_classes() -> None:
    one_hot = np.eye(4)[LABELS]
    assert measure_brier(LOGITS, LABELS) == pytest.approx(
        ((PROBABILITIES - one_hot) ** 2).sum(axis=1).mean()
    )
    assert measure_brier(np.array([[50.0, 0.0]]), np.array([1])) == pytest.approx(2.0)


def test_bins_hold_equally_many_texts_least_sure_first() -> None:
    bins = measure_bins(PROBABILITIES.max(axis=1), LOGITS.argmax(axis=1) == LABELS)
    assert [one.rows for one in bins] == [40] * BINS
    assert [one.confidence for one in bins] == sorted(one.confidence for one in bins)
    assert len(measure_bins(np.array([0.5, 0.7]), np.array([True, False]))) == 2


def test_the_calibration_error_weighs_bins_by_their_texts() -> None:
    bins = (
        Bin(rows=30, confidence=0.5, accuracy=0.6),
        Bin(rows=10, confidence=0.9, accuracy=0.7),
    )
    assert measure_ece(bins) == pytest.approx((30 * 0.1 + 10 * 0.2) / 40)


def test_probabilities_that_mean_what_they_say_have_a_small_error() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 4))
    probabilities = np.exp(log_softmax(logits))
    labels = (rng.random((20_000, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
    assert measure_calibration(logits, labels)["ece"] < 0.02
    assert measure_calibration(2 * logits, labels)["ece"] > 0.1
    assert measure_calibration(2 * logits, labels)["nll"] > measure_nll(logits, labels)


def test_answers_are_ranked_and_of_equals_the_lower_id_comes_first() -> None:
    ranked = rank_classes(np.array([[1.0, 3.0, 3.0, 2.0]]), 3)
    assert ranked.tolist() == [[1, 2, 3]]
    assert ranked.dtype == np.int32
    assert rank_classes(np.zeros((2, 4)), 9).shape == (2, 4)


def test_large_logits_overflow_nothing() -> None:
    assert measure_nll(np.array([[1e4, 0.0]]), np.array([1])) == pytest.approx(1e4)
