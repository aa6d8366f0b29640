"""The linear classifier."""

from __future__ import annotations

import numpy as np

from pipeline.baselines.linear_svm import score_by_svm


def test_words_of_one_letter_are_learned_among_three_classes() -> None:
    texts = [f"{letter} {number}" for letter in "xyz" for number in range(20)]
    labels = [index for index in range(3) for _ in range(20)]
    scores = score_by_svm((texts, labels), {"test": ["x 99", "z 99", "y"]}, num_classes=3)
    assert scores["test"].argmax(axis=1).tolist() == [0, 2, 1]


def test_two_classes_of_three_leave_the_third_last() -> None:
    train = (["cat", "dog"] * 10, [0, 2] * 10)
    scores = score_by_svm(train, {"test": ["cat", "dog"]}, num_classes=3)["test"]
    assert scores.argmax(axis=1).tolist() == [0, 2]
    assert np.isneginf(scores[:, 1]).all()
