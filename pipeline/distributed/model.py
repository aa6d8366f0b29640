"""A Keras model that several replicas train together, exactly as one would.

`replicate` gives a model that `fit` trains under a `tf.distribute` strategy, `split_batches` the
batches it takes. Each batch is cut into one slice a replica. Where rows are left over, slices are
filled up with repeated rows of weight 0, and losses are scaled by the rows of the *whole* batch, so
that the summed gradients are those of the batch in one piece, the last and smaller ones included.

Two methods of Keras 3.15's trainer that fail under `MultiWorkerMirroredStrategy` are replaced:
`_maybe_symbolic_build` averages integer batches of unlike lengths over the workers, and
`_make_function` averages scalars along an axis they lack.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf


class ReplicatedModel(keras.Model):
    """Takes ((s, T) int32 ids, (s,) int32 labels, (s,) float32 is_row, () float32 num_rows).

    `is_row` is 0 for the rows that fill a slice up, `num_rows` counts the rows of the whole batch.
    """

    def train_step(self, data: Any) -> dict[str, Any]:
        """Do one replica's share of a step."""
        with tf.GradientTape() as tape:
            probabilities, loss = self._forward(data, training=True)
        weights = self.trainable_weights
        # Keras's optimizer sums over the replicas; doing so here would double the step.
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return self._measure(data, probabilities, loss)

    def test_step(self, data: Any) -> dict[str, Any]:
        """Measure one replica's share of a batch."""
        return self._measure(data, *self._forward(data, training=False))

    def _forward(self, data: Any, *, training: bool) -> tuple[Any, Any]:
        """Return probabilities, and this replica's summand of the batch's mean loss."""
        tokens, labels, is_row, num_rows = data
        replicas = self.distribute_strategy.num_replicas_in_sync
        # Keras divides by the rows of the slice and by the replicas: undone here.
        slice_rows = tf.cast(tf.shape(tokens)[0], tf.float32)
        probabilities = self(tokens, training=training)
        loss = self._compute_loss(
            x=tokens,
            y=labels,
            y_pred=probabilities,
            sample_weight=is_row * (slice_rows * replicas / num_rows),
            training=training,
        )
        return probabilities, loss

    def _measure(self, data: Any, probabilities: Any, loss: Any) -> dict[str, Any]:
        _, labels, is_row, num_rows = data
        replicas = self.distribute_strategy.num_replicas_in_sync
        self._loss_tracker.update_state(loss * replicas, sample_weight=num_rows / replicas)
        for metric in self._compile_metrics.metrics:
            metric.update_state(labels, probabilities, sample_weight=is_row)
        return self.get_metrics_result()

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """Make the metrics' variables; between steps no replica may add to them."""
        self._compile_metrics.build(y, y_pred)
        return {}

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        row = (np.ones((1, 1), np.int32), np.zeros(1, np.int32), None)
        with self.distribute_strategy.scope():
            self._symbolic_build(data_batch=row)

    def _make_function(self, step_function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        strategy = self.distribute_strategy

        @tf.function(reduce_retracing=True)
        def step(iterator: Any) -> Any:
            results = strategy.run(step_function, args=(next(iterator),))
            # Of the first replica here, for the progress bar: adding up those of all in every step
            # would be one more round between the workers. Keras adds up at the epoch's end.
            return keras.tree.map_structure(
                lambda value: strategy.experimental_local_results(value)[0], results
            )

        return step


def replicate(model: keras.Model) -> ReplicatedModel:
    """Return a model of the same layers and names; both calls belong into the strategy's scope."""
    return ReplicatedModel(model.input, model.output, name=model.name)


def split_batches(strategy: tf.distribute.Strategy, batches: tf.data.Dataset) -> Any:
    """Give each replica its slice of every batch.

    Every worker makes the same batches and keeps its own rows, so no row is read twice or lost, and
    what is drawn at random is drawn for the whole batch.

    Args:
        strategy: With R replicas.
        batches: Yields ((B, T) int32 ids, (B,) int32 labels), the same on each worker.

    Returns:
        A distributed dataset of what `ReplicatedModel` takes, ceil(B / R) rows a slice.
    """
    replicas = strategy.num_replicas_in_sync

    def make_slices(context: tf.distribute.InputContext) -> tf.data.Dataset:
        local = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * local

        def cut(tokens: tf.Tensor, labels: tf.Tensor) -> tf.data.Dataset:
            rows = tf.shape(labels)[0]
            share = (rows + replicas - 1) // replicas
            places = first * share + tf.reshape(tf.range(local * share), (local, share))
            kept = tf.minimum(places, rows - 1)
            return tf.data.Dataset.from_tensor_slices(
                (
                    tf.gather(tokens, kept),  # (local, share, T)
                    tf.gather(labels, kept),
                    tf.cast(places < rows, tf.float32),
                    tf.fill((local,), tf.cast(rows, tf.float32)),
                )
            )

        return batches.flat_map(cut).prefetch(tf.data.AUTOTUNE)

    return strategy.distribute_datasets_from_function(make_slices)
