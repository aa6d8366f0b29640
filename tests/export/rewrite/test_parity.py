from __future__ import annotations

from typing import Any

import keras
import numpy as np
import onnx
import pytest
from keras import layers
from onnx import numpy_helper

from export.rewrite.conversion import convert_model
from export.rewrite.errors import ParityError
from export.rewrite.parity import check_parity, make_inputs
from tests.export.rewrite.foreign_models import build, gru_masked, masking_layer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model() -> Any:
    return build(gru_masked)


@pytest.fixture(scope="module")
def proto(model: Any) -> onnx.ModelProto:
    return convert_model(model)


def change(proto: onnx.ModelProto, name: str, by: float) -> onnx.ModelProto:
    """Return a copy with one number of one constant changed."""
    copy = onnx.ModelProto.FromString(proto.SerializeToString())
    (tensor,) = [tensor for tensor in copy.graph.initializer if name in tensor.name]
    values = numpy_helper.to_array(tensor).copy()
    values.flat[0] += by
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return copy


def test_a_changed_weight_is_found(model: Any, proto: onnx.ModelProto) -> None:
    check_parity(model, change(proto, "gru_0_recurrent_kernel", 1e-7))
    with pytest.raises(ParityError, match=r"'probabilities': expected Keras's answers within 1.0e"):
        check_parity(model, change(proto, "gru_0_recurrent_kernel", 0.5))


def test_a_mask_that_holds_too_weakly_is_found(model: Any, proto: onnx.ModelProto) -> None:
    weak = onnx.ModelProto.FromString(proto.SerializeToString())
    (tensor,) = [tensor for tensor in weak.graph.initializer if "masked_kernel" in tensor.name]
    values = numpy_helper.to_array(tensor).copy()
    values[..., -1] /= 2e3  # the sigmoid of 5 is 0.993
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    with pytest.raises(ParityError, match="found a difference of"):
        check_parity(model, weak)


def test_a_graph_that_onnxruntime_refuses_is_a_failed_check(
    model: Any, proto: onnx.ModelProto
) -> None:
    broken = onnx.ModelProto.FromString(proto.SerializeToString())
    next(node for node in broken.graph.node if node.op_type == "GRU").op_type = "GRUU"
    with pytest.raises(ParityError, match="onnxruntime: expected to run the graph, found: "):
        check_parity(model, broken)


def test_an_output_of_another_shape_is_found(model: Any) -> None:
    x = keras.Input((None,), dtype="int32", name="tokens")
    y = layers.GRU(3, return_sequences=True)(layers.Embedding(60, 4)(x))
    with pytest.raises(ParityError, match=r"expected shape \(1, 7\) as from Keras, found \(1, 1, "):
        check_parity(model, convert_model(keras.Model(x, y)))


def test_a_model_that_takes_none_of_our_shapes_cannot_be_checked() -> None:
    x = keras.Input((None, 3), name="vectors")
    y = layers.Conv1D(4, 30)(x)
    model = keras.Model(x, layers.GRU(4)(y), name="long")
    with pytest.raises(ParityError, match="Model 'long': expected it to accept a batch of 1 x 1"):
        check_parity(model, convert_model(model))


def test_rows_are_padded_on_every_side(model: Any) -> None:
    rng = np.random.default_rng(0)
    rows = np.concatenate([make_inputs(model, 9, 7, rng)["tokens"] for _ in range(9)]) != 0
    ends = {(bool(row[0]), bool(row[-1]), bool(row.all())) for row in rows}
    assert ends >= {(True, False, False), (False, True, False), (True, True, False)}
    assert (True, True, True) in ends
    assert any(not row.any() for row in rows)
    assert make_inputs(model, 9, 7, rng, padded=False)["tokens"].all()


def test_vectors_are_padded_with_what_the_masking_layer_masks() -> None:
    rng = np.random.default_rng(0)
    vectors = make_inputs(build(masking_layer), 9, 7, rng)["vectors"]
    assert (vectors == -1.0).all(-1).any()
    assert not (vectors == 0.0).any()
