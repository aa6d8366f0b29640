"""The numbers of a trained model, taken out of Keras by layer and weight name.

Gives `ModelWeights`, plain NumPy arrays that every exporter starts from, so that no exporter
knows Keras's object tree. Source of the layout: `keras/src/layers/rnn/gru.py` (gate order
z, r, h; with `reset_after=True` the bias has two rows, input and recurrent).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.run_folder import ModelConfig

if TYPE_CHECKING:
    import keras

Float32 = NDArray[np.float32]

UNKNOWN_ID = 1
"""Id of an unknown piece; a row without tokens means one of it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GruWeights:
    """One direction of one GRU layer, gates in the order z, r, h.

    Attributes:
        kernel: (D, 3H) float32, D being E for the first layer, else directions x H.
        recurrent_kernel: (H, 3H) float32.
        bias: (2, 3H) float32, the input bias and the recurrent bias.
    """

    kernel: Float32
    recurrent_kernel: Float32
    bias: Float32


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelWeights:
    """All trained numbers of a classifier. Immutable; safe to share between threads.

    Attributes:
        config: Shape of the model.
        embedding: (V, E) float32 whose row 0 is a copy of row 1: padding is told by the lengths
            alone, so row 0 is free to give rows without tokens the meaning "one unknown piece".
        layers: For each layer its directions, the forward one first.
        head_kernel: (directions * H, C) float32.
        head_bias: (C,) float32.
    """

    config: ModelConfig
    embedding: Float32
    layers: tuple[tuple[GruWeights, ...], ...]
    head_kernel: Float32
    head_bias: Float32


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return path -> shape of every weight a model of this shape has.

    Paths are those Keras gives: `embedding/embeddings`, `gru_0/gru_cell/kernel`,
    `bigru_0/backward_gru_0/gru_cell/bias`, `head/kernel`.
    """
    shapes: dict[str, tuple[int, ...]] = {
        "embedding/embeddings": (config.vocab_size, config.embed_dim)
    }
    gates = 3 * config.units
    for index, paths in enumerate(_cell_paths(config)):
        for path in paths:
            shapes[f"{path}/kernel"] = (
                config.embed_dim if index == 0 else config.pooled_dim,
                gates,
            )
            shapes[f"{path}/recurrent_kernel"] = (config.units, gates)
            shapes[f"{path}/bias"] = (2, gates)
    shapes["head/kernel"] = (config.pooled_dim, config.num_classes)
    shapes["head/bias"] = (config.num_classes,)
    return shapes


def _cell_paths(config: ModelConfig) -> Iterator[tuple[str, ...]]:
    """Yield for each layer the paths of its cells, the forward direction first."""
    for index in range(config.layers):
        if config.bidirectional:
            yield tuple(
                f"bigru_{index}/{side}_gru_{index}/gru_cell" for side in ("forward", "backward")
            )
        else:
            yield (f"gru_{index}/gru_cell",)


def read_keras_weights(model: keras.Model) -> dict[str, Float32]:
    """Return path -> array of every trained weight of `model`; seed states are left out.

    Keras's own `weight.path` loses the Bidirectional layer's name when a model is loaded from a
    file, so paths are put together from the names of layers, cells and weights.
    """
    return {
        path: np.asarray(weight.numpy())
        for layer in model.layers
        for path, weight in _walk_weights(layer, "")
        if weight.name != "seed_generator_state"
    }


def _walk_weights(layer: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield (path, weight) of a layer, its directions and cells opened."""
    path = f"{prefix}{layer.name}/"
    inner = [
        getattr(layer, name)
        for name in ("forward_layer", "backward_layer", "cell")
        if hasattr(layer, name)
    ]
    for part in inner:
        yield from _walk_weights(part, path)
    if not inner:
        yield from ((f"{path}{weight.name}", weight) for weight in layer.weights)


def take_weights(config: ModelConfig, arrays: dict[str, Float32]) -> ModelWeights:
    """Arrange named Keras weights as `ModelWeights`.

    Args:
        config: Shape of the model.
        arrays: Path -> array as `read_keras_weights` gives; `check_exportable` has found every
            path of `expected_shapes` in it.

    Returns:
        Copies, row 0 of the embedding overwritten by row 1.
    """

    def take(path: str) -> Float32:
        return np.array(arrays[path], dtype=np.float32, order="C")

    embedding = take("embedding/embeddings")
    embedding[0] = embedding[UNKNOWN_ID]
    return ModelWeights(
        config=config,
        embedding=embedding,
        layers=tuple(
            tuple(
                GruWeights(
                    kernel=take(f"{path}/kernel"),
                    recurrent_kernel=take(f"{path}/recurrent_kernel"),
                    bias=take(f"{path}/bias"),
                )
                for path in paths
            )
            for paths in _cell_paths(config)
        ),
        head_kernel=take("head/kernel"),
        head_bias=take("head/bias"),
    )
