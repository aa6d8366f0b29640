"""Our AdamW against Keras's, on an embedding whose rows are looked up many times, and on a bias."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.slow

ROWS, WIDTH, STEPS = 50, 6, 20


def train(kind: Any, **settings: Any) -> list[np.ndarray]:
    """Return the variables, then the optimizer's, after some steps on gradients of unlike size."""
    import keras
    import tensorflow as tf

    rng = np.random.default_rng(0)
    table = keras.Variable(rng.normal(size=(ROWS, WIDTH)).astype("float32"))
    bias = keras.Variable(rng.normal(size=WIDTH).astype("float32"))
    optimizer = kind(1e-2, **settings)
    optimizer.build([table, bias])

    @tf.function
    def step(values: Any, indices: Any) -> None:
        sparse = tf.IndexedSlices(values, indices, tf.constant([ROWS, WIDTH]))
        optimizer.apply([sparse, values[0]], [table, bias])

    for _ in range(STEPS):
        indices = (ROWS * rng.random(40) ** 4).astype("int32")  # row 0 comes many times
        values = (rng.normal(size=(40, WIDTH)) * 10.0 ** rng.integers(-4, 1)).astype("float32")
        step(tf.constant(values), tf.constant(indices))
    return [each.numpy() for each in (table, bias, *optimizer.variables)]


@pytest.mark.parametrize(
    "settings",
    [{"weight_decay": 1e-4}, {"weight_decay": 0.1}, {"weight_decay": 0.0}, {"use_ema": True}],
    ids=str,
)
def test_variables_and_moments_are_those_of_keras(settings: dict[str, Any]) -> None:
    import keras

    from pipeline.fused_adam import FusedAdamW

    for expected, found in zip(
        train(keras.optimizers.AdamW, **settings), train(FusedAdamW, **settings), strict=True
    ):
        # Of second moments, which get the squares of sums taken off again, relative to the largest.
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * scale)


def test_textbook_adam_would_be_told_from_keras() -> None:
    import keras
    import tensorflow as tf

    class Textbook(keras.optimizers.AdamW):
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            super().update_step(tf.convert_to_tensor(gradient), variable, learning_rate)

    found = train(Textbook)[0] - train(keras.optimizers.AdamW)[0]
    assert np.abs(found).max() > 1e-2


def test_what_the_fused_op_does_not_know_is_left_to_keras() -> None:
    import keras

    from pipeline.fused_adam import FusedAdamW

    settings = {"amsgrad": True, "weight_decay": 0.1}
    for expected, found in zip(
        train(keras.optimizers.AdamW, **settings), train(FusedAdamW, **settings), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
