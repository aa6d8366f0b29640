"""Hyperparameter search: the only file that knows KerasTuner.

A search lives in build/tuner/<name>/, whose name derives from data and settings; the same command
goes on where it was interrupted, a finished trial is never repeated. Gives `best.json`, which
`train --hp` takes, and `trials.json`, every trial with its values and score.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import filelock
import keras
import keras_tuner
from rich.console import Console

from pipeline import dataset
from pipeline.cache_folder import CacheConfig
from pipeline.config import ModelConfig, TrainConfig
from pipeline.data_folder import PreparedData
from pipeline.model import build_model
from pipeline.run_folder import RunError, check_run_name, write_json
from pipeline.service.client import service_errors
from pipeline.service.config import ServiceConfig, ServiceError
from pipeline.train import compile_model, make_evaluation, make_stream

Algorithm = Literal["random", "hyperband", "bayesian"]
OBJECTIVE = "val_top_1"
SEARCH_VERSION = 1
"""Part of a search's key: raised when the search space changes."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One finished trial: its hyperparameters and its best validation top-1, a fraction."""

    trial_id: str
    values: dict[str, Any]
    score: float


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What a search found, best trial first."""

    folder: Path
    trials: tuple[Trial, ...]

    @property
    def best_path(self) -> Path:
        """Hyperparameters of the best trial, for `train --hp`."""
        return self.folder / "best.json"


def sample_config(
    hp: keras_tuner.HyperParameters, *, vocab_size: int, num_classes: int
) -> ModelConfig:
    """Draw the model part of the search space."""
    return ModelConfig(
        vocab_size=vocab_size,
        num_classes=num_classes,
        embed_dim=hp.Choice("embed_dim", [64, 128, 192, 256], default=128),
        units=hp.Choice("units", [32, 64, 96, 128, 192, 256], default=96),
        layers=hp.Choice("layers", [1, 2], default=1),
        bidirectional=hp.Boolean("bidirectional", default=True),
        pooling=hp.Choice("pooling", ["last", "max", "mean"], default="max"),
        embedding_dropout=hp.Float("embedding_dropout", 0.0, 0.6, step=0.05, default=0.25),
        head_dropout=hp.Float("head_dropout", 0.0, 0.6, step=0.05, default=0.5),
    )


def _sample_training(hp: keras_tuner.HyperParameters, training: TrainConfig) -> TrainConfig:
    return dataclasses.replace(
        training,
        learning_rate=hp.Float("learning_rate", 5e-4, 8e-3, sampling="log", default=3e-3),
        label_smoothing=hp.Choice("label_smoothing", [0.0, 0.05, 0.1], default=0.1),
    )


class _SearchStoppedError(keras_tuner.errors.FatalError, ServiceError):
    """A lost data service: no fault of the trial, so KerasTuner must not count it as failed."""


class _Classifier(keras_tuner.HyperModel):
    """Builds one model of the space, and its own input pipeline to fit it.

    KerasTuner clears the session before each build, which destroys every SentencePiece op's
    resource: datasets must be made after that, hence in `fit` and once a trial.
    """

    def __init__(
        self,
        data: PreparedData,
        training: TrainConfig,
        cache: CacheConfig,
        service: ServiceConfig | None,
    ) -> None:
        super().__init__()
        self._data = data
        self._training = training
        self._cache = cache
        self._service = service
        self._steps = dataset.count_steps(data.train.count, training.batch_size)

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Build and compile the model that `hp` describes."""
        config = sample_config(
            hp, vocab_size=self._data.vocab_size, num_classes=len(self._data.labels)
        )
        model = build_model(config)
        epochs = hp.values.get("tuner/epochs", self._training.num_epochs)  # set by Hyperband
        compile_model(
            model,
            _sample_training(hp, self._training),
            num_classes=config.num_classes,
            total_steps=epochs * self._steps,
        )
        return model

    def fit(self, hp: keras_tuner.HyperParameters, model: keras.Model, **kwargs: Any) -> Any:
        """Fit `model` on a stream of its own."""
        data, training = self._data, self._training
        try:
            with service_errors():
                stream = make_stream(data, training, cache=self._cache, service=self._service)
                return model.fit(
                    stream.dataset,
                    steps_per_epoch=stream.steps_per_epoch,
                    validation_data=make_evaluation(data, data.validation, training),
                    shuffle=False,
                    **kwargs,
                )
        except ServiceError as err:
            raise _SearchStoppedError(str(err)) from err


