"""The child process: one contender once, its step or its whole training, in a new process.

Reads a job as JSON from standard input and prints its result as one line of JSON.
"""

from __future__ import annotations

import dataclasses
import json
import resource
import signal
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.config import PAD_ID, ModelConfig, TrainConfig
from pipeline.data_folder import PreparedData, read_prepared
from pipeline.run_folder import import_tensorflow
from pipeline.training_bench.contenders import CONTENDERS, Contender

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

SHUFFLE_ROWS = 20_000
WARM_EAGER_STEPS = 2


def make_batches(
    contender: Contender, data: PreparedData, training: TrainConfig
) -> tf.data.Dataset:
    """Return the endless batches of a contender, shuffled anew in every epoch."""
    from pipeline import dataset
    from pipeline.training_data import make_stream

    if contender.batching == "windows":
        return make_stream(data, training).dataset
    rows = (
        dataset.make_id_blocks(data.train.shards, data.tokenizer_path, max_tokens=data.max_tokens)
        .unbatch()
        .shuffle(SHUFFLE_ROWS, seed=training.seed)
        .repeat()
    )
    if contender.batching == "ragged":
        return rows.batch(training.batch_size)
    # A bucket of the boundary b holds rows shorter than b, and is padded to b - 1 under XLA.
    bounds = [width + 1 for width in dataset.WIDTHS]
    import tensorflow as tf

    padded = rows.map(lambda ids, label: (tf.ensure_shape(ids, [None]), label))
    return padded.bucket_by_sequence_length(
        element_length_func=lambda ids, label: tf.size(ids),
        bucket_boundaries=bounds,
        bucket_batch_sizes=[training.batch_size] * (len(bounds) + 1),
        padding_values=(PAD_ID, None),
        pad_to_bucket_boundary=training.jit_compile == "on",
        drop_remainder=True,  # of an endless stream there is none; it fixes the batch's size
    ).prefetch(tf.data.AUTOTUNE)


def fit(model: keras.Model, batches: tf.data.Dataset, steps: int, passes: int) -> dict[str, Any]:
    """Fit preloaded batches: a pass to warm up and `passes` more.

    Preloaded, so that all contenders are told apart by their steps alone: what input costs beside
    a step is the ablation's subject.

    Returns:
        Seconds of the first, and of each other one, wall and processor.
    """
    import keras

    wall_s: list[float] = []
    cpu_s: list[float] = []

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.begun = time.perf_counter(), time.process_time()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            wall_s.append(time.perf_counter() - self.begun[0])
            cpu_s.append(time.process_time() - self.begun[1])

    model.fit(
        batches.repeat(),
        epochs=1 + passes,
        steps_per_epoch=steps,
        callbacks=[Clock()],
        shuffle=False,
        verbose=0,
    )
    return {"first_s": wall_s[0], "wall_s": wall_s[1:], "cpu_s": cpu_s[1:]}


