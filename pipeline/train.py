"""Fit one model, and resume it.

A training lives in `runs/.<name>.partial/` until it is finished; `pipeline.checkpoint` keeps there
how far it came. Killed at any time, the next call of the same settings goes on with the step
behind the last saved one: weights, optimiser, dropout state, metrics, early stopping and curves
are all restored, and the batches of an epoch derive from (seed, epoch) alone.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import filelock
import keras
import tensorflow as tf
from rich.console import Console

from pipeline import dataset
from pipeline.accounting import Account
from pipeline.allocator import keep_freed_memory
from pipeline.cache_folder import CacheConfig
from pipeline.checkpoint import SAVE_EVERY_S, Checkpoint
from pipeline.compute_plan import plan_compute, settle
from pipeline.config import ModelConfig, TrainConfig
from pipeline.data_folder import PreparedData
from pipeline.distributed.replicas import Replicas
from pipeline.embedding_init import make_starting_rows, pin_embeddings
from pipeline.finish import complete_run, finish_run
from pipeline.model import build_model
from pipeline.objective import AverageValidator, compile_model, use_averaged_weights
from pipeline.pretraining import pretrain
from pipeline.progress_bar import ProgressBar
from pipeline.run_folder import Run, RunError, check_run_name, read_run
from pipeline.service.client import service_errors
from pipeline.service.config import ServiceConfig
from pipeline.threads import share_threads
from pipeline.training_data import count_classes, make_evaluation, make_stream, read_batches

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
                complete_run(run, data)
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
            pretrain(
                *(model, model_config, training, data),
                cache=cache,
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

    run = finish_run(
        model,
        *(data, model_config, training, partial, target),
        history=checkpoint.history,
        account=account,
        compute=plan.to_json(),
    )
    replicas.wait()
    return run
