"""What a training minimises and how: learning-rate schedule, optimiser, loss and metrics."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from pipeline.config import TrainConfig

WARM_UP_SHARE = 0.3
"""Share of the steps in which the learning rate rises; the rest falls along a cosine."""


@keras.saving.register_keras_serializable(package="gatetable")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to `peak`, then a cosine down to a thousandth of it.

    Args:
        peak: Highest learning rate.
        total_steps: Steps of the whole training.
    """

    def __init__(self, peak: float, total_steps: int) -> None:
        super().__init__()
        self.peak = peak
        self.total_steps = total_steps

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of `step`, a scalar."""
        done = ops.cast(step, "float32") / self.total_steps
        rising = done / WARM_UP_SHARE
        falling = 0.5 * (1.0 + ops.cos(math.pi * (done - WARM_UP_SHARE) / (1.0 - WARM_UP_SHARE)))
        return self.peak * ops.maximum(ops.where(done < WARM_UP_SHARE, rising, falling), 1e-3)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {"peak": self.peak, "total_steps": self.total_steps}


def compile_model(
    model: keras.Model, training: TrainConfig, *, num_classes: int, total_steps: int
) -> None:
    """Compile with AdamW on a one-cycle schedule, label smoothing and the reported metrics."""
    smoothing = training.label_smoothing

    def smoothed_cross_entropy(labels: Any, probabilities: Any) -> Any:
        one_hot = ops.one_hot(ops.cast(ops.reshape(labels, (-1,)), "int32"), num_classes)
        return keras.losses.categorical_crossentropy(
            one_hot, probabilities, label_smoothing=smoothing
        )

    k = training.num_predict
    model.compile(
        optimizer=keras.optimizers.AdamW(
            OneCycle(training.learning_rate, total_steps), weight_decay=training.weight_decay
        ),
        loss=smoothed_cross_entropy,
        metrics=[
            keras.metrics.SparseCategoricalAccuracy(name="top_1"),
            keras.metrics.SparseTopKCategoricalAccuracy(k=k, name=f"top_{k}"),
            # The plain cross entropy: comparable between runs of different smoothing.
            keras.metrics.SparseCategoricalCrossentropy(name="cross_entropy"),
        ],
        jit_compile=training.jit_compile,
    )
