"""What a training minimises and how: learning-rate schedule, optimiser, loss and metrics.

Also the weights of the classes in the loss, and the moving average of the model's weights: kept
by the optimiser, put into the model for each validation and taken out again behind it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from pipeline.config import ClassWeights, TrainConfig
from pipeline.fused_adam import FusedAdamW

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


@keras.saving.register_keras_serializable(package="gatetable")
class AveragingAdamW(FusedAdamW):
    """AdamW that keeps a moving average of the weights and leaves it to the caller to use it.

    Keras's own puts the average into the model at the end of each `fit`; a resumed training fits
    the rest of its first epoch by itself, and has to go on from the weights as they were.
    """

    def finalize_variable_values(self, var_list: list[keras.Variable]) -> None:
        """Leave the weights as they are."""


def use_averaged_weights(model: keras.Model) -> None:
    """Put the moving average into the weights, for good; no-op where none is kept."""
    if model.optimizer.use_ema:
        model.optimizer._overwrite_model_variables_with_average_value(model.trainable_variables)


class AverageValidator(keras.callbacks.Callback):
    """Validates the averaged weights: puts them in before, and the trained ones back behind it.

    Keras's `SwapEMAWeights` swaps in place by adding and subtracting, which rounds the weights
    anew at each validation.
    """

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Put the averages in."""
        self._trained = [weight.numpy() for weight in self.model.trainable_variables]
        use_averaged_weights(self.model)

    def on_test_end(self, logs: dict[str, float] | None = None) -> None:
        """Put the trained weights back."""
        for weight, value in zip(self.model.trainable_variables, self._trained, strict=True):
            weight.assign(value)
        self._trained = []


def weigh_classes(counts: Sequence[int], kind: ClassWeights) -> np.ndarray | None:
    """Return what each class counts in the loss, so that the rows' mean is 1.

    Args:
        counts: Rows of each class in the training split, C of them.
        kind: `balanced` weighs by 1 / count, `sqrt` by its square root.

    Returns:
        (C,) float32; None for `none`. A class without a row weighs 0.

    Example:
        `weigh_classes([30, 10], "balanced")` is `[2/3, 2]`.
    """
    if kind == "none":
        return None
    rows = np.asarray(counts, np.float64)
    weights = np.divide(1.0, rows, out=np.zeros_like(rows), where=rows > 0)
    if kind == "sqrt":
        weights = np.sqrt(weights)
    return (weights * rows.sum() / (weights * rows).sum()).astype(np.float32)


def make_metrics(k: int) -> list[keras.metrics.Metric]:
    """Return the reported metrics: `top_1`, `top_<k>` and `cross_entropy`."""
    return [
        keras.metrics.SparseCategoricalAccuracy(name="top_1"),
        keras.metrics.SparseTopKCategoricalAccuracy(k=k, name=f"top_{k}"),
        # The plain cross entropy: comparable between runs of different smoothing.
        keras.metrics.SparseCategoricalCrossentropy(name="cross_entropy"),
    ]


def compile_model(
    model: keras.Model,
    training: TrainConfig,
    *,
    num_classes: int,
    total_steps: int,
    class_counts: Sequence[int] | None = None,
) -> None:
    """Compile with AdamW on a one-cycle schedule, label smoothing and the reported metrics.

    Args:
        model: From `build_model`.
        training: How to fit.
        num_classes: C.
        total_steps: Steps of the whole training.
        class_counts: Rows of each class in the training split; needed for class weights.

    Raises:
        ValueError: Class weights are wanted and the counts are not given.
    """
    smoothing = training.label_smoothing
    if class_counts is None and training.class_weights != "none":
        raise ValueError(
            "class_counts: expected the rows of each class for class_weights "
            f"{training.class_weights!r}, found none."
        )
    class_weights = weigh_classes(class_counts or (), training.class_weights)

    def smoothed_cross_entropy(labels: Any, probabilities: Any) -> Any:
        ids = ops.cast(ops.reshape(labels, (-1,)), "int32")
        losses = keras.losses.categorical_crossentropy(
            ops.one_hot(ids, num_classes), probabilities, label_smoothing=smoothing
        )
        if class_weights is not None:
            losses = losses * ops.take(class_weights, ids)
        return losses

    if not training.embedding_trainable:
        model.get_layer("embedding").trainable = False
    schedule = OneCycle(training.learning_rate, total_steps)
    if training.weight_averaging:
        optimizer = AveragingAdamW(
            schedule,
            weight_decay=training.weight_decay,
            use_ema=True,
            ema_momentum=training.weight_averaging,
        )
    else:
        optimizer = FusedAdamW(schedule, weight_decay=training.weight_decay)
    model.compile(
        optimizer=optimizer,
        loss=smoothed_cross_entropy,
        metrics=make_metrics(training.num_predict),
        jit_compile=training.jit_compile == "on",
    )
