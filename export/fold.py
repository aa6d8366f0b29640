"""The lookup algebra, in NumPy alone: what of a GRU can be computed once per word.

A GRU step adds `embedding[id] @ kernel + input_bias` to its gates. That sum depends on the id only,
so the whole product over the vocabulary becomes one table; a step then starts with a row copy.
With `reset_after=True` the z and r gates also add their recurrent bias outside of any product with
the state, so these two thirds fold in too; the candidate's third is multiplied by the reset gate
and stays (`keras/src/layers/rnn/gru.py`, `GRUCell.call`).

Everything is computed in float64 and rounded once to float32, so a table entry is the float32
nearest to the exact value, up to float64 rounding.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from export.weights import Float32, GruWeights, ModelWeights

CHUNK_ROWS = 4096
"""Rows of the table computed at a time: 25 MB of float64 at H=256 instead of 92 MB at V=15000."""


def _fold_bias(bias: Float32) -> tuple[NDArray[np.float64], Float32]:
    """Split a (2, 3H) bias into what every step adds and what the reset gate multiplies.

    Returns:
        The gate bias, (3H,) float64, and the candidate's recurrent bias, (H,) float32.
    """
    both = 2 * bias.shape[1] // 3  # z and r, 2H columns
    gate_bias = bias[0].astype(np.float64)
    gate_bias[:both] += bias[1, :both]
    return gate_bias, np.array(bias[1, both:], np.float32)


def fold_gate_table(
    embedding: Float32, weights: GruWeights, dtype: type[np.floating] = np.float32
) -> NDArray[np.floating]:
    """Return the gate table of one direction of the first layer.

    Args:
        embedding: (V, E) float32.
        weights: Kernel (E, 3H) and bias (2, 3H).
        dtype: Type of the table; float64 for those who round it otherwise.

    Returns:
        (V, 3H): `embedding @ kernel`, plus the input bias, plus the z and r thirds of the
        recurrent bias.
    """
    kernel = weights.kernel.astype(np.float64)
    gate_bias, _ = _fold_bias(weights.bias)
    table = np.empty((embedding.shape[0], kernel.shape[1]), dtype)
    for start in range(0, len(table), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        table[rows] = embedding[rows].astype(np.float64) @ kernel + gate_bias
    return table


def fold_weights(
    weights: ModelWeights, table_dtype: type[np.floating] = np.float32
) -> dict[str, NDArray[np.floating]]:
    """Return every array of an exact lookup folder, by its file stem.

    Args:
        weights: The trained numbers.
        table_dtype: Type of the gate tables; float64 for those who round them otherwise.

    Returns:
        `gate_table` (V, 3H), `recurrent_kernel` (H, 3H), `candidate_bias` (H,) of the first layer;
        `layer_<k>_kernel` (D, 3H), `layer_<k>_bias` (3H,), `layer_<k>_recurrent_kernel`,
        `layer_<k>_candidate_bias` of each further one; all of them again with the suffix
        `_backward` when there are two directions; `head_kernel`, `head_bias`. C order, float32
        but for the gate tables.
    """
    arrays: dict[str, NDArray[np.floating]] = {}
    for index, directions in enumerate(weights.layers):
        prefix = f"layer_{index}_" if index else ""
        for suffix, gru in zip(("", "_backward"), directions, strict=False):
            gate_bias, candidate_bias = _fold_bias(gru.bias)
            if index == 0:
                table = fold_gate_table(weights.embedding, gru, table_dtype)
                # Their embeddings are the same; so must be the last bit of a product that BLAS
                # may add up in another order.
                table[0] = table[1]
                arrays[f"gate_table{suffix}"] = table
            else:
                arrays[f"{prefix}kernel{suffix}"] = gru.kernel
                arrays[f"{prefix}bias{suffix}"] = gate_bias.astype(np.float32)
            arrays[f"{prefix}recurrent_kernel{suffix}"] = gru.recurrent_kernel
            arrays[f"{prefix}candidate_bias{suffix}"] = candidate_bias
    arrays["head_kernel"] = weights.head_kernel
    arrays["head_bias"] = weights.head_bias
    return arrays
