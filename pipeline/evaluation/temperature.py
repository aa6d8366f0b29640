"""Temperature scaling (Guo et al. 2017): one number that makes probabilities mean what they say.

It is fitted on the validation split and folded into the head: `softmax(z / T)` with the kernel and
the bias of the head divided by T is the same model with the same answers, so that every export and
every runtime is calibrated without an operator more.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pipeline.evaluation.measures import Floats, Labels, measure_nll

if TYPE_CHECKING:
    import keras

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.25, 4.0
"""Beyond these it is no matter of calibration. Small data that is told apart without any error
would drive it to 0, where the rounding of the logits is all that remains."""
MIN_ROWS = 100
"""With fewer the fit says more about them than about the model."""


def fit_temperature(logits: Floats, labels: Labels) -> float:
    """Return the temperature with the least negative log-likelihood.

    Args:
        logits: (N, C) float64.
        labels: (N,) int64.

    Returns:
        A value from `MIN_TEMPERATURE` to `MAX_TEMPERATURE`; 1 for fewer than `MIN_ROWS` rows.
    """
    from scipy.optimize import minimize_scalar

    if len(labels) < MIN_ROWS:
        return 1.0
    found = minimize_scalar(
        lambda log: measure_nll(logits / math.exp(log), labels),
        bounds=(math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)),
        method="bounded",
        options={"xatol": 1e-5},
    )
    return math.exp(float(found.x))


def fold_temperature(model: keras.Model, temperature: float) -> None:
    """Divide the head's kernel and bias by the temperature."""
    head = model.get_layer("head")
    for weight in (head.kernel, head.bias):
        weight.assign((weight.numpy().astype(np.float64) / temperature).astype(np.float32))
