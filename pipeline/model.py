"""The Keras model family: tokens -> Embedding -> (Bi)GRU layers -> pooling -> head -> softmax.

Gives a functional model whose every layer has a fixed name, because the exporters take weights
by layer and weight name. Stock Keras layers throughout but for `MaskedPooling`: Keras's own
`GlobalMaxPooling1D` ignores masks, and a backward GRU emits zeros at padded steps, so a plain
maximum would depend on the padding.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from pipeline.config import PAD_ID, ModelConfig, RecurrentKind
from pipeline.fast_gru import FastGRU


@keras.saving.register_keras_serializable(package="gatetable")
class MaskedPooling(keras.layers.Layer):
    """Maximum or mean over the unmasked time steps: `(B, T, D) -> (B, D)`.

    Args:
        mode: `max` or `mean`.
        **kwargs: Passed to `keras.layers.Layer`.
    """

    def __init__(self, mode: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if mode not in ("max", "mean"):
            raise ValueError(f"mode: expected 'max' or 'mean', found {mode!r}.")
        self.mode = mode
        self.supports_masking = True

    def call(self, outputs: Any, mask: Any = None) -> Any:
        """Pool `outputs` of shape (B, T, D) under a `mask` of shape (B, T)."""
        if mask is None:
            return ops.max(outputs, axis=1) if self.mode == "max" else ops.mean(outputs, axis=1)
        valid = ops.expand_dims(mask, -1)  # (B, T, 1)
        if self.mode == "max":
            # GRU outputs lie in [-1, 1], so -2 never wins over a real step.
            return ops.max(ops.where(valid, outputs, -2.0), axis=1)
        weights = ops.cast(valid, outputs.dtype)
        return ops.sum(outputs * weights, axis=1) / ops.maximum(ops.sum(weights, axis=1), 1.0)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """Return no mask: time is gone."""
        return None

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Drop the time axis."""
        return (input_shape[0], input_shape[2])

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "mode": self.mode}


def build_model(config: ModelConfig, *, cell: RecurrentKind = "layer") -> keras.Model:
    """Build the classifier that `config` describes, with fresh weights.

    Args:
        config: Shape of the model.
        cell: `hoisted` builds each layer as `FastGRU`, with the weights and names of `layer`, and
            `cell` as `RNN(GRUCell)`, to compare: the same weights in the same order, other names
            within a layer. Neither is ever on cuDNN. What is saved is built by `layer`.

    Returns:
        A functional model from `tokens`, (B, T) int32 right-padded with 0, to class
        probabilities, (B, C) float32. Layers are named `embedding`, `embedding_dropout`,
        `gru_0` ... (or `bigru_0` ..., holding `forward_gru_0` and `backward_gru_0`), `pooling`
        (absent for `last`), `relu`, `head_dropout`, `head`.
    """
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    x = keras.layers.Embedding(
        config.vocab_size, config.embed_dim, mask_zero=PAD_ID == 0, name="embedding"
    )(tokens)
    if config.embedding_dropout:
        is_spatial = config.embedding_dropout_kind == "spatial"
        dropout = keras.layers.SpatialDropout1D if is_spatial else keras.layers.Dropout
        x = dropout(config.embedding_dropout, name="embedding_dropout")(x)
    for index in range(config.layers):
        returns_sequences = config.pooling != "last" or index < config.layers - 1
        gru = _build_layer(config, cell, returns_sequences, name=f"gru_{index}")
        x = (
            keras.layers.Bidirectional(gru, name=f"bigru_{index}") if config.bidirectional else gru
        )(x)
    if config.pooling != "last":
        x = MaskedPooling(config.pooling, name="pooling")(x)
    if config.relu:
        x = keras.layers.ReLU(name="relu")(x)
    if config.head_dropout:
        x = keras.layers.Dropout(config.head_dropout, name="head_dropout")(x)
    probabilities = keras.layers.Dense(config.num_classes, activation="softmax", name="head")(x)
    return keras.Model(tokens, probabilities, name="classifier")


def choose_cell(cell: RecurrentKind) -> RecurrentKind:
    """Return what `auto` is on this machine, and any other kind as it is."""
    if cell != "auto":
        return cell
    return "layer" if tf.config.list_physical_devices("GPU") else "hoisted"


def _build_layer(
    config: ModelConfig, cell: RecurrentKind, return_sequences: bool, *, name: str
) -> keras.layers.RNN:
    # Default activations, bias and reset_after=True: the form cuDNN, ONNX and the gate table all
    # share.
    dropouts = {"dropout": config.gru_dropout, "recurrent_dropout": config.recurrent_dropout}
    cell = choose_cell(cell)
    if cell != "cell":
        kind = FastGRU if cell == "hoisted" else keras.layers.GRU
        return kind(config.units, return_sequences=return_sequences, name=name, **dropouts)
    inner = keras.layers.GRUCell(config.units, name="gru_cell", **dropouts)
    return keras.layers.RNN(inner, return_sequences=return_sequences, name=name)


def list_recurrent_layers(model: keras.Model) -> list[keras.layers.RNN]:
    """Return the recurrent layers of a model, each direction by itself."""
    found = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.Bidirectional):
            found += [layer.forward_layer, layer.backward_layer]
        elif isinstance(layer, keras.layers.RNN):
            found.append(layer)
    return found
