"""The trained numbers of an artifact, read out of `model.onnx` for runtimes that read no ONNX.

`export/onnx_graph.py` names the arrays; torch and LiteRT get the same numbers in their own form.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float32 = NDArray[np.float32]

Pooling = Literal["last", "max", "mean"]


@dataclass(frozen=True, kw_only=True)
class GruArrays:
    """One direction of one layer; gates in Keras's order z, r, candidate.

    Attributes:
        kernel: (3H, D).
        recurrent_kernel: (3H, H).
        bias: (2, 3H), input and recurrent.
    """

    kernel: Float32
    recurrent_kernel: Float32
    bias: Float32


@dataclass(frozen=True, kw_only=True)
class GraphWeights:
    """All arrays of a classifier and what stands between them.

    Attributes:
        embedding: (V, E).
        layers: The directions of each layer, forward first.
        head_kernel: (D, C).
        head_bias: (C,).
        pooling: What is taken from the last layer's outputs.
        relu: Whether a ReLU follows.
    """

    embedding: Float32
    layers: tuple[tuple[GruArrays, ...], ...]
    head_kernel: Float32
    head_bias: Float32
    pooling: Pooling
    relu: bool


def read_graph_weights(path: Path) -> GraphWeights:
    """Return the numbers in a `model.onnx` of this project.

    Raises:
        ImportError: The package `onnx` is not installed.
        KeyError: The graph has other arrays.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(path)).graph
    arrays = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}
    operators = {node.op_type for node in graph.node}

    def read_direction(layer: int, direction: str) -> GruArrays:
        name = f"gru_{layer}_{direction}"
        kernel = arrays[f"{name}_kernel"][0]
        return GruArrays(
            kernel=kernel,
            recurrent_kernel=arrays[f"{name}_recurrent_kernel"][0],
            bias=arrays[f"{name}_bias"].reshape(2, len(kernel)),
        )

    layers: list[tuple[GruArrays, ...]] = []
    while f"gru_{len(layers)}_forward_kernel" in arrays:
        number = len(layers)
        directions = ["forward"]
        if f"gru_{number}_backward_kernel" in arrays:
            directions.append("backward")
        layers.append(tuple(read_direction(number, direction) for direction in directions))
    pooling: Pooling = "last"
    if "ReduceMax" in operators:
        pooling = "max"
    elif "ReduceSum" in operators:
        pooling = "mean"
    return GraphWeights(
        embedding=arrays["embedding"],
        layers=tuple(layers),
        head_kernel=arrays["head_kernel"],
        head_bias=arrays["head_bias"],
        pooling=pooling,
        relu="Relu" in operators,
    )