def loop(model: keras.Model, batches: tf.data.Dataset, passes: int) -> dict[str, Any]:
    """Train eagerly, as a plain loop over a tape does; Keras's GRU needs the ids dense."""
    import tensorflow as tf

    def step(ids: tf.RaggedTensor, labels: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            probabilities = model(ids.to_tensor(PAD_ID), training=True)
            loss = model.compute_loss(y=labels, y_pred=probabilities)
        gradients = tape.gradient(loss, model.trainable_variables)
        model.optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    begun = time.perf_counter()
    for ids, labels in batches.take(WARM_EAGER_STEPS):
        step(ids, labels)
    first_s = time.perf_counter() - begun
    wall_s, cpu_s = [], []
    for _ in range(passes):
        begun, begun_cpu = time.perf_counter(), time.process_time()
        for ids, labels in batches:
            step(ids, labels)
        wall_s.append(time.perf_counter() - begun)
        cpu_s.append(time.process_time() - begun_cpu)
    return {"first_s": first_s, "wall_s": wall_s, "cpu_s": cpu_s}


def count_total_steps(data: PreparedData, training: TrainConfig) -> int:
    """Return the steps of a whole training."""
    from pipeline.dataset import count_steps

    return count_steps(data.train.count, training.batch_size) * training.num_epochs


def make_trainer(job: dict[str, Any]) -> tuple[Contender, PreparedData, TrainConfig, keras.Model]:
    """Build and compile a job's model as its contender does, with one loss and schedule for all.

    Returns:
        The contender, its data, its training settings, and the model.
    """
    import keras

    from pipeline.allocator import keep_freed_memory
    from pipeline.model import build_model
    from pipeline.objective import OneCycle, compile_model, make_metrics
    from pipeline.threads import share_threads

    contender = CONTENDERS[job["contender"]]
    data = read_prepared(Path(job["data"]))
    config = ModelConfig(**job["model"])
    training = TrainConfig(**{**job["training"], "jit_compile": contender.jit_compile})
    if contender.is_ours:
        keep_freed_memory()
        share_threads(config.directions)
    keras.utils.set_random_seed(training.seed)
    total = count_total_steps(data, training)
    model = build_model(config, cell=contender.cell)
    compile_model(model, training, num_classes=config.num_classes, total_steps=total)
    if not contender.is_ours:
        model.compile(
            keras.optimizers.AdamW(
                OneCycle(training.learning_rate, total), weight_decay=training.weight_decay
            ),
            model.loss,
            metrics=make_metrics(training.num_predict),
            jit_compile=contender.jit_compile == "on",
        )
    return contender, data, training, model


def settle_compute(
    model: keras.Model, data: PreparedData, training: TrainConfig
) -> tuple[TrainConfig, str | None]:
    """Decide about XLA where the contender leaves it open; return the settings and the reason."""
    from pipeline import compute_plan
    from pipeline.training_data import read_batches

    if training.jit_compile != "auto":
        return training, None
    tried = read_batches(data, training, compute_plan.PROBE_BATCHES)
    plan = compute_plan.measure(model, tried, steps_left=count_total_steps(data, training))
    return compute_plan.settle(model, training, plan), str(plan)


def measure_contender(job: dict[str, Any]) -> dict[str, Any]:
    """Measure a contender's step.

    Args:
        job: `contender` (name), `data` (folder), `model` and `training` (fields of their configs),
            `steps` and `eager_steps` of a pass, `passes`, `timeout_s`.

    Returns:
        JSON values: `examples_per_s`, `step_ms` and `cpu_ms` (of a step; processor time over all
        threads), `start_s` (tracing, compiling and trying what to compile), `peak_bytes`,
        `padded_tokens` (a row), `plan` (in words, where XLA was decided on).
    """
    contender, data, training, model = make_trainer(job)
    steps = job["eager_steps"] if contender.is_eager else job["steps"]
    begun = time.perf_counter()
    training, plan = settle_compute(model, data, training)
    planned_s = time.perf_counter() - begun
    batches = make_batches(contender, data, training).take(steps).cache()
    rows, padded = 0, 0
    for ids, labels in batches:  # fills the cache
        rows += len(labels)
        width = int(ids.row_lengths().numpy().max()) if contender.is_eager else ids.shape[1]
        padded += len(labels) * width
    if contender.is_eager:
        times = loop(model, batches, job["passes"])
    else:
        times = fit(model, batches, steps, job["passes"])
    pass_s = statistics.median(times["wall_s"])
    warm_s = pass_s * (WARM_EAGER_STEPS / steps if contender.is_eager else 1)
    return {
        "examples_per_s": rows / pass_s,
        "step_ms": 1000 * pass_s / steps,
        "cpu_ms": 1000 * statistics.median(times["cpu_s"]) / steps,
        "start_s": planned_s + max(times["first_s"] - warm_s, 0.0),
        # Linux counts in kilobytes, macOS in bytes.
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        * (1 if sys.platform == "darwin" else 1024),
        "padded_tokens": padded / rows,
        "plan": plan,
        "settings": dataclasses.asdict(contender),
    }


def train_contender(job: dict[str, Any]) -> dict[str, Any]:
    """Train a contender in full, input included, and measure it on the validation split.

    Args:
        job: As of `measure_contender`; no eager contender.

    Returns:
        JSON values: `top_1` and `top_k` (shares of the validation rows), `wall_s` of the training.
    """
    from pipeline.dataset import count_steps
    from pipeline.training_data import make_evaluation

    contender, data, training, model = make_trainer(job)
    training, _ = settle_compute(model, data, training)
    begun = time.perf_counter()
    model.fit(
        make_batches(contender, data, training),
        epochs=training.num_epochs,
        steps_per_epoch=count_steps(data.train.count, training.batch_size),
        shuffle=False,
        verbose=0,
    )
    wall_s = time.perf_counter() - begun
    found = model.evaluate(
        make_evaluation(data, data.validation, training), verbose=0, return_dict=True
    )
    k = training.num_predict
    return {"top_1": found["top_1"], "top_k": found[f"top_{k}"], "wall_s": wall_s}


def main() -> None:
    """Do the job on standard input."""
    job = json.load(sys.stdin)
    signal.alarm(int(job["timeout_s"]) + 5)  # should the parent be killed outright
    import_tensorflow()
    work = train_contender if job["in_full"] else measure_contender
    click.echo(json.dumps(work(job)))


if __name__ == "__main__":
    main()
