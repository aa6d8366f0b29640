"""The GRU layer that trains on CPUs: `keras.layers.GRU`, computed in fewer and larger products.

Keras multiplies `x_t @ kernel` inside its loop over time and lets TensorFlow differentiate the loop
op by op. Here

* the inputs of all steps are projected by one product in front of the loop, so that a step is left
  with the product of its state and with the gates;
* the gradient is written by hand: the loop backwards holds one product a gate group and step, and
  the gradients of both kernels and of the inputs are one product each, over all steps, behind it;
* kernels are cut into update + reset and candidate beforehand, because a slice of columns copies;
* a padded step gets an update gate of exactly 1, which carries the state on and lets no gradient
  through, so that neither loop knows of masks.

Weights, their names and the mathematics are those of `keras.layers.GRU`: what this layer trains is
saved by the stock layer. Source: `keras/src/layers/rnn/{gru,rnn}.py`, `reset_after=True`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

SHUT = 1e4
"""Added to the update gate of a padded step: float32's sigmoid of it is 1, not nearly 1."""

_Gradient = Callable[[tf.Tensor], tuple[tf.Tensor, ...]]


def _make_array(steps: tf.Tensor, width: int) -> tf.TensorArray:
    return tf.TensorArray(tf.float32, size=steps, element_shape=(None, width))


def _sum_columns(rows: tf.Tensor) -> tf.Tensor:
    return tf.raw_ops.BiasAddGrad(out_backprop=rows)  # `reduce_sum` took several times as long


@tf.custom_gradient
def run_recurrence(
    inputs: tf.Tensor,
    padding: tf.Tensor,
    kernel: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    bias: tf.Tensor,
    start: tf.Tensor,
) -> tuple[tf.Tensor, _Gradient]:
    """Run a GRU over inputs in the order of their steps.

    Args:
        inputs: (T, B, E) float32.
        padding: (T, B) float32, `SHUT` at steps that are not read and 0 elsewhere.
        kernel: (E, 3H) float32, gates in order z, r, h.
        recurrent_kernel: (H, 3H) float32.
        bias: (2, 3H) float32, of the inputs and of the states.
        start: (B, H) float32, the state before the first step.

    Returns:
        States (T, B, H) float32, one a step; differentiable in all but `padding`.
    """
    steps, batch = tf.shape(inputs)[0], tf.shape(inputs)[1]
    embed, units = kernel.shape[0], recurrent_kernel.shape[0]
    gates = 2 * units  # columns of the update and the reset gate
    flat = tf.reshape(inputs, (-1, embed))  # (T*B, E)
    # The states' bias of z and r stands in a plain sum with the inputs', that of the candidate not.
    gate_bias = bias[0, :gates] + bias[1, :gates]
    inner_bias = bias[1, gates:]

    def project(weights: tf.Tensor, offset: tf.Tensor, width: int) -> tf.Tensor:
        projected = tf.nn.bias_add(tf.matmul(flat, weights), offset)
        return tf.reshape(projected, tf.stack([steps, batch, width]))

    is_update = tf.concat([tf.ones(units), tf.zeros(units)], 0)
    gate_inputs = project(kernel[:, :gates], gate_bias, gates)  # (T, B, 2H)
    gate_inputs += padding[:, :, tf.newaxis] * is_update
    candidate_inputs = project(kernel[:, gates:], bias[0, gates:], units)  # (T, B, H)
    gate_kernel, candidate_kernel = recurrent_kernel[:, :gates], recurrent_kernel[:, gates:]

    def forward(t: Any, h: Any, *kept: Any) -> tuple[Any, ...]:
        inner = tf.nn.bias_add(tf.matmul(h, candidate_kernel), inner_bias)  # (B, H)
        z, r = tf.split(tf.sigmoid(gate_inputs[t] + tf.matmul(h, gate_kernel)), 2, axis=1)
        c = tf.tanh(candidate_inputs[t] + r * inner)
        h = c + z * (h - c)
        values = (h, z, r, c, inner)
        return t + 1, h, *(each.write(t, value) for each, value in zip(kept, values, strict=True))

    # What a step needs of the ones before is its state: nothing would run in parallel.
    _, _, states, *kept = tf.while_loop(
        lambda t, *_: t < steps,
        forward,
        (0, start, *(_make_array(steps, units) for _ in range(5))),
        parallel_iterations=1,
    )
    outputs = states.stack()
    outputs.set_shape((None, None, units))

    def gradient(d_outputs: tf.Tensor) -> tuple[tf.Tensor, ...]:
        before = tf.concat([start[tf.newaxis], outputs[:-1]], 0)  # (T, B, H)
        gates_back, candidate_back = tf.transpose(gate_kernel), tf.transpose(candidate_kernel)

        def backward(t: Any, dh: Any, d_gates: Any, d_inners: Any, d_candidates: Any) -> Any:
            dh += d_outputs[t]
            z, r, c, inner = (each.read(t) for each in kept)
            new = dh * (1.0 - z)
            # With respect to what enters tanh, then the inner product, then both sigmoids.
            d_candidate = new * (1.0 - c * c)
            d_inner = d_candidate * r
            d_gate = tf.concat([new * z * (before[t] - c), d_inner * inner * (1.0 - r)], 1)
            dh = dh * z + tf.matmul(d_gate, gates_back) + tf.matmul(d_inner, candidate_back)
            return (
                t - 1,
                dh,
                d_gates.write(t, d_gate),
                d_inners.write(t, d_inner),
                d_candidates.write(t, d_candidate),
            )

        widths = (gates, units, units)
        _, d_start, *arrays = tf.while_loop(
            lambda t, *_: t >= 0,
            backward,
            (steps - 1, tf.zeros_like(start), *(_make_array(steps, width) for width in widths)),
            parallel_iterations=1,
        )
        d_gate, d_inner, d_candidate = (
            tf.reshape(each.stack(), (-1, width))
            for each, width in zip(arrays, widths, strict=True)
        )  # (T*B, 2H), (T*B, H), (T*B, H)
        d_recurrent = tf.matmul(
            tf.reshape(before, (-1, units)), tf.concat([d_gate, d_inner], 1), transpose_a=True
        )
        d_projected = tf.concat([d_gate, d_candidate], 1)  # (T*B, 3H)
        d_kernel = tf.matmul(flat, d_projected, transpose_a=True)
        d_inputs = tf.reshape(tf.matmul(d_projected, kernel, transpose_b=True), tf.shape(inputs))
        d_input_bias = _sum_columns(d_projected)
        d_state_bias = tf.concat([d_input_bias[:gates], _sum_columns(d_inner)], 0)
        d_bias = tf.stack([d_input_bias, d_state_bias])
        return d_inputs, tf.zeros_like(padding), d_kernel, d_recurrent, d_bias, d_start

    return outputs, gradient


