"""24 models that others could have written: GRUs in every company that Keras allows.

    python -m tests.export.rewrite.foreign_models

converts each, and prints the time of a call at batch 1 beside what tf2onnx alone makes of it.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from typing import Any

import keras
from keras import layers

V, E, H, C = 60, 24, 32, 7
"""Small, but wide enough that a GRU is most of the work."""


def _tokens(steps: int | None = None) -> Any:
    return keras.Input((steps,), dtype="int32", name="tokens")


def _vectors(width: int = E, steps: int | None = None) -> Any:
    return keras.Input((steps, width), name="vectors")


def _embed(x: Any, *, mask: bool = True) -> Any:
    return layers.Embedding(V, E, mask_zero=mask)(x)


def _head(x: Any) -> Any:
    return layers.Dense(C, activation="softmax", name="probabilities")(x)


def gru_sequential() -> Any:
    return keras.Sequential(
        [_tokens(), layers.Embedding(V, E), layers.GRU(H), layers.Dense(C, activation="softmax")]
    )


def gru_masked() -> Any:
    x = _tokens()
    return keras.Model(x, _head(layers.GRU(H)(_embed(x))))


def gru_sequences_masked() -> Any:
    x = _tokens()
    return keras.Model(x, _head(layers.GRU(H, return_sequences=True)(_embed(x))))


def gru_backwards() -> Any:
    x = _tokens()
    y = layers.GRU(H, go_backwards=True, return_sequences=True)(_embed(x, mask=False))
    return keras.Model(x, _head(y))


def gru_backwards_masked() -> Any:
    x = _tokens()
    y = layers.GRU(H, go_backwards=True, return_sequences=True)(_embed(x))
    return keras.Model(x, _head(layers.GRU(H)(y)))


def bidirectional() -> Any:
    x = _tokens()
    return keras.Model(x, _head(layers.Bidirectional(layers.GRU(H))(_embed(x, mask=False))))


def bidirectional_masked() -> Any:
    x = _tokens()
    return keras.Model(x, _head(layers.Bidirectional(layers.GRU(H))(_embed(x))))


def bidirectional_sequences_summed() -> Any:
    x = _tokens()
    y = layers.Bidirectional(layers.GRU(H, return_sequences=True), merge_mode="sum")(_embed(x))
    return keras.Model(x, _head(y))


def bidirectional_stacked() -> Any:
    x = _tokens()
    y = layers.Bidirectional(layers.GRU(H, return_sequences=True))(_embed(x))
    y = layers.Bidirectional(layers.GRU(H), merge_mode="mul")(y)
    return keras.Model(x, _head(y))


def three_layers_dropout() -> Any:
    x = _tokens()
    y = layers.GRU(H, return_sequences=True, dropout=0.3, recurrent_dropout=0.2)(_embed(x))
    y = layers.LayerNormalization()(y)
    y = layers.GRU(H, return_sequences=True, kernel_regularizer="l2")(y)
    return keras.Model(x, _head(layers.GRU(H, recurrent_regularizer="l2")(y)))


def reset_before() -> Any:
    x = _tokens()
    return keras.Model(x, _head(layers.GRU(H, reset_after=False)(_embed(x))))


def without_bias() -> Any:
    x = _tokens()
    return keras.Model(x, _head(layers.Bidirectional(layers.GRU(H, use_bias=False))(_embed(x))))


def hard_gates() -> Any:
    x = _tokens()
    y = layers.GRU(H, recurrent_activation="hard_sigmoid", activation="softsign")(_embed(x))
    return keras.Model(x, _head(y))


def relu_candidate() -> Any:
    x = _vectors()
    y = layers.GRU(H, activation="relu", recurrent_activation="hard_sigmoid")(x)
    return keras.Model(x, _head(y))


def convolution_then_gru() -> Any:
    x = _tokens()
    y = layers.Conv1D(E, 3, padding="same", activation="relu")(_embed(x, mask=False))
    y = layers.MaxPooling1D(2, padding="same")(y)
    return keras.Model(x, _head(layers.GRU(H)(y)))


def gru_then_convolution() -> Any:
    x = _tokens()
    y = layers.GRU(H, return_sequences=True)(_embed(x))
    y = layers.Conv1D(16, 3, padding="causal")(y)
    return keras.Model(x, _head(layers.GlobalMaxPooling1D()(y)))


def self_attention() -> Any:
    x = _tokens()
    y = layers.Bidirectional(layers.GRU(H, return_sequences=True))(_embed(x))
    y = layers.Attention()([y, y])
    return keras.Model(x, _head(layers.GlobalAveragePooling1D()(y)))


def multi_head_attention() -> Any:
    x = _tokens()
    y = layers.GRU(H, return_sequences=True)(_embed(x))
    y = layers.MultiHeadAttention(2, 8)(y, y) + y
    return keras.Model(x, _head(layers.GRU(H)(y)))


def attention_pooling() -> Any:
    x = _tokens()
    y = layers.Bidirectional(layers.GRU(H, return_sequences=True))(_embed(x))
    weights = layers.Softmax(axis=1)(layers.Dense(1)(y))
    return keras.Model(x, _head(layers.Dot(axes=1)([weights, y])))


def masking_layer() -> Any:
    x = _vectors()
    y = layers.GRU(H, return_sequences=True)(layers.Masking(-1.0)(x))
    return keras.Model(x, layers.Dense(C)(y))


def encoder_decoder() -> Any:
    source, target = _tokens(), keras.Input((None,), dtype="int32", name="target")
    _, state = layers.GRU(H, return_state=True)(_embed(source))
    y = layers.GRU(H, return_sequences=True)(_embed(target), initial_state=state)
    return keras.Model([source, target], {"words": _head(y), "state": state})


def shared_and_nested() -> Any:
    inner_input = _vectors()
    inner = keras.Model(inner_input, layers.Bidirectional(layers.GRU(H))(inner_input))
    one, other = _tokens(), keras.Input((None,), dtype="int32", name="other")
    embedding = layers.Embedding(V, E)
    y = layers.Subtract()([inner(embedding(one)), inner(embedding(other))])
    return keras.Model([one, other], _head(y))


def unrolled_fixed_length() -> Any:
    x = _tokens(12)
    y = layers.GRU(H, unroll=True, return_sequences=True)(_embed(x))
    return keras.Model(x, _head(layers.Flatten()(y)))


def cell_in_rnn_residual() -> Any:
    x = _tokens()
    embedded = _embed(x)
    y = layers.Bidirectional(
        layers.RNN(layers.GRUCell(H), return_sequences=True),
        backward_layer=layers.GRU(H, return_sequences=True, go_backwards=True),
    )(embedded)
    y = layers.Add()([layers.Dense(2 * H)(embedded), y])
    return keras.Model(x, _head(layers.GRU(H)(y)))


MODELS: tuple[Callable[[], Any], ...] = (
    *(gru_sequential, encoder_decoder, gru_masked, bidirectional_stacked, gru_sequences_masked),
    *(cell_in_rnn_residual, gru_backwards, gru_backwards_masked, bidirectional, reset_before),
    *(bidirectional_masked, shared_and_nested, bidirectional_sequences_summed, hard_gates),
    *(three_layers_dropout, attention_pooling, without_bias, masking_layer, relu_candidate),
    *(unrolled_fixed_length, multi_head_attention, convolution_then_gru, self_attention),
    *(gru_then_convolution,),
)
QUICK = (
    *(encoder_decoder, bidirectional_stacked, cell_in_rnn_residual, gru_backwards_masked),
    *(reset_before, shared_and_nested, masking_layer, attention_pooling),
)
"""Those that the tests try every time: together they need every part of the conversion."""


def build(make: Callable[[], Any]) -> Any:
    """Build a model with weights that are no special case: biases of a GRU start as zeros."""
    keras.utils.set_random_seed(1)
    model = make()
    for number, variable in enumerate(model.variables):
        if "bias" in variable.path or "beta" in variable.path:
            noise = keras.random.normal(variable.shape, stddev=0.3, seed=number)
            variable.assign(noise)
    return model


def main() -> None:
    """Print every model's times."""
    from export.rewrite.bench import measure_beside_tf2onnx
    from export.rewrite.conversion import convert_model
    from export.rewrite.parity import check_parity

    ratios = []
    write = sys.stdout.write
    write(f"{'model':32} GRUs  max |d|  steps  fused µs  tf2onnx µs\n")
    for make in MODELS:
        model = build(make)
        proto = convert_model(model)
        parity = check_parity(model, proto)
        fused = sum(node.op_type == "GRU" for node in proto.graph.node)
        for timing in measure_beside_tf2onnx(model, proto):
            ratio = timing.loop_us / timing.fused_us
            if timing.steps in (12, 20):
                ratios.append(ratio)
            write(
                f"{make.__name__:32} {fused:4}  {parity.max_difference:.0e}  {timing.steps:5}  "
                f"{timing.fused_us:8.0f}  {timing.loop_us:10.0f}  {ratio:4.1f}x\n"
            )
    write(
        f"batch 1, 20 steps (12 where fixed): {min(ratios):.1f}x to {max(ratios):.1f}x, "
        f"median {statistics.median(ratios):.1f}x; {sum(ratio >= 3 for ratio in ratios)} of "
        f"{len(ratios)} at least 3x\n"
    )


if __name__ == "__main__":
    main()
