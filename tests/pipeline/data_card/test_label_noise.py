"""Suspect labels: planted ones are found, and the result is always the same."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.data_card import label_noise
from pipeline.data_card.label_noise import NoiseResult, find_label_noise, list_confusions

VOCAB = 60


def make_rows(
    count: int, classes: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows of 8 pieces, six of which only their class uses."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, count)
    own = labels[:, None] * 10 + rng.integers(2, 12, (count, 6))
    ids = np.concatenate([own, rng.integers(2, VOCAB, (count, 2))], axis=1).astype(np.int32)
    return ids.ravel(), np.arange(count + 1) * 8, labels


def run(classes: int = 4, flipped: int = 0) -> tuple[NoiseResult, npt.NDArray[np.int64]]:
    ids, starts, labels = make_rows(800, classes)
    wrong = np.arange(0, 800, 800 // flipped)[:flipped] if flipped else np.empty(0, np.int64)
    labels[wrong] = (labels[wrong] + 1) % classes
    found = find_label_noise(ids, starts, labels, vocab_size=VOCAB, num_classes=classes)
    return found, wrong


def test_flipped_labels_are_the_clearest_suspects() -> None:
    found, wrong = run(flipped=20)
    assert len(set(found.suspects[:20].tolist()) & set(wrong.tolist())) >= 18
    assert found.accuracy > 0.9


def test_suspects_are_ordered_by_how_far_the_probabilities_lie_apart() -> None:
    found, _ = run(flipped=20)
    margins = found.suspected_probability - found.given_probability
    assert (np.diff(margins) <= 0).all()
    assert (margins > 0).all()


def test_clean_labels_have_hardly_a_suspect() -> None:
    found, _ = run()
    assert len(found.suspects) < 8


def test_equal_arguments_give_equal_results() -> None:
    one, two = (dataclasses.asdict(run(flipped=20)[0]) for _ in range(2))
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_two_classes_and_classes_without_rows_work() -> None:
    ids, starts, labels = make_rows(400, 2)
    found = find_label_noise(ids, starts, labels * 5, vocab_size=VOCAB, num_classes=9)
    assert found.accuracy > 0.9
    assert set(found.predicted.tolist()) <= {0, 5}


def test_one_class_in_a_half_is_predicted_for_the_other() -> None:
    ids, starts, labels = make_rows(40, 2)
    labels = np.arange(40) % 2  # the halves: even rows, odd rows
    found = find_label_noise(ids, starts, labels, vocab_size=VOCAB, num_classes=2)
    assert found.accuracy == 0.0
    assert found.predicted.tolist() == (1 - labels).tolist()


def test_pieces_share_weights_where_classes_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_noise, "_MAX_WEIGHTS", 4 * 16)
    found, _ = run()  # 16 weights a class for 60 pieces
    assert 0.3 < found.accuracy < 0.9


def test_confusions_are_ranked_by_rows() -> None:
    given = np.array([0, 0, 0, 1, 1, 2, 2])
    predicted = np.array([1, 1, 0, 0, 1, 0, 1])
    assert list_confusions(given, predicted, limit=2) == [(0, 1, 2), (1, 0, 1)]
    assert list_confusions(given, given, limit=2) == []