@keras.saving.register_keras_serializable(package="gatetable")
class FastGRU(keras.layers.GRU):
    """`keras.layers.GRU`, faster to train on a CPU; takes its arguments, has its weights.

    Masks are those of padding on the right, as everywhere in this project. Where the equations are
    not the default ones, states are dropped, or numbers are not float32, it is the stock layer.
    """

    @property
    def is_fast(self) -> bool:
        """Whether this layer's settings are those that `run_recurrence` computes."""
        return (
            self.activation is keras.activations.tanh
            and self.recurrent_activation is keras.activations.sigmoid
            and self.use_bias
            and self.reset_after
            and not self.recurrent_dropout
            and not self.unroll
            and self.compute_dtype == "float32"
        )

    def inner_loop(
        self, sequences: Any, initial_state: Any, mask: Any, training: bool = False
    ) -> Any:
        """Run the recurrence over (B, T, E) sequences.

        Returns:
            The last state (B, H), all outputs (B, T, H), and a list of the last state.
        """
        if not self.is_fast:
            return super().inner_loop(sequences, initial_state, mask, training=training)
        if training and self.dropout:
            # One mask for all steps of a text; `RNN.call` has drawn it.
            sequences *= self.cell.get_dropout_mask(sequences[:, 0, :])[:, tf.newaxis]
        if isinstance(mask, (list, tuple)):
            (mask,) = mask
        inputs = tf.transpose(sequences, (1, 0, 2))  # (T, B, E)
        is_read = tf.ones(tf.shape(inputs)[:2], tf.bool) if mask is None else tf.transpose(mask)
        if self.go_backwards:
            inputs, is_read = tf.reverse(inputs, [0]), tf.reverse(is_read, [0])
        states = run_recurrence(
            inputs,
            tf.where(is_read, 0.0, SHUT),
            *(
                tf.convert_to_tensor(weight)
                for weight in (self.cell.kernel, self.cell.recurrent_kernel, self.cell.bias)
            ),
            _take_only(initial_state),
        )
        last = states[-1]
        if mask is not None and self.zero_output_for_mask:
            states = tf.where(is_read[:, :, tf.newaxis], states, 0.0)
        return last, tf.transpose(states, (1, 0, 2)), [last]


def _take_only(initial_state: Any) -> tf.Tensor:
    """Return the one state of a GRU, which Keras passes bare or in a list."""
    if isinstance(initial_state, (list, tuple)):
        (initial_state,) = initial_state
    return tf.convert_to_tensor(initial_state)
