"""The share of a real step spent waiting: found where there is waiting, and only there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def model() -> Any:
    from pipeline.config import ModelConfig, TrainConfig
    from pipeline.model import build_model
    from pipeline.objective import compile_model

    config = ModelConfig(vocab_size=50, num_classes=3, embed_dim=4, units=4)
    built = build_model(config)
    compile_model(built, TrainConfig(), num_classes=3, total_steps=100)
    return built


def measure(model: Any, *, delay_ms: float) -> Any:
    import tensorflow as tf

    from pipeline.ablation.storage import delay_element
    from pipeline.ablation.waiting import measure_waiting

    batch = tf.ones((8, 5), tf.int32), tf.range(8)
    batches = tf.data.Dataset.from_tensors(batch).repeat()
    if delay_ms:
        batches = batches.flat_map(
            lambda ids, rows: tf.data.Dataset.zip(
                (delay_element(ids, delay_ms), tf.data.Dataset.from_tensors(rows))
            )
        )
    return measure_waiting(
        batches, model, np.arange(8) % 3, steps=10, warm_steps=3, preloaded_steps=10
    )


def test_a_slow_input_is_waited_for_in_nearly_every_moment(model: Any) -> None:
    waiting = measure(model, delay_ms=300.0)
    assert waiting.steps == 10
    assert waiting.wait_share > 0.5
    assert waiting.step_ms > 2 * waiting.preloaded_step_ms


def test_batches_in_memory_are_hardly_waited_for_and_train_the_model(model: Any) -> None:
    before = [weight.numpy().copy() for weight in model.trainable_variables]
    waiting = measure(model, delay_ms=0.0)
    assert waiting.wait_share < 0.5
    assert waiting.step_ms > 0
    assert any(
        not np.array_equal(old, new.numpy())
        for old, new in zip(before, model.trainable_variables, strict=True)
    )
