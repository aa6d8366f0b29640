from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from export.onnx_graph import FORBIDDEN_OPERATORS, build_onnx, check_onnx, write_onnx
from pipeline.config import ModelConfig
from tests.export.tiny import make_config, make_weights

SHAPES = [
    make_config(pooling=pooling, bidirectional=bidirectional, layers=layers)
    for pooling in ("last", "max", "mean")
    for bidirectional in (False, True)
    for layers in (1, 2)
]


def name_shape(config: ModelConfig) -> str:
    return f"{config.pooling}-{config.directions}-{config.layers}"


@pytest.mark.parametrize("config", SHAPES, ids=name_shape)
def test_graph_has_one_fused_gru_a_layer_and_direction(config: ModelConfig) -> None:
    operators = [node.op_type for node in build_onnx(make_weights(config), {}).graph.node]
    assert operators.count("GRU") == config.layers * config.directions
    assert not set(operators) & FORBIDDEN_OPERATORS


def test_the_default_shape_takes_few_nodes() -> None:
    # At batch 1 each node costs one or two microseconds in onnxruntime.
    assert len(build_onnx(make_weights(make_config()), {}).graph.node) <= 19


def test_no_gru_is_given_sequence_lengths() -> None:
    for node in build_onnx(make_weights(make_config(layers=2)), {}).graph.node:
        if node.op_type == "GRU":
            assert len(node.input) == 4


def test_batch_and_time_are_dynamic() -> None:
    graph = build_onnx(make_weights(make_config()), {}).graph
    dims = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert dims == {"tokens": ["B", "T"], "lengths": ["B"], "probabilities": ["B", 5]}


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        model = build_onnx(make_weights(make_config(layers=2)), {"b": "2", "a": "1"})
        write_onnx(tmp_path / name, model)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_metadata_is_written_sorted() -> None:
    model = build_onnx(make_weights(make_config()), {"b": "2", "a": "1"})
    assert [(entry.key, entry.value) for entry in model.metadata_props] == [("a", "1"), ("b", "2")]


def test_a_graph_without_gru_is_refused() -> None:
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    with pytest.raises(
        RuntimeError,
        match=r"expected GRU operators and none of \['If', 'Loop', 'Scan'\], found \['Relu'\]",
    ):
        check_onnx(model)


@pytest.mark.parametrize("config", SHAPES, ids=name_shape)
def test_padding_and_its_ids_do_not_matter(config: ModelConfig) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        build_onnx(make_weights(config), {}).SerializeToString(),
        providers=["CPUExecutionProvider"],
    )
    rng = np.random.default_rng(1)
    lengths = np.array([1, 4, 7, 0], np.int32)
    tight = rng.integers(1, 96, (4, 7)).astype(np.int32)
    tight[3] = 0
    wide = np.concatenate([tight, rng.integers(0, 96, (4, 5)).astype(np.int32)], axis=1)
    for row, length in enumerate(lengths[:3]):
        wide[row, length:] = rng.integers(0, 96, 12 - length)
    found, expected = (
        session.run(None, {"tokens": ids, "lengths": lengths})[0] for ids in (wide, tight)
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)
    one_unknown = {"tokens": np.array([[1]], np.int32), "lengths": np.array([1], np.int32)}
    np.testing.assert_allclose(found[3:], session.run(None, one_unknown)[0], atol=1e-6)
