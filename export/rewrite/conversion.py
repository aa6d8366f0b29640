"""Keras model -> tf2onnx -> graph with fused GRUs: what `export.rewrite.convert` does.

tf2onnx converts everything but the GRUs; these come as carriers (see `carrier`), which a handler
turns into ONNX's operator with the layer's own weights.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from onnx import numpy_helper

from export.onnx_graph import FORBIDDEN_OPERATORS, IR_VERSION, OPSET
from export.rewrite.carrier import CARRIER, MASKED, STARTED, carriers
from export.rewrite.errors import RewriteError
from export.rewrite.gru_operator import GruOperator, is_gru, list_problems, read_operator
from export.rewrite.signature import make_signature, name_outputs, run_flat


def find_gru_layers(model: Any) -> list[Any]:
    """List the GRU layers of a model, those in wrappers and nested models included, each once."""
    # Keras has no public walk that also finds the layers of wrappers and of subclassed models.
    return [layer for layer in model._flatten_layers() if is_gru(layer)]


def _refuse(problems: Sequence[str]) -> None:
    """Raise one error with all problems, if there are any."""
    if problems:
        raise RewriteError(
            "Expected a model whose GRUs are Keras's own, found:\n"
            + "\n".join(f"  - {problem}" for problem in problems)
        )


def _make_handler(operators: Sequence[GruOperator]) -> Callable[..., None]:
    """Make tf2onnx's handler of the carrier: one GRU operator, built from the layer's weights."""

    def handle(graph: Any, node: Any, name: str, args: Any) -> None:
        operator = operators[node.get_attr_int("seed")]
        called = node.get_attr_int("seed2")
        # Weights under one name for each layer and way of calling it: shared layers share them.
        prefix = f"gru_{node.get_attr_int('seed')}"

        def constant(suffix: str, values: Any) -> str:
            known = graph.get_node_by_name(f"{prefix}_{suffix}")
            return (known or graph.make_const(f"{prefix}_{suffix}", values)).output[0]

        masked = bool(called & MASKED)
        biases = operator.biases()
        inputs = [
            node.input[0],
            constant("masked_kernel" if masked else "kernel", operator.input_weights(masked)),
            constant("recurrent_kernel", operator.recurrent_weights()),
            "" if biases is None else constant("bias", biases),
            "",  # sequence_lens: not portable
            node.input[1] if called & STARTED else "",
        ]
        while not inputs[-1]:
            inputs.pop()
        outputs, dtypes, shapes = (
            list(node.output[:2]),
            list(node.output_dtypes[:2]),
            list(node.output_shapes[:2]),
        )
        graph.remove_node(node.name)
        y = f"{name}_directions"
        graph.make_node(
            "GRU",
            inputs,
            attr=operator.attributes(),
            outputs=[y, outputs[1]],
            name=f"{name}/GRU",
            dtypes=dtypes,
            shapes=[[shapes[0][0], 1, *shapes[0][1:]] if shapes[0] else None, shapes[1]],
        )
        axis = graph.make_const(f"{name}_axis", np.array([1], np.int64)).output[0]
        graph.make_node(
            "Squeeze",
            [y, axis],
            outputs=outputs[:1],
            name=f"{name}/Squeeze",
            dtypes=dtypes[:1],
            shapes=shapes[:1],
        )

    return handle


def _reverse_time(graph: Any, node: Any, name: str, args: Any) -> None:
    """Convert TensorFlow's ReverseV2 to a Slice that runs backwards.

    tf2onnx says it with ReverseSequence between two Transposes and a chain that computes lengths.
    """
    axes = node.inputs[1].get_tensor_value(as_list=True)
    axes = axes if isinstance(axes, list) else [axes]
    x, outputs = node.input[0], list(node.output)
    dtypes, shapes = list(node.output_dtypes), list(node.output_shapes)
    graph.remove_node(node.name)
    bounds = {
        "starts": [-1] * len(axes),
        "ends": [np.iinfo(np.int64).min] * len(axes),
        "axes": axes,
        "steps": [-1] * len(axes),
    }
    inputs = [
        graph.make_const(f"{name}_{bound}", np.array(values, np.int64)).output[0]
        for bound, values in bounds.items()
    ]
    graph.make_node(
        "Slice", [x, *inputs], outputs=outputs, name=f"{name}/Slice", dtypes=dtypes, shapes=shapes
    )


def _cancel_reversals(proto: onnx.ModelProto) -> None:
    """Take out pairs of reversals that undo each other: the GRU's and Bidirectional's."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    makers = {output: node for node in proto.graph.node for output in node.output}

    def find_axes(node: onnx.NodeProto | None) -> list[int] | None:
        if node is None or node.op_type != "Slice" or len(node.input) != 5:
            return None
        bounds = [values[name] for name in node.input[1:] if name in values]
        if len(bounds) != 4:
            return None
        starts, ends, axes, steps = bounds
        whole = (starts == -1).all() and (steps == -1).all() and (ends < -(2**31)).all()
        return sorted(axes.tolist()) if whole else None

    same = {}
    for node in proto.graph.node:
        axes = find_axes(node)
        inner = makers.get(node.input[0]) if axes is not None else None
        if inner is not None and find_axes(inner) == axes:
            same[node.output[0]] = inner.input[0]
    for node in proto.graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
    while _remove_unused(proto, "Slice"):
        pass  # the outer of a pair is what reads the inner


