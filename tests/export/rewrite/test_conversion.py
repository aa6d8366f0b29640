from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import onnx
import onnx.reference
import onnxruntime
import pytest
from keras import layers

from export.onnx_graph import FORBIDDEN_OPERATORS
from export.rewrite import RewriteError, convert
from export.rewrite.conversion import convert_model, find_gru_layers
from export.rewrite.parity import check_parity
from tests.export.rewrite.foreign_models import (
    MODELS,
    QUICK,
    bidirectional_masked,
    build,
    gru_masked,
)

pytestmark = [
    pytest.mark.slow,
    # Keras's words to whoever wrote a model: a mask that a convolution drops.
    pytest.mark.filterwarnings("ignore::UserWarning:keras"),
]

THOROUGH = os.environ.get("GATETABLE_THOROUGH") == "1"
TRIED = MODELS if THOROUGH else QUICK
"""Each takes a second or two; `GATETABLE_THOROUGH=1` tries all 24, as does foreign_models.py."""


def count_operators(proto: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in proto.graph.node)


def run_onnx(proto: onnx.ModelProto, *inputs: Any) -> list[Any]:
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    feeds = {value.name: given for value, given in zip(session.get_inputs(), inputs, strict=True)}
    return list(session.run(None, feeds))


def test_there_are_24_foreign_models() -> None:
    assert len({make.__name__ for make in MODELS}) == 24


@pytest.mark.parametrize("make", TRIED, ids=lambda make: make.__name__)
def test_every_gru_of_a_foreign_model_is_fused_and_gives_keras_answers(
    make: Callable[[], Any],
) -> None:
    model = build(make)
    proto = convert_model(model)
    operators = count_operators(proto)
    assert not FORBIDDEN_OPERATORS & set(operators)
    assert operators["GRU"] >= len(find_gru_layers(model))
    assert check_parity(model, proto).max_difference <= 1e-5


