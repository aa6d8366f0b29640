"""The arrays of a legacy `CuDNNGRU` as those of `keras.layers.GRU`.

Both compute, with z, r, h stored in this order and the reset gate applied behind the product,

    z = sigmoid(x Wz + bz + s Uz + cz)        r = sigmoid(x Wr + br + s Ur + cr)
    c = tanh(x Wh + bh + r * (s Uh + ch))     s' = z * s + (1 - z) * c

but `CuDNNGRU` of Keras 2 stores each gate's matrix as cuDNN multiplies it, W x with a column x, in
memory laid out (units, in), under the shape Keras wants, (in, units). A gate is therefore turned by
reading its memory in the other shape and transposing that; a plain transpose gives other numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float32Array = NDArray[np.float32]

GATES = 3


class GruArrays(NamedTuple):
    """Weights of one direction of `keras.layers.GRU(reset_after=True)`.

    Attributes:
        kernel: (in, 3H) float32.
        recurrent_kernel: (H, 3H) float32.
        bias: (2, 3H) float32, the input's and the recurrence's.
    """

    kernel: Float32Array
    recurrent_kernel: Float32Array
    bias: Float32Array


def to_keras_gru(
    kernel: Float32Array, recurrent_kernel: Float32Array, bias: Float32Array
) -> GruArrays:
    """Return a legacy layer's arrays as those of `keras.layers.GRU(reset_after=True)`.

    The bias tells the kinds apart: (6H,) is CuDNNGRU, (2, 3H) is GRU already, (3H,) is GRU with
    `reset_after=False`, another recurrence.

    Args:
        kernel: (in, 3H).
        recurrent_kernel: (H, 3H).
        bias: (6H,) or (2, 3H).

    Raises:
        ValueError: The shapes belong to no GRU that can be converted; says why.
    """
    units = recurrent_kernel.shape[0]
    if recurrent_kernel.shape != (units, GATES * units) or kernel.shape[1:] != (GATES * units,):
        raise ValueError(
            f"expected kernels (in, 3H) and (H, 3H), found {kernel.shape} and "
            f"{recurrent_kernel.shape}. Four gates would be an LSTM, one a SimpleRNN."
        )
    if bias.shape == (2, GATES * units):
        return GruArrays(kernel, recurrent_kernel, bias)
    if bias.shape == (GATES * units,):
        raise ValueError(
            f"expected a bias (6H,) of CuDNNGRU or (2, 3H) of GRU, found {bias.shape}: this layer "
            "was made with reset_after=False, which applies the reset gate before the product. No "
            "weights give the other form the same answers; train it again with reset_after=True."
        )
    if bias.shape != (2 * GATES * units,):
        raise ValueError(
            f"expected a bias (6H,) of CuDNNGRU or (2, 3H) of GRU with H = {units}, found "
            f"{bias.shape}."
        )
    return GruArrays(
        kernel=_turn_gates(kernel),
        recurrent_kernel=_turn_gates(recurrent_kernel),
        bias=bias.reshape(2, GATES * units),
    )


def _turn_gates(matrix: Float32Array) -> Float32Array:
    """Each gate's (in, H), in memory (H, in), as the (in, H) it means."""
    gates = np.hsplit(matrix, GATES)
    return np.hstack([gate.reshape(gate.shape[::-1]).T for gate in gates])  # (in, 3H)