def _make_tuner(
    algorithm: Algorithm,
    hypermodel: keras_tuner.HyperModel,
    folder: Path,
    *,
    max_trials: int,
    num_epochs: int,
    seed: int,
    report: Callable[[Trial], None],
) -> keras_tuner.Tuner:
    base, budget = {
        "random": (keras_tuner.RandomSearch, {"max_trials": max_trials}),
        "bayesian": (keras_tuner.BayesianOptimization, {"max_trials": max_trials}),
        "hyperband": (keras_tuner.Hyperband, {"max_epochs": num_epochs}),
    }[algorithm]

    class ReportingTuner(base):  # type: ignore[misc, valid-type]  # the base is chosen at run time
        def on_trial_end(self, trial: Any) -> None:
            super().on_trial_end(trial)
            done = self.oracle.get_trial(trial.trial_id)
            if done.score is not None:
                report(_describe_trial(done))

    return ReportingTuner(
        hypermodel,
        objective=keras_tuner.Objective(OBJECTIVE, "max"),
        directory=str(folder),
        project_name="keras_tuner",
        overwrite=False,  # resume
        seed=seed,
        # A diverging trial is marked failed and the search goes on; three in a row end it.
        max_retries_per_trial=0,
        max_consecutive_failed_trials=3,
        **budget,
    )


def _describe_trial(trial: Any) -> Trial:
    values = {key: value for key, value in trial.hyperparameters.values.items() if "/" not in key}
    return Trial(trial_id=trial.trial_id, values=values, score=float(trial.score))


def search(
    data: PreparedData,
    training: TrainConfig,
    tuners: Path,
    *,
    algorithm: Algorithm = "random",
    max_trials: int = 10,
    name: str | None = None,
    cache: CacheConfig = dataset.IN_MEMORY,
    service: ServiceConfig | None = None,
    console: Console | None = None,
) -> SearchResult:
    """Search, or go on searching, for good hyperparameters.

    Args:
        data: A prepared data folder.
        training: Fixed settings; learning rate and label smoothing are searched.
        tuners: Parent of the search folders.
        algorithm: KerasTuner's RandomSearch, Hyperband or BayesianOptimization.
        max_trials: Trials of the first and the last; Hyperband derives its own from the epochs.
        name: Folder name; derived from data and settings when absent.
        cache: Where tokenised rows are kept; on disk, trials share them.
        service: A tf.data service that reads and tokenises the training rows.
        console: Where progress goes; silent when absent.

    Returns:
        All finished trials, best first.

    Raises:
        RunError: Another process searches in this folder, or no trial finished.
        ValueError: `max_trials` is below 1, or `name` is unsafe.
    """
    if max_trials < 1:
        raise ValueError(f"max_trials: expected at least 1, found {max_trials}.")
    key = json.dumps(
        [SEARCH_VERSION, data.fingerprint, training.key_fields(), algorithm], sort_keys=True
    )
    name = name or f"{data.name[:70]}-{algorithm}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    check_run_name(name)
    folder = tuners / name
    folder.mkdir(parents=True, exist_ok=True)
    console = console or Console(quiet=True)
    try:
        with filelock.FileLock(folder / ".lock", timeout=0):
            hypermodel = _Classifier(data, training, cache, service)
            return _search(hypermodel, training, folder, algorithm, max_trials, console)
    except filelock.Timeout as err:
        raise RunError(
            f"{folder}: another process is searching here. Wait for it, or choose another --name."
        ) from err


def _search(
    hypermodel: _Classifier,
    training: TrainConfig,
    folder: Path,
    algorithm: Algorithm,
    max_trials: int,
    console: Console,
) -> SearchResult:
    def report(trial: Trial) -> None:
        shown = "  ".join(f"{key} {value}" for key, value in sorted(trial.values.items()))
        console.print(
            f"trial {trial.trial_id}  validation top-1 {trial.score:.4f}  {shown}",
            highlight=False,
            soft_wrap=True,
        )

    tuner = _make_tuner(
        algorithm,
        hypermodel,
        folder,
        max_trials=max_trials,
        num_epochs=training.num_epochs,
        seed=training.seed,
        report=report,
    )
    tuner.search(
        epochs=training.num_epochs,
        callbacks=[
            keras.callbacks.EarlyStopping(OBJECTIVE, patience=training.patience, mode="max"),
            keras.callbacks.TensorBoard(folder / "logs", write_graph=False),
        ],
        verbose=0,
    )
    done = [trial for trial in tuner.oracle.trials.values() if trial.score is not None]
    if not done:
        raise RunError(
            f"{folder}: no trial finished; the reason stands in keras_tuner/trial_*/trial.json."
        )
    trials = sorted(map(_describe_trial, done), key=lambda trial: -trial.score)
    write_json(folder / "trials.json", [dataclasses.asdict(trial) for trial in trials])
    write_json(folder / "best.json", trials[0].values)
    return SearchResult(folder=folder, trials=tuple(trials))
