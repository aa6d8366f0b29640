"""Logits: those of the model, in the order of the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.config import ModelConfig

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("shape", [{"pooling": "max"}, {"pooling": "last", "relu": False}], ids=str)
def test_the_softmax_of_the_logits_is_the_models_answer_to_each_row(
    shape: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.evaluation import logits as module
    from pipeline.evaluation.measures import log_softmax
    from pipeline.model import build_model

    monkeypatch.setattr(module, "_BATCH", 4)  # several batches, the last of them shorter
    model = build_model(
        ModelConfig(vocab_size=30, num_classes=5, embed_dim=6, units=4, head_dropout=0.5, **shape)
    )
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(0, 0.7, weight.shape).astype("float32"))
    rows = [rng.integers(1, 30, length).tolist() for length in (3, 1, 7, 2, 2, 9, 1, 4, 5, 1)]
    found = module.predict_logits(model, rows)
    assert found.shape == (10, 5)
    assert found.dtype == np.float64
    for row, values in zip(rows, found, strict=True):
        expected = model(np.array([row], "int32")).numpy()[0]
        np.testing.assert_allclose(np.exp(log_softmax(values[None])[0]), expected, atol=1e-6)
