"""From logits to temperature, measures, mistakes and predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.config import ModelConfig

pytestmark = pytest.mark.slow

NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def model() -> Any:
    from pipeline.model import build_model

    return build_model(ModelConfig(vocab_size=9, num_classes=3, embed_dim=4, units=3))


def make_scored(rows: int) -> dict[str, Any]:
    from pipeline.evaluation.evaluate import ScoredSplit

    rng = np.random.default_rng(0)
    scored = {}
    for name in ("validation", "test"):
        labels = rng.integers(0, 3, rows)
        logits = rng.normal(0, 1, (rows, 3))
        logits[np.arange(rows), labels] += 1.5
        texts = [f"text {index}" for index in range(rows)]
        scored[name] = ScoredSplit(texts=texts, labels=labels, logits=3 * logits)
    return scored


def test_calibration_tells_of_both_splits_and_divides_model_and_logits_alike(model: Any) -> None:
    from pipeline.evaluation.evaluate import calibrate

    scored = make_scored(500)
    kernel = model.get_layer("head").kernel.numpy()
    calibration, now = calibrate(model, scored)
    temperature = calibration["temperature"]
    assert temperature > 1.5  # the logits were made too large
    assert calibration["note"] is None
    for name in ("validation", "test"):
        before, after = calibration[name]["before"], calibration[name]["after"]
        assert after["nll"] < before["nll"]
        assert after["ece"] < before["ece"]
        np.testing.assert_allclose(now[name].logits, scored[name].logits / temperature)
    np.testing.assert_allclose(model.get_layer("head").kernel.numpy(), kernel / temperature)


def test_too_few_validation_rows_leave_the_model_alone_and_say_so(model: Any) -> None:
    from pipeline.evaluation.evaluate import calibrate

    kernel = model.get_layer("head").kernel.numpy()
    calibration, _ = calibrate(model, make_scored(99))
    assert calibration["temperature"] == 1.0
    assert calibration["note"] == "Not fitted: 99 validation rows, fewer than 100."
    assert calibration["test"]["before"] == calibration["test"]["after"]
    np.testing.assert_array_equal(model.get_layer("head").kernel.numpy(), kernel)


def test_mistakes_are_the_surest_and_predictions_the_first_answers() -> None:
    from pipeline.evaluation.evaluate import NUM_MISTAKES, evaluate_splits, make_predictions

    scored = make_scored(500)
    evaluation = evaluate_splits(
        scored, run="r", fingerprint="f00", label_names=NAMES, k=2, calibration={}
    )
    assert list(evaluation.splits) == ["validation", "test"]
    chances = [mistake.probability for mistake in evaluation.mistakes]
    assert len(chances) == NUM_MISTAKES
    assert chances == sorted(chances, reverse=True)
    assert all(mistake.label != mistake.answer for mistake in evaluation.mistakes)
    first = int(evaluation.mistakes[0].text.split()[1])
    assert NAMES[scored["test"].labels[first]] == evaluation.mistakes[0].label
    predictions = make_predictions(scored["test"], evaluation)
    assert predictions.fingerprint == "f00"
    assert predictions.top_ids.shape == (500, 3)
    assert predictions.probabilities is not None
    np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1, atol=1e-6)
    hits = predictions.top_ids[:, 0] == scored["test"].labels
    assert hits.mean() == evaluation.splits["test"].top_1.value
