"""Pretrains a model as a language model of its own training split, before it sees a label.

Embedding and first GRU layer learn to tell the next piece of each text, a backward direction the
one before. Classes are learnt behind it, from there: what a piece means where it stands is known
by then. Source of the idea: Dai and Le, "Semi-supervised Sequence Learning", 2015; the loss is the
sampled softmax of Jean et al., 2015, by `tf.nn.sampled_softmax_loss`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from pipeline.cache_folder import CacheConfig
from pipeline.config import PAD_ID, ModelConfig, TrainConfig
from pipeline.data_folder import PreparedData
from pipeline.dataset import count_steps, make_id_blocks
from pipeline.fused_adam import FusedAdamW
from pipeline.model import build_model
from pipeline.objective import OneCycle
from pipeline.progress_bar import EpochBar
from pipeline.training_data import make_stream

PRETRAINED_FILE = "pretrained.weights.h5"
NUM_SAMPLED = 1024
"""Pieces that a text's own ones are told from in a step, drawn anew in each."""
DISTORTION = 0.75
"""A piece is drawn as often as its count to this power says, as word2vec does."""


def pretrain(
    model: keras.Model,
    config: ModelConfig,
    training: TrainConfig,
    data: PreparedData,
    *,
    cache: CacheConfig,
    folder: Path,
    console: Console,
) -> None:
    """Give the embedding and the first GRU layer of a fresh classifier what texts alone teach.

    Args:
        model: The classifier, as it starts; all its other weights stay.
        config: Its shape.
        training: `pretrain_epochs`, batch size, rate, decay and seed count.
        data: A prepared data folder.
        cache: Where tokenised rows are kept between epochs.
        folder: The partial run folder. What was learnt is kept there until the classifier's first
            checkpoint, so that a training killed in between does not learn it again.
        console: Where progress goes.
    """
    # Of one layer, and with a pooling that needs every state.
    reader = build_model(dataclasses.replace(config, layers=1, pooling="max"), cell=training.cell)
    recurrent = "bigru_0" if config.bidirectional else "gru_0"
    shared = ("embedding", recurrent)
    for name in shared:
        reader.get_layer(name).set_weights(model.get_layer(name).get_weights())
    reader.get_layer("embedding").trainable = training.embedding_trainable
    encoder = keras.Model(reader.inputs, reader.get_layer(recurrent).output, name="encoder")
    kept = folder / PRETRAINED_FILE
    if kept.is_file():
        encoder.load_weights(kept)
    else:
        _fit(encoder, training, data, cache, console)
        partial = kept.with_name(f"partial-{PRETRAINED_FILE}")
        encoder.save_weights(partial, overwrite=True)
        partial.replace(kept)
    for name in shared:
        model.get_layer(name).set_weights(encoder.get_layer(name).get_weights())


def _fit(
    encoder: keras.Model,
    training: TrainConfig,
    data: PreparedData,
    cache: CacheConfig,
    console: Console,
) -> None:
    steps = count_steps(data.train.count, training.batch_size)
    epochs = training.pretrain_epochs
    model = LanguageModel(encoder, counts=count_pieces(data), seed=training.seed)
    model.compile(
        FusedAdamW(
            OneCycle(training.learning_rate, steps * epochs), weight_decay=training.weight_decay
        ),
        jit_compile=False,
    )
    whole = dataclasses.replace(training, word_dropout=0.0, subword_sampling=0.0)
    bar = EpochBar(console, title="language model", num_epochs=epochs, steps=steps)
    try:
        model.fit(
            make_stream(data, whole, cache=cache).dataset,
            epochs=epochs,
            steps_per_epoch=steps,
            callbacks=[bar],
            shuffle=False,
            verbose=0,
        )
    finally:
        bar.close()


