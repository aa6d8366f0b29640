"""One Keras GRU layer as the inputs and attributes of ONNX's GRU operator, and what forbids it.

Source: ONNX operator specification, GRU-14; Keras 3, `GRUCell.call`. Both order the gates z, r, h.
Keras's `reset_after` is ONNX's `linear_before_reset`. `recurrent_dropout`, `dropout` and the
regularisers do nothing at inference.

ONNX's `sequence_lens` is not used: it knows right-padded rows only, and OpenVINO and
onnx.reference ignore it. A mask becomes one more input feature instead, which is 1 where a step is
masked and whose only weight is `HOLD`, to the update gate: z is then exactly 1, so that
h' = (1 - z) * candidate + z * h leaves the state as it was. Any mask is said that way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

HOLD = 1e4
"""Far beyond where float32's sigmoid is 1 (measured: 100 is enough in onnxruntime, OpenVINO and
onnx.reference, 20 is not), far below float16's largest number."""


@dataclass(frozen=True)
class Activation:
    """ONNX's name of an activation, and its parameters; None where it has none."""

    name: str
    alpha: float | None = None
    beta: float | None = None


# Keras's fixed parameters where the defaults of ONNX are others.
ACTIVATIONS: dict[Any, Activation] = {
    keras.activations.tanh: Activation("Tanh"),
    keras.activations.sigmoid: Activation("Sigmoid"),
    keras.activations.relu: Activation("Relu"),
    keras.activations.hard_sigmoid: Activation("HardSigmoid", 1 / 6, 0.5),
    keras.activations.elu: Activation("Elu", 1.0),
    keras.activations.leaky_relu: Activation("LeakyRelu", 0.2),
    keras.activations.softsign: Activation("Softsign"),
    keras.activations.softplus: Activation("Softplus"),
    keras.activations.linear: Activation("Affine", 1.0, 0.0),
}
HOLDING_GATES = frozenset({keras.activations.sigmoid, keras.activations.hard_sigmoid})
"""Recurrent activations that reach exactly 1, which a masked step needs."""


@dataclass(frozen=True)
class GruOperator:
    """A GRU layer's numbers: kernel (D, 3H), recurrent kernel (H, 3H), bias (2, 3H) or None."""

    kernel: Float32
    recurrent_kernel: Float32
    bias: Float32 | None
    gate: Activation
    candidate: Activation
    reset_after: bool
    go_backwards: bool

    @property
    def units(self) -> int:
        """H, the width of the state."""
        return int(self.recurrent_kernel.shape[0])

    def input_weights(self, masked: bool) -> Float32:
        """Return W, (1, 3H, D), or (1, 3H, D + 1) with the mask's feature last."""
        kernel = self.kernel
        if masked:
            hold = np.zeros((1, kernel.shape[1]), np.float32)
            hold[0, : self.units] = HOLD
            kernel = np.concatenate([kernel, hold])  # (D + 1, 3H)
        return np.ascontiguousarray(kernel.T[None])

    def recurrent_weights(self) -> Float32:
        """Return R, (1, 3H, H)."""
        return np.ascontiguousarray(self.recurrent_kernel.T[None])

    def biases(self) -> Float32 | None:
        """Return B, (1, 6H), the input's half first; None without a bias."""
        return None if self.bias is None else self.bias.reshape(1, -1)

    def attributes(self) -> dict[str, Any]:
        """Return the operator's attributes; activations only where they are not the default."""
        attributes: dict[str, Any] = {
            "hidden_size": self.units,
            "linear_before_reset": int(self.reset_after),
            "direction": "reverse" if self.go_backwards else "forward",
        }
        functions = (self.gate, self.candidate)
        if functions != (Activation("Sigmoid"), Activation("Tanh")):
            attributes["activations"] = [function.name for function in functions]
            # One number for each function that takes one, in the order of the functions.
            alphas = [function.alpha for function in functions if function.alpha is not None]
            betas = [function.beta for function in functions if function.beta is not None]
            if alphas:
                attributes["activation_alpha"] = alphas
            if betas:
                attributes["activation_beta"] = betas
        return attributes


def is_gru(layer: Any) -> bool:
    """Whether a layer iterates a GRU cell: `GRU`, or `RNN` over one `GRUCell`."""
    return isinstance(layer, keras.layers.RNN) and isinstance(layer.cell, keras.layers.GRUCell)


def list_problems(layer: Any) -> list[str]:
    """Say all that keeps a GRU layer from being a fused operator; nothing where it can be one."""
    cell, problems = layer.cell, []
    loops = (keras.layers.GRU.inner_loop, keras.layers.RNN.inner_loop)
    if type(layer).inner_loop not in loops or type(cell).call is not keras.layers.GRUCell.call:
        problems.append(
            f"its class {type(layer).__name__} computes in a way of its own: expected keras's GRU"
        )
    if layer.stateful:
        problems.append("stateful=True: a graph keeps no state between calls")
    if not cell.built:
        problems.append("it has no weights yet: call the model once")
    for role, function in (
        ("activation", cell.activation),
        ("recurrent_activation", cell.recurrent_activation),
    ):
        if function not in ACTIVATIONS:
            known = ", ".join(known.__name__ for known in ACTIVATIONS)
            name = getattr(function, "__name__", type(function).__name__)
            problems.append(f"{role} {name!r}: ONNX's GRU knows {known}")
    return problems


def read_operator(layer: Any) -> GruOperator:
    """Read the numbers of a GRU layer without problems."""
    cell = layer.cell
    weights = {weight.name: np.asarray(weight.numpy(), np.float32) for weight in cell.weights}
    bias = weights.get("bias")
    if bias is not None and bias.ndim == 1:  # reset_after=False: no bias on the recurrent side
        bias = np.stack([bias, np.zeros_like(bias)])
    return GruOperator(
        weights["kernel"],
        weights["recurrent_kernel"],
        bias,
        ACTIVATIONS[cell.recurrent_activation],
        ACTIVATIONS[cell.activation],
        bool(cell.reset_after),
        bool(layer.go_backwards),
    )
