"""The ONNX graph, built by hand from the weights: fused GRU operators, no Loop, Scan or If.

tf2onnx turns a Keras 3 GRU into a Loop of 40 small nodes, about five times slower at batch 1 (see
`docs/decisions/0002-fused-onnx-by-hand.md`); it serves as the oracle only. Source of the operator
semantics: ONNX operator specification, GRU-14, ReverseSequence-10, GatherND-13.

GRU's own `sequence_lens` input is not used, because OpenVINO and onnx.reference ignore it: the
backward direction is a forward GRU over rows reversed by their lengths, and pooling looks at the
positions before the length only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.weights import GruWeights, ModelWeights

OPSET = 18
IR_VERSION = 8
"""The IR of opset 18: onnxruntime has read it since 1.14."""
FORBIDDEN_OPERATORS = frozenset({"Loop", "Scan", "If"})


class _Graph:
    """Nodes and constants in the order they are added; names count up, so bytes never vary."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, values: Any) -> str:
        """Add a constant once and return its name."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def indices(self, *values: int) -> str:
        """Return the name of a 1-D int64 constant."""
        name = "indices_" + "_".join(str(value).replace("-", "m") for value in values)
        return self.constant(name, np.array(values, np.int64))

    def node(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        self.nodes.append(
            helper.make_node(
                operator, list(inputs), [name], name=f"{name}/{operator}", **attributes
            )
        )
        return name


def _add_gru(graph: _Graph, x: str, weights: GruWeights, name: str) -> str:
    """Add a forward GRU over `x`, (T, B, D), and return its outputs, (T, 1, B, H)."""
    # Keras and ONNX share the gate order z, r, h; Keras's reset_after is linear_before_reset.
    return graph.node(
        "GRU",
        [
            x,
            graph.constant(f"{name}_kernel", weights.kernel.T[None]),  # (1, 3H, D)
            graph.constant(f"{name}_recurrent_kernel", weights.recurrent_kernel.T[None]),
            graph.constant(f"{name}_bias", weights.bias.reshape(1, -1)),  # (1, 6H)
        ],
        name,
        hidden_size=weights.recurrent_kernel.shape[0],
        linear_before_reset=1,
    )


def _reverse(graph: _Graph, x: str, spans: str, name: str) -> str:
    """Reverse each row of `x`, (T, B, D), over its own length."""
    return graph.node("ReverseSequence", [x, spans], name, time_axis=0, batch_axis=1)


def _add_layers(graph: _Graph, weights: ModelWeights, x: str, spans: str) -> str:
    """Add every layer and return the last one's outputs, (T, 1, B, directions * H).

    The backward half of the result stays in reversed time: pooling needs no order, and the
    backward state that `last` wants lies at length - 1 there, exactly as the forward one does.
    """
    last_layer = len(weights.layers) - 1
    y = x
    for index, directions in enumerate(weights.layers):
        outputs = [_add_gru(graph, x, directions[0], f"gru_{index}_forward")]
        if len(directions) == 2:
            reversed_x = _reverse(graph, x, spans, f"gru_{index}_reversed")
            outputs.append(_add_gru(graph, reversed_x, directions[1], f"gru_{index}_backward"))
        if index == last_layer:
            y = graph.node("Concat", outputs, "states", axis=3) if len(outputs) == 2 else outputs[0]
            continue
        flat = [
            graph.node("Squeeze", [output, graph.indices(1)], f"{output}_flat")  # (T, B, H)
            for output in outputs
        ]
        if len(flat) == 2:
            flat[1] = _reverse(graph, flat[1], spans, f"gru_{index}_restored")
            x = graph.node("Concat", flat, f"layer_{index}", axis=2)  # (T, B, 2H)
        else:
            x = flat[0]
    return y


def _add_pooling(graph: _Graph, pooling: str, y: str, tokens: str, spans: str, width: int) -> str:
    """Pool `y`, (T, 1, B, D), over the positions before each length to (B, D)."""
    if pooling == "last":
        rows = graph.node("Transpose", [y], "rows", perm=[2, 0, 1, 3])  # (B, T, 1, D)
        ends = graph.node("Sub", [spans, graph.indices(1)], "ends")
        ends = graph.node("Unsqueeze", [ends, graph.indices(1)], "end_indices")  # (B, 1)
        state = graph.node("GatherND", [rows, ends], "end_states", batch_dims=1)  # (B, 1, D)
        return graph.node("Squeeze", [state, graph.indices(1)], "pooled")
    steps = graph.node("Shape", [tokens], "steps", start=1, end=2)
    steps = graph.node("Squeeze", [steps], "step_count")
    zero = graph.constant("zero", np.array(0, np.int64))
    one = graph.constant("one", np.array(1, np.int64))
    positions = graph.node("Range", [zero, steps, one], "positions")  # (T,)
    positions = graph.node("Reshape", [positions, graph.indices(-1, 1, 1, 1)], "position_column")
    ends = graph.node("Unsqueeze", [spans, graph.indices(1)], "length_column")  # (B, 1)
    valid = graph.node("Less", [positions, ends], "valid")  # (T, 1, B, 1)
    axes = graph.indices(0, 1)
    if pooling == "max":
        # GRU outputs lie in [-1, 1], so -2 never wins over a real step.
        floor = graph.constant("floor", np.array(-2.0, np.float32))
        masked = graph.node("Where", [valid, y, floor], "masked")
        return graph.node("ReduceMax", [masked, axes], "pooled", keepdims=0)
    nothing = graph.constant("nothing", np.array(0.0, np.float32))
    masked = graph.node("Where", [valid, y, nothing], "masked")
    total = graph.node("ReduceSum", [masked, axes], "total", keepdims=0)  # (B, D)
    count = graph.node("Cast", [ends], "count", to=TensorProto.FLOAT)  # (B, 1)
    return graph.node("Div", [total, count], "pooled")


def build_onnx(weights: ModelWeights, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """Build and check the graph of a classifier.

    Args:
        weights: The trained numbers.
        metadata: Written into `metadata_props`, sorted by key.

    Returns:
        A model from `tokens`, (B, T) int32, and `lengths`, (B,) int32, to `probabilities`,
        (B, C) float32; B and T dynamic, both at least 1.

    Raises:
        RuntimeError: The graph holds no GRU, or a control-flow operator.
    """
    config = weights.config
    graph = _Graph()
    spans = graph.node("Cast", ["lengths"], "lengths_int64", to=TensorProto.INT64)
    spans = graph.node("Max", [spans, graph.indices(1)], "spans")  # a row without tokens is one UNK
    # Ids are transposed, not vectors: E times fewer elements to move.
    by_time = graph.node("Transpose", ["tokens"], "tokens_by_time", perm=[1, 0])  # (T, B)
    x = graph.node("Gather", [graph.constant("embedding", weights.embedding), by_time], "vectors")
    y = _add_layers(graph, weights, x, spans)
    pooled = _add_pooling(graph, config.pooling, y, "tokens", spans, config.pooled_dim)
    if config.relu:
        pooled = graph.node("Relu", [pooled], "rectified")
    head = [
        graph.constant("head_kernel", weights.head_kernel),
        graph.constant("head_bias", weights.head_bias),
    ]
    logits = graph.node("Gemm", [pooled, *head], "logits")
    graph.node("Softmax", [logits], "probabilities", axis=1)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "classifier",
            [
                helper.make_tensor_value_info("tokens", TensorProto.INT32, ["B", "T"]),
                helper.make_tensor_value_info("lengths", TensorProto.INT32, ["B"]),
            ],
            [
                helper.make_tensor_value_info(
                    "probabilities", TensorProto.FLOAT, ["B", config.num_classes]
                )
            ],
            list(graph.constants.values()),
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="gatetable",
    )
    helper.set_model_props(model, dict(sorted(metadata.items())))
    check_onnx(model)
    return model


def check_onnx(model: onnx.ModelProto) -> None:
    """Check the graph against the ONNX specification and against our own promise.

    Raises:
        RuntimeError: The graph holds no GRU, or a control-flow operator.
        onnx.checker.ValidationError: It is not valid ONNX.
    """
    onnx.checker.check_model(model, full_check=True)  # runs shape inference, strictly
    operators = {node.op_type for node in model.graph.node}
    forbidden = operators & FORBIDDEN_OPERATORS
    if "GRU" not in operators or forbidden:
        raise RuntimeError(
            f"model.onnx: expected GRU operators and none of {sorted(FORBIDDEN_OPERATORS)}, "
            f"found {sorted(operators)}."
        )


def write_onnx(path: Path, model: onnx.ModelProto) -> None:
    """Write `model` as deterministic bytes."""
    path.write_bytes(model.SerializeToString(deterministic=True))
