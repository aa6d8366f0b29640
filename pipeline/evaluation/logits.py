"""The logits of a model for rows of ids, in the rows' own order.

Everything else of the evaluation is NumPy over these. They are computed from the pooled state in
float64, because the softmax of the model itself has rounded away what a temperature acts on.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from pipeline.config import PAD_ID
from pipeline.evaluation.measures import Floats

_BATCH = 512


def predict_logits(model: keras.Model, rows: Sequence[Sequence[int]]) -> Floats:
    """Return what enters the softmax.

    Args:
        model: From `build_model`.
        rows: N rows of at least one id each. They are sorted by length, so that batches are
            padded little.

    Returns:
        (N, C) float64.
    """
    head = model.get_layer("head")
    body = keras.Model(model.input, head.input)
    kernel, bias = (weight.numpy().astype(np.float64) for weight in (head.kernel, head.bias))

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.int32)])
    def compute_states(ids: tf.Tensor) -> tf.Tensor:
        return body(ids, training=False)

    order = np.argsort([len(row) for row in rows], kind="stable")
    logits = np.empty((len(rows), len(bias)))
    for start in range(0, len(order), _BATCH):
        chosen = order[start : start + _BATCH]
        ids = np.full((len(chosen), len(rows[chosen[-1]])), PAD_ID, np.int32)
        for position, index in enumerate(chosen):
            ids[position, : len(rows[index])] = rows[index]
        logits[chosen] = compute_states(tf.constant(ids)).numpy() @ kernel + bias  # (B, C)
    return logits