def _remove_unused(proto: onnx.ModelProto, operator: str) -> bool:
    """Remove the nodes of one kind and the constants that nothing reads; say if there were any."""
    used = {value.name for value in proto.graph.output}
    used |= {name for node in proto.graph.node for name in node.input}
    nodes = [
        node
        for node in proto.graph.node
        if node.op_type == operator and not used & set(node.output)
    ]
    for node in nodes:
        proto.graph.node.remove(node)
    for tensor in [tensor for tensor in proto.graph.initializer if tensor.name not in used]:
        proto.graph.initializer.remove(tensor)
    return bool(nodes)


def _rename(proto: onnx.ModelProto, names: dict[str, str]) -> None:
    """Rename tensors everywhere in a graph without subgraphs."""
    for node in proto.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        value.name = names.get(value.name, value.name)


def _name_ends(proto: onnx.ModelProto, outputs: Sequence[str]) -> None:
    """Give the graph's outputs Keras's names, and every open axis a name that says what it is."""
    _rename(
        proto, {value.name: name for value, name in zip(proto.graph.output, outputs, strict=True)}
    )
    del proto.graph.value_info[:]  # names axes that are renamed here
    for value in (*proto.graph.input, *proto.graph.output):
        for axis, size in enumerate(value.type.tensor_type.shape.dim):
            if not size.HasField("dim_value") or size.dim_value < 0:
                size.dim_param = "batch" if axis == 0 else f"{value.name}_axis_{axis}"


def convert_model(model: Any) -> onnx.ModelProto:
    """Convert a Keras model with every GRU fused, without comparing answers.

    Raises:
        RewriteError: There is no GRU, or one that cannot be fused, or a loop is left.
    """
    layers = find_gru_layers(model)
    problems = [
        f"GRU layer {layer.name!r}: {problem}"
        for layer in layers
        for problem in list_problems(layer)
    ]
    if not layers:
        problems.append(f"model {model.name!r} holds no GRU layer: tf2onnx alone converts it")
    _refuse(problems)
    signature = make_signature(model)

    def call(*inputs: Any) -> list[Any]:
        return [tf.identity(output) for output in run_flat(model, inputs)]

    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)  # what it could not say is found below
    with carriers(layers) as called, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras's were seen when the model was made
        function = tf.function(call, autograph=False)
        proto, _ = tf2onnx.convert.from_function(
            function,
            input_signature=signature,
            opset=OPSET,
            custom_op_handlers={
                CARRIER: (_make_handler([read_operator(layer) for layer in layers]), []),
                "ReverseV2": (_reverse_time, []),
            },
        )
    _refuse(
        [
            f"GRU layer {layer.name!r} is never called, or not through Keras's GRU.call"
            for number, layer in enumerate(layers)
            if number not in called
        ]
    )
    proto.ir_version = IR_VERSION
    proto.producer_name = "gatetable"
    _cancel_reversals(proto)
    _name_ends(proto, name_outputs(model, len(proto.graph.output)))
    _check_operators(model, proto, len(called))
    return proto


def _check_operators(model: Any, proto: onnx.ModelProto, expected: int) -> None:
    """Check that the graph is ONNX, holds the GRUs and no control flow."""
    operators = [node.op_type for node in proto.graph.node]
    foreign = sorted(
        {node.op_type for node in proto.graph.node if node.domain not in ("", "ai.onnx.ml")}
    )
    problems = []
    if forbidden := sorted(FORBIDDEN_OPERATORS & set(operators)):
        loops = (keras.layers.RNN, keras.layers.TimeDistributed)
        others = ", ".join(
            f"{layer.name} ({type(layer).__name__})"
            for layer in model._flatten_layers()
            if isinstance(layer, loops) and not is_gru(layer)
        )
        problems.append(
            f"control flow is left: {', '.join(forbidden)}"
            + (f"; other layers that loop over time: {others}" if others else "")
        )
    if operators.count("GRU") > expected:
        problems.append(f"{operators.count('GRU')} GRU operators for {expected} calls of layers")
    if "GRU" not in operators:
        problems.append("no GRU is left in the graph: no output depends on one")
    try:
        onnx.checker.check_model(proto, full_check=True)
    except onnx.checker.ValidationError as err:
        problems.append(f"tf2onnx could not say all of it: {str(err).splitlines()[0]}")
    _refuse(problems + [f"operator {name} is not of ONNX" for name in foreign])
