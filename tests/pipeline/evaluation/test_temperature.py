"""A temperature is found, and folding it into the head changes no answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.evaluation.measures import log_softmax, measure_nll, rank_classes
from pipeline.evaluation.temperature import (
    MAX_TEMPERATURE,
    MIN_ROWS,
    MIN_TEMPERATURE,
    fit_temperature,
    fold_temperature,
)


def draw(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits of 5 classes, and labels drawn by the very probabilities that they give."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (rows, 5))
    chances = np.exp(log_softmax(logits)).cumsum(axis=1)
    labels = (rng.random((rows, 1)) > chances[:, :-1]).sum(axis=1)
    return logits, labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_the_temperature_that_spoilt_the_logits_is_found(temperature: float) -> None:
    logits, labels = draw(20_000)
    assert fit_temperature(logits * temperature, labels) == pytest.approx(temperature, rel=0.03)


def test_no_other_temperature_is_likelier() -> None:
    logits, labels = draw(2000)
    best = fit_temperature(logits * 1.3, labels)
    found = measure_nll(logits * 1.3 / best, labels)
    for other in (best * 0.99, best * 1.01, 1.0):
        assert found < measure_nll(logits * 1.3 / other, labels)


def test_data_told_apart_without_error_gives_the_lowest_temperature_and_noise_the_highest() -> None:
    labels = np.arange(200) % 5
    assert fit_temperature(np.eye(5)[labels], labels) == pytest.approx(MIN_TEMPERATURE, rel=1e-3)
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 9, (500, 5))
    assert fit_temperature(noise, rng.integers(0, 5, 500)) == pytest.approx(
        MAX_TEMPERATURE, rel=1e-3
    )


def test_too_few_rows_leave_the_probabilities_alone() -> None:
    logits, labels = draw(MIN_ROWS)
    assert fit_temperature(3 * logits[1:], labels[1:]) == 1.0
    assert fit_temperature(3 * logits, labels) != 1.0


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.31, 0.8432, 2.7])
def test_folding_divides_the_logits_and_changes_no_answer(temperature: float) -> None:
    from pipeline.config import ModelConfig
    from pipeline.evaluation.logits import predict_logits
    from pipeline.model import build_model

    model: Any = build_model(ModelConfig(vocab_size=50, num_classes=7, embed_dim=8, units=6))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(0, 0.7, weight.shape).astype("float32"))
    rows = [rng.integers(1, 50, rng.integers(1, 12)).tolist() for _ in range(300)]
    before = predict_logits(model, rows)
    fold_temperature(model, temperature)
    after = predict_logits(model, rows)
    np.testing.assert_allclose(after, before / temperature, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(rank_classes(after, 3), rank_classes(before, 3))
    # What Keras itself answers, in the order of the rows.
    for row, logits in list(zip(rows, after, strict=True))[:5]:
        probabilities = model(np.array([row], "int32")).numpy()[0]
        np.testing.assert_allclose(np.exp(log_softmax(logits[None])[0]), probabilities, atol=1e-6)
