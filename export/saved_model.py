"""The two SavedModels: ids in, and raw text in.

`saved_model/` holds no custom op, so a bare TensorFlow loads it; `saved_model_text/` tokenises in
the graph with tensorflow-text, whose import a loader needs first. That op is why there are two.

The graph is what `keras.Model.export` gives, stock Keras GRU layers over plain variables, but for
two things: padding is told by `lengths` instead of by id 0, and `use_cudnn=False` keeps the GPU
variant of every layer, with its own checks on masks, out of the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
import tensorflow_text as tf_text
from tensorflow.core.protobuf import fingerprint_pb2

from export.weights import GruWeights, ModelWeights

SIGNATURE = "serving_default"
OUTPUT = "probabilities"


def _assign(layer: Any, weights: GruWeights) -> None:
    """Give a built Keras GRU layer its weights, by name."""
    for variable in layer.cell.weights:
        variable.assign(getattr(weights, variable.name))


def _build_layers(weights: ModelWeights) -> list[Any]:
    """Return the built (Bi)GRU layers, holding `weights`."""
    config = weights.config
    layers = []
    for index, directions in enumerate(weights.layers):
        layer = keras.layers.GRU(
            config.units,
            return_sequences=config.pooling != "last" or index < config.layers - 1,
            use_cudnn=False,
            name=f"gru_{index}",
        )
        sides = [layer]
        if config.bidirectional:
            layer = keras.layers.Bidirectional(layer, name=f"bigru_{index}")
            sides = [layer.forward_layer, layer.backward_layer]
        layer.build((None, None, directions[0].kernel.shape[0]))
        for side, gru in zip(sides, directions, strict=True):
            _assign(side, gru)
        layers.append(layer)
    return layers


class Classifier(tf.Module):
    """Owns the variables of a classifier; the Keras layers are called while tracing only.

    Args:
        weights: The trained numbers.
    """

    def __init__(self, weights: ModelWeights) -> None:
        super().__init__(name="classifier")
        self._config = weights.config
        # In a tuple inside a lambda, so that the SavedModel tracks variables, not Keras objects.
        layers = tuple(_build_layers(weights))
        self._layers = lambda: layers
        self.embedding = tf.Variable(weights.embedding, trainable=False, name="embedding")
        # Keras variables wrap TensorFlow's own; a variable not listed here could not be saved.
        self.gru = [variable.value for layer in layers for variable in layer.weights]
        self.head_kernel = tf.Variable(weights.head_kernel, trainable=False, name="head_kernel")
        self.head_bias = tf.Variable(weights.head_bias, trainable=False, name="head_bias")

    def classify(self, tokens: Any, lengths: Any) -> dict[str, Any]:
        """Trace the classifier over (B, T) int32 ids and (B,) int32 lengths."""
        config = self._config
        # Keras's loop cannot run over no step at all.
        tokens = tf.pad(tokens, [[0, 0], [0, tf.cast(tf.shape(tokens)[1] < 1, tf.int32)]])
        # A row without tokens reads one step: its id is padding, whose vector is the unknown's.
        mask = tf.sequence_mask(tf.maximum(lengths, 1), tf.shape(tokens)[1])  # (B, T)
        x = tf.nn.embedding_lookup(self.embedding, tokens)  # (B, T, E)
        for layer in self._layers():
            x = layer(x, mask=mask, training=False)
        if config.pooling == "max":
            # GRU outputs lie in [-1, 1], so -2 never wins over a real step.
            x = tf.reduce_max(tf.where(mask[:, :, tf.newaxis], x, -2.0), axis=1)
        elif config.pooling == "mean":
            share = tf.cast(mask, tf.float32)[:, :, tf.newaxis]  # (B, T, 1)
            x = tf.reduce_sum(x * share, axis=1) / tf.reduce_sum(share, axis=1)
        if config.relu:
            x = tf.nn.relu(x)
        logits = tf.matmul(x, self.head_kernel) + self.head_bias  # (B, C)
        return {OUTPUT: tf.nn.softmax(logits)}


class IdsClassifier(Classifier):
    """`serve(tokens: int32[B, T], lengths: int32[B])`."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.int32, name="tokens"),
            tf.TensorSpec([None], tf.int32, name="lengths"),
        ]
    )
    def serve(self, tokens: Any, lengths: Any) -> dict[str, Any]:
        """Classify token ids."""
        return self.classify(tokens, lengths)


class TextClassifier(Classifier):
    """`serve(text: string[B])`: the same classifier behind its own tokenizer.

    Args:
        weights: The trained numbers.
        tokenizer: SentencePiece model.
        max_tokens: Texts are cut to so many ids.
    """

    def __init__(self, weights: ModelWeights, tokenizer: bytes, max_tokens: int) -> None:
        super().__init__(weights)
        self._max_tokens = max_tokens
        self.tokenizer = tf_text.SentencepieceTokenizer(model=tokenizer, out_type=tf.int32)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def serve(self, text: Any) -> dict[str, Any]:
        """Classify UTF-8 texts; one without any piece reads as one unknown piece."""
        ids = self.tokenizer.tokenize(text)[:, : self._max_tokens]
        return self.classify(ids.to_tensor(0), tf.cast(ids.row_lengths(), tf.int32))


def write_saved_model(folder: Path, module: Classifier) -> None:
    """Write `module` with its `serve` method as `serving_default`.

    TensorFlow numbers the functions of a graph by a counter of the process, so bytes are equal
    between processes that did the same things in the same order; the fingerprint file also holds
    a random id, which is replaced by one that follows from the content.
    """
    tf.saved_model.save(module, str(folder), signatures={SIGNATURE: module.serve})
    path = folder / "fingerprint.pb"
    fingerprint = fingerprint_pb2.FingerprintDef.FromString(path.read_bytes())
    fingerprint.uuid = str(fingerprint.saved_model_checksum)
    path.write_bytes(fingerprint.SerializeToString(deterministic=True))