def test_any_mask_is_honoured_by_three_runtimes() -> None:
    # Right, left, inside, nowhere, everywhere: and no runtime reads sequence_lens.
    import openvino

    model = build(bidirectional_masked)
    proto = convert(model)
    tokens = np.array(
        [[5, 6, 7, 0, 0], [0, 0, 5, 6, 7], [5, 0, 6, 0, 7], [5, 6, 7, 8, 9], [0, 0, 0, 0, 0]],
        np.int32,
    )
    expected = np.asarray(model(tokens))
    # What is masked counts for nothing, wherever it stands.
    np.testing.assert_allclose(expected[1:3], expected[[0, 0]], atol=1e-6)
    np.testing.assert_allclose(run_onnx(proto, tokens)[0], expected, atol=1e-6)
    found = onnx.reference.ReferenceEvaluator(proto).run(None, {"tokens": tokens})
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(proto.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    np.testing.assert_allclose(compiled([tokens])[0], expected, atol=1e-5)


def test_four_hundred_masked_steps_leave_the_state_as_it_was() -> None:
    model = build(gru_masked)
    tokens = np.zeros((1, 420), np.int32)
    tokens[0, :20] = np.arange(1, 21)
    padded, bare = (run_onnx(convert_model(model), rows)[0] for rows in (tokens, tokens[:, :20]))
    np.testing.assert_array_equal(padded, bare)


def test_inputs_and_outputs_keep_their_names_and_open_axes() -> None:
    proto = convert_model(build(gru_masked))
    ends = [
        (
            value.name,
            [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim],
        )
        for value in (*proto.graph.input, *proto.graph.output)
    ]
    assert ends == [("tokens", ["batch", "tokens_axis_1"]), ("probabilities", ["batch", 7])]


def test_the_model_is_left_as_it_was() -> None:
    model = build(bidirectional_masked)
    tokens = np.array([[3, 4, 0]], np.int32)
    before = np.asarray(model(tokens))
    convert_model(model)
    assert [layer for layer in find_gru_layers(model) if "inner_loop" in vars(layer)] == []
    assert {layer.use_cudnn for layer in find_gru_layers(model)} == {"auto"}
    np.testing.assert_array_equal(np.asarray(model(tokens)), before)


def test_the_model_is_left_as_it_was_where_converting_fails() -> None:
    x = keras.Input((None,), dtype="int32")
    y = layers.GRU(4, recurrent_activation="tanh")(layers.Embedding(9, 3, mask_zero=True)(x))
    model = keras.Model(x, y)
    with pytest.raises(RewriteError, match="Its update gate cannot be held at 1"):
        convert_model(model)
    assert "inner_loop" not in vars(model.layers[-1])


class OwnLoop(layers.GRU):
    """A GRU that computes in a way of its own."""

    def inner_loop(self, *args: Any, **kwargs: Any) -> Any:
        return super().inner_loop(*args, **kwargs)


def test_all_that_cannot_be_fused_is_said_at_once() -> None:
    x = keras.Input((None, 3))
    y = OwnLoop(4, return_sequences=True, name="own")(x)
    y = layers.GRU(4, return_sequences=True, activation="mish", name="odd")(y)
    with pytest.raises(RewriteError) as caught:
        convert_model(keras.Model(x, layers.GRU(4)(y)))
    known = "tanh, sigmoid, relu, hard_sigmoid, elu, leaky_relu, softsign, softplus, linear"
    assert str(caught.value) == (
        "Expected a model whose GRUs are Keras's own, found:\n"
        "  - GRU layer 'own': its class OwnLoop computes in a way of its own: expected keras's "
        "GRU\n"
        f"  - GRU layer 'odd': activation 'mish': ONNX's GRU knows {known}"
    )


def test_a_layer_with_memory_between_calls_is_refused() -> None:
    x = keras.Input((5, 3), batch_size=2)
    with pytest.raises(RewriteError, match="stateful=True: a graph keeps no state between calls"):
        convert_model(keras.Model(x, layers.GRU(4, stateful=True)(x)))


def test_a_model_without_a_gru_is_left_to_tf2onnx() -> None:
    x = keras.Input((3,))
    with pytest.raises(RewriteError, match="holds no GRU layer: tf2onnx alone converts it"):
        convert_model(keras.Model(x, layers.Dense(2)(x), name="plain"))


def test_loops_of_other_layers_are_refused_by_name() -> None:
    x = keras.Input((None, 3))
    y = layers.SimpleRNN(4, return_sequences=True, name="simple")(x)
    y = layers.TimeDistributed(layers.Dense(4), name="timed")(y)
    with pytest.raises(RewriteError) as caught:
        convert_model(keras.Model(x, layers.GRU(4)(y)))
    assert str(caught.value).endswith(
        "  - control flow is left: Loop; other layers that loop over time: simple (SimpleRNN), "
        "timed (TimeDistributed)"
    )


def test_a_subclassed_model_is_told_how_to_be_wrapped() -> None:
    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="own")
            self.gru = layers.GRU(4)

        def call(self, x: Any) -> Any:
            return self.gru(x)

    model = Own()
    model(np.zeros((1, 2, 3), np.float32))
    with pytest.raises(RewriteError, match="Model 'own': expected a functional or Sequential"):
        convert_model(model)
    x = keras.Input((None, 3), name="vectors")
    assert count_operators(convert(keras.Model(x, model(x))))["GRU"] == 1


def test_operators_that_onnx_lacks_are_refused() -> None:
    x = keras.Input((None, 3))
    y = layers.Lambda(_lower)(layers.GRU(4)(x))
    with pytest.raises(RewriteError, match="tf2onnx could not say all of it"):
        convert_model(keras.Model(x, y))


def _lower(x: Any) -> Any:
    import tensorflow as tf

    return tf.math.igamma(x + 2.0, x + 2.0)
