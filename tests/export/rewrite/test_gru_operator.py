from __future__ import annotations

import keras
import numpy as np
import onnx
import onnx.reference
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.rewrite.gru_operator import ACTIVATIONS, HOLD, is_gru, list_problems, read_operator

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("function", ACTIVATIONS, ids=lambda function: function.__name__)
def test_every_activation_is_the_same_function_in_onnx(function) -> None:  # type: ignore[no-untyped-def]
    # One unit, no recurrence: h = (1 - sigmoid(-x)) * function(x) = sigmoid(x) * function(x).
    layer = keras.layers.GRU(1, activation=function, use_bias=False)
    layer.build((None, 1, 1))
    layer.cell.kernel.assign([[-1.0, 0.0, 1.0]])
    operator = read_operator(layer)
    constants = {"W": operator.input_weights(False), "R": operator.recurrent_weights()}
    graph = helper.make_graph(
        [helper.make_node("GRU", ["x", "W", "R"], ["", "h"], **operator.attributes())],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "B", 1])],
        [helper.make_tensor_value_info("h", TensorProto.FLOAT, [1, "B", 1])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(model)
    x = np.linspace(-4, 4, 41, dtype=np.float32).reshape(1, 41, 1)
    found = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    expected = np.asarray(function(x[0])) / (1 + np.exp(-x[0]))
    np.testing.assert_allclose(found[0], expected, atol=2e-6)


def test_the_masks_feature_holds_the_update_gate_alone() -> None:
    layer = keras.layers.GRU(2)
    layer.build((None, 1, 3))
    weights = read_operator(layer).input_weights(masked=True)
    assert weights.shape == (1, 6, 4)
    assert weights[0, :, -1].tolist() == [HOLD, HOLD, 0, 0, 0, 0]


@pytest.mark.parametrize(("weight", "is_exact"), [(20, False), (100, True), (HOLD, True)])
def test_380_held_steps_change_nothing_in_three_runtimes(weight: float, is_exact: bool) -> None:
    import openvino

    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(1, 48, 9)).astype(np.float32)
    kernel[:, :, -1] = 0
    kernel[:, :16, -1] = weight
    recurrent = (rng.normal(size=(1, 48, 16)) / 2).astype(np.float32)
    bias = rng.normal(size=(1, 96)).astype(np.float32)
    node = helper.make_node(
        "GRU", ["x", "W", "R", "B"], ["y"], hidden_size=16, linear_before_reset=1
    )
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [400, 3, 9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [400, 1, 3, 16])],
        [numpy_helper.from_array(v, n) for n, v in (("W", kernel), ("R", recurrent), ("B", bias))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    x = rng.normal(size=(400, 3, 9)).astype(np.float32)
    x[:20, :, -1], x[20:, :, -1] = 0, 1
    content, core = model.SerializeToString(), openvino.Core()
    precise = {"INFERENCE_PRECISION_HINT": "f32"}
    for y in (
        onnxruntime.InferenceSession(content).run(None, {"x": x})[0],
        onnx.reference.ReferenceEvaluator(model).run(None, {"x": x})[0],
        core.compile_model(core.read_model(content), "CPU", precise)([x])[0],
    ):
        assert (np.abs(y[-1] - y[19]).max() == 0) == is_exact


def test_without_reset_after_the_recurrent_bias_is_zero() -> None:
    layer = keras.layers.GRU(2, reset_after=False, bias_initializer="ones")
    layer.build((None, 1, 3))
    operator = read_operator(layer)
    biases = operator.biases()
    assert biases is not None
    assert biases.tolist() == [[1] * 6 + [0] * 6]
    assert operator.attributes()["linear_before_reset"] == 0


def test_an_rnn_over_a_gru_cell_counts_as_a_gru_and_others_do_not() -> None:
    assert is_gru(keras.layers.RNN(keras.layers.GRUCell(2)))
    assert not is_gru(keras.layers.LSTM(2))
    assert not is_gru(keras.layers.RNN([keras.layers.GRUCell(2), keras.layers.GRUCell(2)]))


def test_a_layer_without_weights_is_refused() -> None:
    assert list_problems(keras.layers.GRU(2)) == ["it has no weights yet: call the model once"]