def count_pieces(data: PreparedData) -> np.ndarray:
    """Return how often each piece occurs in the training split: (V,) int64."""
    counts = np.zeros(data.vocab_size, np.int64)
    blocks = make_id_blocks(data.train.shards, data.tokenizer_path, max_tokens=data.max_tokens)
    for ids, _ in blocks:
        counts += np.bincount(ids.flat_values.numpy(), minlength=len(counts))
    return counts


class LanguageModel(keras.Model):
    """An encoder whose states are asked for the piece ahead, with a loss of its own.

    Args:
        encoder: From (B, T) int32 ids to states (B, T, H), or (B, T, 2H) of two directions.
        counts: (V,) how often each piece occurs in the training split.
        seed: Of what is drawn.
    """

    def __init__(self, encoder: keras.Model, *, counts: np.ndarray, seed: int) -> None:
        super().__init__()
        self.encoder = encoder
        has_two = isinstance(encoder.layers[-1], keras.layers.Bidirectional)
        self._units = encoder.output_shape[-1] // (2 if has_two else 1)
        weights = np.maximum(counts, 1e-3).astype(np.float64) ** DISTORTION
        weights[PAD_ID] = weights.min() * 1e-6
        self._shares = tf.constant(weights / weights.sum(), tf.float32)
        self._seed = seed
        width = encoder.get_layer("embedding").output_dim  # states and pieces meet in it
        self.ahead = keras.layers.Dense(width, name="ahead")
        self.behind = keras.layers.Dense(width, name="behind") if has_two else None
        self.pieces = self.add_weight(shape=(len(counts), width), name="pieces")
        self.piece_bias = self.add_weight(
            shape=(len(counts),), initializer="zeros", name="piece_bias"
        )

    def build(self, input_shape: Any) -> None:
        """Make the weights that depend on the states' width."""
        for layer in (self.ahead, self.behind):
            if layer is not None:
                layer.build((None, self._units))
        super().build(input_shape)

    def call(self, tokens: Any, training: bool = False) -> Any:
        """Return the states of `tokens`."""
        return self.encoder(tokens, training=training)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the mean negative log-likelihood of a piece among the drawn ones, a scalar.

        Args:
            x: (B, T) int32 ids, padded on the right.
            y: As Keras gives them; like `sample_weight` and `training` not looked at.
            y_pred: The states.
            sample_weight: See `y`.
            training: See `y`.
        """
        rows = [self._collect(self.ahead, y_pred[:, :-1, : self._units], x[:, 1:], x[:, :-1])]
        if self.behind is not None:
            rows.append(
                self._collect(self.behind, y_pred[:, 1:, self._units :], x[:, :-1], x[:, 1:])
            )
        inputs = tf.concat([states for states, _ in rows], 0)  # (N, E)
        targets = tf.concat([pieces for _, pieces in rows], 0)[:, tf.newaxis]  # (N, 1) int64
        drawn = tf.random.stateless_categorical(
            tf.math.log(self._shares)[tf.newaxis],
            NUM_SAMPLED,
            tf.stack([self._seed, tf.cast(self.optimizer.iterations.value, tf.int32)]),
        )[0]
        losses = tf.nn.sampled_softmax_loss(
            weights=self.pieces.value,
            biases=self.piece_bias.value,
            labels=targets,
            inputs=inputs,
            num_sampled=NUM_SAMPLED,
            num_classes=len(self._shares),
            sampled_values=(
                drawn,
                NUM_SAMPLED * tf.gather(self._shares, targets),
                NUM_SAMPLED * tf.gather(self._shares, drawn),
            ),
        )
        # Texts of one piece hold nothing to tell.
        return tf.math.divide_no_nan(
            tf.reduce_sum(losses), tf.cast(tf.shape(losses)[0], tf.float32)
        )

    def _collect(self, layer: Any, states: Any, targets: Any, sources: Any) -> tuple[Any, Any]:
        """Project the states that have both a piece read and one to tell."""
        is_told = (targets != PAD_ID) & (sources != PAD_ID)
        return layer(tf.boolean_mask(states, is_told)), tf.cast(
            tf.boolean_mask(targets, is_told), tf.int64
        )
