"""Fit one model, resume it, evaluate it, and publish the run folder.

A training lives in `runs/.<name>.partial/` until it is finished; `pipeline.checkpoint` keeps there
how far it came. Killed at any time, the next call of the same settings goes on with the step
behind the last saved one: weights, optimiser, dropout state, metrics, early stopping and curves
are all restored, and the batches of an epoch derive from (seed, epoch) alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import filelock
import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from pipeline import dataset
from pipeline.accounting import Account
from pipeline.allocator import keep_freed_memory
from pipeline.cache_folder import CacheConfig
from pipeline.checkpoint import SAVE_EVERY_S, Checkpoint
from pipeline.compute_plan import PLAN_FILE, plan_compute, settle
from pipeline.config import ModelConfig, TrainConfig
from pipeline.data_card.card import CARD_JSON
from pipeline.data_folder import PreparedData, Split
from pipeline.distributed.replicas import Replicas
from pipeline.embedding_init import make_starting_rows, pin_embeddings
from pipeline.evaluation.evaluate import (
    calibrate,
    evaluate_splits,
    make_predictions,
    score_splits,
)
from pipeline.evaluation.fields import RunEvaluation
from pipeline.evaluation.files import write_evaluation
from pipeline.evaluation.predictions import Predictions
from pipeline.model import build_model, choose_cell
from pipeline.objective import AverageValidator, compile_model, use_averaged_weights
from pipeline.pretraining import pretrain
from pipeline.progress_bar import ProgressBar
from pipeline.run_folder import (
    Run,
    RunError,
    check_run_name,
    read_run,
    read_versions,
    remove_run,
    write_run,
)
from pipeline.service.client import service_errors
from pipeline.service.config import ServiceConfig
from pipeline.shards import read_shard
from pipeline.whole_file import write_whole
from pipeline.word_list import rank_words, write_words

TRAINING_VERSION = 2
"""Part of a run's key: raised when the same settings would train another model."""


def make_run_name(data: PreparedData, model: ModelConfig, training: TrainConfig) -> str:
    """Name a run after its data and everything that decides its weights.

    The same settings on the same data give the same name, so a second `make train` finds the
    finished run and an interrupted one finds its checkpoint.
    """
    key = json.dumps(
        [TRAINING_VERSION, data.fingerprint, model.to_json(), training.key_fields()],
        sort_keys=True,
    )
    return f"{data.name[:80]}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def _keep_data_card(data: PreparedData, folder: Path) -> None:
    """Copy the data's card into a run, for the model card; older data has none."""
    if (data.folder / CARD_JSON).is_file():
        write_whole(folder / CARD_JSON, (data.folder / CARD_JSON).read_bytes())


