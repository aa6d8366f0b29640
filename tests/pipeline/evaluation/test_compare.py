"""Two models on the same texts."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.evaluation.compare import compare_predictions
from pipeline.evaluation.predictions import Predictions
from pipeline.run_folder import RunError

LABELS = np.zeros(200, np.int64)


def answer(right: int, among: int, *, fingerprint: str = "f" * 20) -> Predictions:
    """Answers that have the label 0 first for `right` texts, and second up to `among`."""
    top_ids = np.array(
        [[0, 1]] * right + [[1, 0]] * (among - right) + [[1, 2]] * (200 - among), np.int32
    )
    return Predictions(top_ids=top_ids, fingerprint=fingerprint)


def test_top_1_and_top_k_are_compared_text_by_text() -> None:
    first, second = compare_predictions(
        answer(150, 180), answer(120, 182), LABELS, names=("a", "b"), k=2
    )
    assert (first.k, first.first, first.second) == (1, 0.75, 0.6)
    assert (first.only_first, first.only_second) == (30, 0)
    assert first.difference.value == pytest.approx(0.15)
    assert first.difference.excludes_zero
    assert (second.k, second.only_first, second.only_second) == (2, 0, 2)
    assert not second.difference.excludes_zero


def test_k_of_1_is_compared_once() -> None:
    assert len(compare_predictions(answer(9, 9), answer(9, 9), LABELS, names=("a", "b"), k=1)) == 1


def test_models_of_other_data_are_not_compared() -> None:
    with pytest.raises(
        RunError,
        match="a and b: expected two models of the same data, found fingerprints f{12} and 000000",
    ):
        compare_predictions(
            answer(1, 2), answer(1, 2, fingerprint="0" * 64), LABELS, names=("a", "b"), k=2
        )


def test_too_few_answers_are_refused() -> None:
    with pytest.raises(
        RunError, match="b: expected at least 2 answers to each of 200 test texts, found 1 to 200"
    ):
        fewer = Predictions(top_ids=np.zeros((200, 1), np.int32), fingerprint="f" * 20)
        compare_predictions(answer(1, 2), fewer, LABELS, names=("a", "b"), k=2)
    with pytest.raises(RunError, match="a: expected .* 199 test texts, found 2 to 200"):
        compare_predictions(answer(1, 2), answer(1, 2), LABELS[1:], names=("a", "b"), k=2)
