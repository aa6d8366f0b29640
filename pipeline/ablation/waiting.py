"""How much of a real training step is spent waiting for input.

The product's own model is fitted by Keras's own `fit`, and the step is the model's own
`train_step`; only the function around it is ours, because Keras asks the iterator *inside* its
compiled function, where no Python clock can look. Ours does the same two things in the same
place, and takes the time before and behind the first:

    begin = timestamp();  batch = next(iterator);  ready = timestamp();  train_step(batch)

The share is the sum of (ready - begin) over the time from the first begin to the last. That is
the definition of the profiler's input-pipeline analysis ("time in IteratorGetNext over step
time"), without the profiler's cost.

Waiting is not all that input costs: on few cores its threads also take time from the step while
nobody waits. So the same steps are fitted on the same batches preloaded in memory, and the
slowdown against those is the whole price, waiting and stealing together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Result of `measure_waiting`.

    Attributes:
        steps: Steps measured.
        wait_share: Share of the steps' time in which the step waited for its batch, 0 to 1.
        step_ms: Median duration of a step, waiting included.
        preloaded_step_ms: The same with the same batches from memory.
    """

    steps: int
    wait_share: float
    step_ms: float
    preloaded_step_ms: float


class StepClock:
    """The training function that Keras's `fit` is given, and the times it took.

    Args:
        model: Compiled.
        classes: (N,) class id of every row number that the dataset yields in place of a label.
        max_steps: Most steps of one `fit`.
    """

    def __init__(self, model: keras.Model, classes: NDArray[np.int64], max_steps: int) -> None:
        self._stamps = tf.Variable(tf.zeros((max_steps, 2), tf.float64))
        self._step = tf.Variable(0, dtype=tf.int64)
        labels = tf.constant(classes, tf.int32)

        @tf.function(reduce_retracing=True)
        def train(iterator: Any) -> Any:
            begin = tf.timestamp()
            with tf.control_dependencies([begin]):
                ids, rows = iterator.get_next()
            with tf.control_dependencies([ids, rows]):
                ready = tf.timestamp()
            with tf.control_dependencies([ready]):
                batch = tf.identity(ids), tf.gather(labels, rows)
            self._stamps.scatter_nd_update([[self._step]], [tf.stack([begin, ready])])
            self._step.assign_add(1)
            return model.train_step(batch)

        self.train = train

    def read(self, skip: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the steps of the last `fit` but the first `skip`, and start anew.

        Returns:
            Waiting time and duration of each step in seconds, (S,) each. The last step has no
            successor that would tell when it ended, and is left out.
        """
        stamps = self._stamps.numpy()[: int(self._step.numpy())][skip:]
        self._step.assign(0)
        begin, ready = stamps.T
        return (ready - begin)[:-1], np.diff(begin)


def measure_waiting(
    dataset: tf.data.Dataset,
    model: keras.Model,
    classes: NDArray[np.int64],
    *,
    steps: int,
    warm_steps: int,
    preloaded_steps: int,
) -> Waiting:
    """Fit `model` on a dataset for some steps and see what the steps waited for.

    Args:
        dataset: Endless; ((B, T) int32 ids, (B,) int32 row numbers).
        model: Compiled, without XLA.
        classes: (N,) class id of each row number.
        steps: Steps to measure.
        warm_steps: Steps before them: tracing, and the start of the dataset's own threads.
        preloaded_steps: Steps to measure on preloaded batches.

    Returns:
        What was found. The model has been trained a little.
    """
    clock = StepClock(model, classes, warm_steps + steps + 1)
    model.train_function = clock.train  # `fit` makes its own only where there is none

    def fit(batches: tf.data.Dataset, count: int) -> tuple[Any, Any]:
        total = warm_steps + count + 1
        model.fit(batches, steps_per_epoch=total, verbose=0, shuffle=False)
        return clock.read(warm_steps)

    preloaded = dataset.take(warm_steps + preloaded_steps + 1).cache()
    for _ in preloaded:
        pass
    _, preloaded_s = fit(preloaded.repeat(), preloaded_steps)
    wait_s, step_s = fit(dataset, steps)
    return Waiting(
        steps=len(step_s),
        wait_share=float(wait_s.sum() / step_s.sum()),
        step_ms=1000 * float(np.median(step_s)),
        preloaded_step_ms=1000 * float(np.median(preloaded_s)),
    )