def _write_test_split(data: PreparedData, path: Path) -> None:
    with path.open("w", encoding="utf-8") as lines:
        for text, label in zip(*data.test.read_rows(), strict=True):
            lines.write(json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n")


def _rank_train_words(data: PreparedData) -> list[str]:
    """Rank the words of the training split, one shard in memory at a time."""
    return rank_words(text for shard in data.train.shards for text in read_shard(shard)[0])


def count_classes(data: PreparedData) -> list[int]:
    """Count the rows of each class in the training split."""
    counts = np.zeros(len(data.labels), np.int64)
    for shard in data.train.shards:
        counts += np.bincount(read_shard(shard)[1], minlength=len(counts))
    return [int(count) for count in counts]


def train(
    data: PreparedData,
    model_config: ModelConfig,
    training: TrainConfig,
    runs: Path,
    *,
    name: str | None = None,
    force: bool = False,
    cache: CacheConfig = dataset.IN_MEMORY,
    service: ServiceConfig | None = None,
    save_every_s: float = SAVE_EVERY_S,
    replicas: Replicas | None = None,
    console: Console | None = None,
) -> Run | None:
    """Train, or finish training, the model that the configs describe.

    Args:
        data: A prepared data folder.
        model_config: Shape; `vocab_size` and `num_classes` must be those of `data`.
        training: How to fit.
        runs: Parent of the run folders.
        name: Run name; derived from data and settings when absent.
        force: Replace a finished run of that name and forget an unfinished one.
        cache: Where tokenised rows are kept between epochs; the result does not depend on it.
        service: A tf.data service that reads and tokenises the training rows.
        save_every_s: Seconds between two saved states within an epoch.
        replicas: The devices and processes that train together; one device when absent.
        console: Where progress goes; silent when absent.

    Returns:
        The finished run; at once when it was finished before. None on the workers of a cluster
        that are not its chief, when all is done.

    Raises:
        RunError: Another process trains this run, a finished run of this name has other
            settings, or a worker of the cluster was lost.
        ServiceError: The data service failed; what was trained until then is kept.
        ValueError: Config, data and replicas do not fit.
    """
    if service is not None and training.deterministic:
        raise ValueError(
            "deterministic: expected no data service, found one: its rows come in the order in "
            "which its workers finish. Leave out --deterministic or --data-service."
        )
    if (model_config.vocab_size, model_config.num_classes) != (data.vocab_size, len(data.labels)):
        raise ValueError(
            f"model config: expected vocab_size {data.vocab_size} and num_classes "
            f"{len(data.labels)} as in {data.folder}, found {model_config.vocab_size} and "
            f"{model_config.num_classes}."
        )
    if not 1 <= training.num_predict <= len(data.labels):
        raise ValueError(
            f"num_predict: expected a value from 1 to the {len(data.labels)} classes, "
            f"found {training.num_predict}."
        )
    replicas = replicas or Replicas()
    if service is not None and replicas.cluster is not None:
        raise ValueError(
            "data_service: expected none where several workers train together, found "
            f"{service.address}: it gives each of them the rows in another order. Leave out "
            "--data-service."
        )
    if training.jit_compile == "on" and replicas.strategy is not None:
        raise ValueError(
            "jit_compile: expected auto or off where several devices train together, found on. "
            "Leave it out, or pass --strategy none."
        )
    if training.pretrain_epochs and replicas.strategy is not None:
        raise ValueError(
            "pretrain_epochs: expected 0 where several devices train together, found "
            f"{training.pretrain_epochs}. Leave it out, or pass --strategy none."
        )
    training = pin_embeddings(training)
    name = name or make_run_name(data, model_config, training)
    check_run_name(name)
    console = console or Console(quiet=True)
    with replicas.errors(), replicas.place_runs(runs) as own_runs:
        return _train_locked(
            *(data, model_config, training, own_runs / name),
            force=force,
            cache=cache,
            service=service,
            save_every_s=save_every_s,
            replicas=replicas,
            console=console,
        )


def _train_locked(
    data: PreparedData,
    model_config: ModelConfig,
    training: TrainConfig,
    target: Path,
    *,
    force: bool,
    cache: CacheConfig,
    service: ServiceConfig | None,
    save_every_s: float,
    replicas: Replicas,
    console: Console,
) -> Run | None:
    """Train under the run's lock, unless the run is finished."""
    runs, name = target.parent, target.name
    partial = runs / f".{name}.partial"
    runs.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(runs / f".{name}.lock", timeout=0):
            if force:
                shutil.rmtree(partial, ignore_errors=True)
            if replicas.agree(target.exists() and not force):
                if not replicas.is_chief:
                    return None
                run = read_run(target)
                _check_same_settings(run, data, model_config, training)
                if not run.words_path.is_file():  # trained before runs kept their words
                    write_words(run.words_path, _rank_train_words(data))
                if not (run.folder / CARD_JSON).is_file():
                    _keep_data_card(data, run.folder)
                console.print(
                    f"Run {name} is finished already (--force trains it again).", soft_wrap=True
                )
                return run
            partial.mkdir(exist_ok=True)
            with service_errors():
                return _fit(
                    data,
                    model_config,
                    training,
                    partial,
                    target,
                    cache=cache,
                    service=service,
                    save_every_s=save_every_s,
                    replicas=replicas,
                    console=console,
                )
    except filelock.Timeout as err:
        raise RunError(
            f"{target}: another process is training this run. Wait for it, or choose another "
            "--name."
        ) from err


def _check_same_settings(
    run: Run, data: PreparedData, model_config: ModelConfig, training: TrainConfig
) -> None:
    # Through the class, so that a field younger than the run has its default.
    found = (run.model, TrainConfig(**run.training).key_fields(), run.data["fingerprint"])
    if found != (model_config, training.key_fields(), data.fingerprint):
        raise RunError(
            f"{run.folder}: a finished run of this name has other settings or other data. "
            "Choose another --name, or pass --force to replace it."
        )


def make_stream(
    data: PreparedData,
    training: TrainConfig,
    *,
    cache: CacheConfig = dataset.IN_MEMORY,
    service: ServiceConfig | None = None,
    start_epoch: int = 0,
    start_step: int = 0,
) -> dataset.TrainingStream:
    """Make the training stream that the settings describe, from a step of an epoch on."""
    return dataset.make_training_stream(
        data.train.shards,
        data.tokenizer_path,
        num_rows=data.train.count,
        max_tokens=data.max_tokens,
        batch_size=training.batch_size,
        seed=training.seed,
        start_epoch=start_epoch,
        start_step=start_step,
        word_dropout=training.word_dropout,
        subword_sampling=training.subword_sampling,
        widths=_choose_widths(training),
        cache=cache,
        service=service,
    )


def read_batches(
    data: PreparedData, training: TrainConfig, count: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the first batches of a training, each padded to its longest row."""
    plain = dataclasses.replace(training, jit_compile="off")
    stream = make_stream(data, plain).dataset.take(count)
    return [(ids.numpy(), labels.numpy()) for ids, labels in stream]


def make_evaluation(data: PreparedData, split: Split, training: TrainConfig) -> tf.data.Dataset:
    """Make one pass over a split of `data`, padded as the training is."""
    return dataset.make_evaluation_dataset(
        split.shards,
        data.tokenizer_path,
        num_rows=split.count,
        max_tokens=data.max_tokens,
        widths=_choose_widths(training),
    )


def _choose_widths(training: TrainConfig) -> tuple[int, ...] | None:
    return dataset.WIDTHS if training.jit_compile == "on" else None


def share_threads(directions: int) -> None:
    """Give each reading direction its share of the cores, as long as TensorFlow has not started.

    Both directions' loops run at the same time, and their products are small: on 2 cores one
    thread each makes a step 1.2x faster than two threads a product (BiGRU(128), B=256).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with contextlib.suppress(RuntimeError):  # already running: its threads stay as they are
        tf.config.threading.set_intra_op_parallelism_threads(max(1, (cores or 1) // directions))


def start_embedding(
    model: keras.Model, data: PreparedData, training: TrainConfig, console: Console
) -> None:
    """Give the embedding of a fresh model the rows that the settings ask for."""
    if training.embedding_init == "random":
        return
    embedding = model.get_layer("embedding")
    doing = "Training skip-gram" if training.embedding_init == "skip_gram" else "Reading"
    with console.status(f"{doing} vectors for the embedding"):
        rows = make_starting_rows(data, training, embed_dim=embedding.output_dim)
    if rows is not None:
        embedding.embeddings.assign(rows.values)
        share = 100 * rows.covered / data.vocab_size
        line = (
            f"Embedding from {training.embedding_init}: {rows.covered:,} of {data.vocab_size:,} "
            f"pieces ({share:.1f} %), the others random."
        )
        if rows.texts is not None and rows.texts < data.train.count:
            line += f" Read: the first {rows.texts:,} of {data.train.count:,} training texts."
        console.print(line, highlight=False, soft_wrap=True)


def _evaluate(
    model: keras.Model, data: PreparedData, training: TrainConfig, *, run: str
) -> tuple[RunEvaluation, Predictions]:
    """Calibrate a trained model, if the settings say so, and measure it as it is then."""
    scored = score_splits(
        model,
        {"validation": data.validation.read_rows(), "test": data.test.read_rows()},
        tokenizer_path=data.tokenizer_path,
        max_tokens=data.max_tokens,
    )
    calibration: dict[str, Any] = {}
    if training.calibrate:
        calibration, scored = calibrate(model, scored)
    evaluation = evaluate_splits(
        scored,
        run=run,
        fingerprint=data.fingerprint,
        label_names=data.labels,
        k=training.num_predict,
        calibration=calibration,
    )
    return evaluation, make_predictions(scored["test"], evaluation)


def _fit(
    data: PreparedData,
    model_config: ModelConfig,
    training: TrainConfig,
    partial: Path,
    target: Path,
    *,
    cache: CacheConfig,
    service: ServiceConfig | None,
    save_every_s: float,
    replicas: Replicas,
    console: Console,
) -> Run | None:
    account = Account()
    keep_freed_memory()
    share_threads(model_config.directions)
    # Before any tokenizer: seeding afterwards destroys the SentencePiece op's resource.
    keras.utils.set_random_seed(training.seed)
    if training.deterministic:
        tf.config.experimental.enable_op_determinism()
    steps = dataset.count_steps(data.train.count, training.batch_size)
    class_counts = None if training.class_weights == "none" else count_classes(data)
    checkpoint = Checkpoint(partial, training.patience, monitor=training.monitored, account=account)
    replicas.send_state(partial)
    with replicas.scope():
        model = replicas.replicate(build_model(model_config, cell=training.cell))
        compile_model(
            model,
            training,
            num_classes=model_config.num_classes,
            total_steps=steps * training.num_epochs,
            class_counts=class_counts,
        )
        checkpoint.restore(model)
    replicas.part_seeds(model)
    if checkpoint.epochs_done or checkpoint.steps_done:
        console.print(
            f"Resuming after epoch {checkpoint.epochs_done} of {training.num_epochs} and "
            f"{checkpoint.steps_done} of {steps} steps.",
            highlight=False,
        )
    else:
        start_embedding(model, data, training, console)
        if training.pretrain_epochs:
            account.end_lap("start")
            plain = dataclasses.replace(training, word_dropout=0.0, subword_sampling=0.0)
            pretrain(
                *(model, model_config, training, data),
                batches=make_stream(data, plain).dataset,
                folder=partial,
                console=console,
            )
            account.end_lap("pretraining")

    plan = plan_compute(
        partial,
        model,
        training,
        steps_left=(training.num_epochs - checkpoint.epochs_done) * steps - checkpoint.steps_done,
        read_batches=lambda count: read_batches(data, training, count),
    )
    settled = settle(model, training, plan)
    console.print(str(plan), highlight=False, soft_wrap=True)
    validation = make_evaluation(data, data.validation, settled)
    k = training.num_predict
    tensorboard = keras.callbacks.TensorBoard(partial / "logs", write_graph=False)
    callbacks = [checkpoint, tensorboard]
    if training.weight_averaging:
        callbacks.append(AverageValidator())
    account.end_lap("start")
    while not checkpoint.is_finished and checkpoint.epochs_done < training.num_epochs:
        # An interrupted epoch is finished first, by a `fit` of its own: Keras wants all epochs of
        # a `fit` to be of one length. Its rows come in the order they had, so from no service.
        start_step = checkpoint.steps_done
        stream = make_stream(
            data,
            settled,
            cache=cache,
            service=None if start_step else service,
            start_epoch=checkpoint.epochs_done,
            start_step=start_step,
        )
        # Each replica holds a part of the metrics, and a second passes at unlike steps for each.
        is_saved_within = stream.is_repeatable and replicas.strategy is None
        checkpoint.save_every_s = save_every_s if is_saved_within else None
        bar = ProgressBar(
            console, num_epochs=training.num_epochs, steps=steps, k=k, start_step=start_step
        )
        try:
            model.fit(
                replicas.split(stream.dataset),
                epochs=checkpoint.epochs_done + 1 if start_step else training.num_epochs,
                initial_epoch=checkpoint.epochs_done,
                steps_per_epoch=steps - start_step,
                **replicas.split_validation(validation),
                callbacks=[*callbacks, bar],
                # Keras would warn that it cannot shuffle a tf.data pipeline.
                shuffle=False,
                verbose=0,
            )
        finally:
            bar.close()
    checkpoint.load_best(model)
    use_averaged_weights(model)
    if not replicas.is_chief:
        replicas.wait()  # an end of this process would end the chief, which has yet to evaluate
        return None

    # A fresh, uncompiled model: optimiser state is three times the weights and nobody's business.
    final = build_model(model_config)
    final.set_weights(model.get_weights())
    evaluation, predictions = _evaluate(final, data, training, run=target.name)
    write_evaluation(partial, evaluation, predictions)
    account.end_lap("evaluation")
    final.save(partial / "model.keras")
    shutil.copyfile(data.tokenizer_path, partial / "tokenizer.model")
    _write_test_split(data, partial / "test_split.jsonl")
    write_words(partial / "words.txt", _rank_train_words(data))
    _keep_data_card(data, partial)
    for path in (*partial.glob("*.weights.h5"), partial / "checkpoint.json"):
        path.unlink()
    (partial / PLAN_FILE).unlink(missing_ok=True)
    if target.exists():
        remove_run(target)
    account.end_lap("write")
    examples = checkpoint.epochs_done * data.train.count
    run = write_run(
        partial,
        target,
        model=model_config,
        training=dataclasses.asdict(training),
        metrics={
            name: {
                "top_1": split.top_1.value,
                f"top_{k}": split.top_k.value,
                "loss": split.nll,
            }
            for name, split in evaluation.splits.items()
        },
        calibration=evaluation.calibration,
        data={
            "name": data.name,
            "fingerprint": data.fingerprint,
            "train": data.train.count,
            "validation": data.validation.count,
            "test": data.test.count,
        },
        labels=data.labels,
        max_tokens=data.max_tokens,
        versions=read_versions("tensorflow", "tensorflow-text", "keras", "numpy", "sentencepiece"),
        seed=training.seed,
        history=checkpoint.history,
        accounting={
            **account.to_json(),
            "examples": examples,
            "examples_per_s": examples / account.seconds["train"],
            "cell": choose_cell(training.cell),
            "compute": plan.to_json(),
        },
    )
    replicas.wait()
    return run
