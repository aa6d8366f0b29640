"""Trace a Keras model with every GRU's loop replaced by one operator that carries its number.

tf2onnx turns Keras 3's loop into a Loop of 40 nodes, and a matcher of loop bodies breaks whenever
Keras changes its cell. So the loop is never traced: `inner_loop`, the method in which Keras chooses
between cuDNN and its own loop, is replaced on each layer while the model is traced, by a
`CudnnRNNV3` operator that is never run. It is the carrier because TensorFlow knows the shapes of
its outputs, and its two seeds are free to say which layer it stands for and how it was called.
All around the loop (masks, merging, states, wrappers) stays Keras's own doing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from export.rewrite.errors import RewriteError
from export.rewrite.gru_operator import HOLDING_GATES

CARRIER = "CudnnRNNV3"
MASKED, STARTED = 1, 2
"""Bits of the carrier's second seed: its input ends in the mask's feature; it has a start state."""


def _is_zero(tensor: Any) -> bool:
    """Whether a traced tensor is zeros for sure; False where that cannot be seen."""
    while tensor.op.type in ("Identity", "Cast"):
        tensor = tensor.op.inputs[0]
    if tensor.op.type == "ZerosLike":
        return True
    value = tensor.op.inputs[1] if tensor.op.type == "Fill" else tensor
    constant = tf.get_static_value(value)
    return constant is not None and not np.any(constant)


def _make_inner_loop(layer: Any, number: int, called: list[int]) -> Callable[..., Any]:
    """Make what stands for `layer.inner_loop` while the model is traced."""

    def inner_loop(
        sequences: Any, initial_state: Any, mask: Any = None, training: bool = False
    ) -> tuple[Any, Any, list[Any]]:
        """Return the last output (B, H), all outputs (B, T, H) and [state (B, H)]."""
        del training  # dropout does nothing at inference
        called.append(number)
        first = initial_state[0] if isinstance(initial_state, list | tuple) else initial_state
        mask = mask[0] if isinstance(mask, list | tuple) else mask
        dtype, width = sequences.dtype, layer.cell.units
        started = not _is_zero(first)
        x = tf.cast(sequences, tf.float32)
        if mask is not None:
            if layer.cell.recurrent_activation not in HOLDING_GATES:
                raise RewriteError(
                    f"GRU layer {layer.name!r}: expected recurrent_activation sigmoid or "
                    "hard_sigmoid where a mask reaches it, found "
                    f"{layer.cell.recurrent_activation.__name__!r}. Its update gate cannot be held "
                    "at 1, which is how a masked step is said."
                )
            if len(mask.shape) == 2:
                mask = mask[:, :, None]
            seen = tf.cast(mask, tf.float32)  # (B, T, 1)
            x = tf.concat([x, 1.0 - seen], -1)  # (B, T, D + 1)
        y, state, *_ = tf.raw_ops.CudnnRNNV3(
            input=tf.transpose(x, [1, 0, 2]),
            input_h=tf.cast(first, tf.float32)[None],
            input_c=tf.zeros([1, 1, width]),
            params=tf.zeros([0]),
            sequence_lengths=tf.zeros([1], tf.int32),
            rnn_mode="gru",
            is_training=False,
            seed=number,
            seed2=MASKED * (mask is not None) + STARTED * started,
        )
        outputs = tf.transpose(y, [1, 0, 2])  # (B, T, H), in the order of the input
        last = state = tf.reshape(state, [-1, width])
        if mask is not None and layer.zero_output_for_mask:
            outputs *= seen
            last = state * (seen[:, 0] if layer.go_backwards else seen[:, -1])
        elif mask is not None and started:
            # Keras's output is zeros, not the start state, until a row's first unmasked step.
            begun = tf.cumsum(seen, 1, reverse=layer.go_backwards)
            outputs *= tf.cast(begun > 0, tf.float32)
            last = state * tf.cast(tf.reduce_sum(seen, 1) > 0, tf.float32)
        if layer.go_backwards:  # Keras returns outputs in the order of computing
            outputs = tf.reverse(outputs, [1])
        return tf.cast(last, dtype), tf.cast(outputs, dtype), [tf.cast(state, dtype)]

    return inner_loop


@contextmanager
def carriers(layers: Sequence[Any]) -> Iterator[list[int]]:
    """Replace the loops of GRU layers by carriers, and give them back afterwards.

    Args:
        layers: The layers; a carrier's first seed is its layer's place in this sequence.

    Yields:
        The places of the layers that were traced, in the order of tracing.
    """
    called: list[int] = []
    kept = []
    try:
        for number, layer in enumerate(layers):
            fields = vars(layer)  # Keras's own __setattr__ would track what is only a visitor
            kept.append((fields, fields.get("use_cudnn")))
            fields["inner_loop"] = _make_inner_loop(layer, number, called)
            # Otherwise Bidirectional asks a GPU for both directions at once, past inner_loop.
            if "use_cudnn" in fields:
                fields["use_cudnn"] = False
        yield called
    finally:
        for fields, use_cudnn in kept:
            del fields["inner_loop"]
            if "use_cudnn" in fields:
                fields["use_cudnn"] = use_cudnn
