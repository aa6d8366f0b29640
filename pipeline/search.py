"""Hyperparameter search: the only file that knows KerasTuner.

A search lives in build/tuner/<name>/, whose name derives from data and settings; the same command
goes on where it was interrupted, a finished trial is never repeated. Gives `best.json`, which
`train --hp` takes, `trials.json`, every trial with its values, score and predicted cost, and
`pareto.svg`.

With a serving budget, shapes that would cost more are never drawn: to the oracle they look like
shapes it has tried already.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
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
from pipeline.cost_model import ServingBudget, table_megabytes
from pipeline.data_folder import PreparedData
from pipeline.model import build_model
from pipeline.objective import compile_model
from pipeline.run_folder import RunError, check_run_name, write_json
from pipeline.service.client import service_errors
from pipeline.service.config import ServiceConfig, ServiceError
from pipeline.train import make_evaluation, make_stream
from pipeline.trials import Trial, draw_pareto

Algorithm = Literal["random", "hyperband", "bayesian"]
OBJECTIVE = "val_top_1"
EMBED_DIMS = [64, 128, 192, 256]
BATCH_SIZES = [128, 256, 512]
UNITS = [16, 32, 48, 64, 96, 128, 192, 256]
SEARCH_VERSION = 2
"""Part of a search's key: raised when the search space changes."""
MAX_REJECTED = 2000
"""Draws beyond the budget, or tried already, before the space counts as exhausted."""


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
        embed_dim=hp.Choice("embed_dim", EMBED_DIMS, default=128),
        units=hp.Choice("units", UNITS, default=96),
        layers=hp.Choice("layers", [1, 2], default=1),
        bidirectional=hp.Boolean("bidirectional", default=True),
        pooling=hp.Choice("pooling", ["last", "max", "mean"], default="max"),
        embedding_dropout=hp.Float("embedding_dropout", 0.0, 0.6, step=0.05, default=0.25),
        head_dropout=hp.Float("head_dropout", 0.0, 0.6, step=0.05, default=0.5),
    )


def _sample_training(
    hp: keras_tuner.HyperParameters, training: TrainConfig, *, draws_batch_size: bool
) -> TrainConfig:
    if draws_batch_size:
        batch_size = hp.Choice("batch_size", BATCH_SIZES, default=256)
        training = dataclasses.replace(training, batch_size=batch_size)
    return dataclasses.replace(
        training,
        learning_rate=hp.Float("learning_rate", 5e-4, 8e-3, sampling="log", default=3e-3),
        label_smoothing=hp.Choice("label_smoothing", [0.0, 0.05, 0.1], default=0.1),
    )


def _make_config(values: Mapping[str, Any], data: PreparedData) -> ModelConfig:
    """The shape that drawn values describe; what is not drawn yet has its default."""
    hp = keras_tuner.HyperParameters()
    hp.values.update({key: value for key, value in values.items() if "/" not in key})
    return sample_config(hp, vocab_size=data.vocab_size, num_classes=len(data.labels))


class _Budgeted(keras_tuner.Oracle):
    """Mixed into an oracle: values beyond the budget count as tried already."""

    admits: Callable[[Mapping[str, Any]], bool]

    def _duplicate(self, values: Mapping[str, Any]) -> bool:
        return super()._duplicate(values) or not self.admits(values)

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        found: dict[str, Any] = super().populate_space(trial_id)
        # BayesianOptimization follows its surface wherever it leads.
        if found["status"] == "RUNNING" and not self.admits(found["values"]):
            values = self._random_values()
            return {"status": "RUNNING" if values else "STOPPED", "values": values}
        return found


class _BudgetedRandom(_Budgeted, keras_tuner.oracles.RandomSearchOracle):
    pass


class _BudgetedHyperband(_Budgeted, keras_tuner.oracles.HyperbandOracle):
    pass


class _BudgetedBayesian(_Budgeted, keras_tuner.oracles.BayesianOptimizationOracle):
    pass


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
        *,
        draws_batch_size: bool,
    ) -> None:
        super().__init__()
        self._draws_batch_size = draws_batch_size
        self.data = data
        self._training = training
        self._cache = cache
        self._service = service

    def _draw_training(self, hp: keras_tuner.HyperParameters) -> TrainConfig:
        return _sample_training(hp, self._training, draws_batch_size=self._draws_batch_size)

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Build and compile the model that `hp` describes."""
        config = sample_config(
            hp, vocab_size=self.data.vocab_size, num_classes=len(self.data.labels)
        )
        model = build_model(config)
        training = self._draw_training(hp)
        epochs = hp.values.get("tuner/epochs", training.num_epochs)  # set by Hyperband
        steps = dataset.count_steps(self.data.train.count, training.batch_size)
        compile_model(model, training, num_classes=config.num_classes, total_steps=epochs * steps)
        return model

    def fit(self, hp: keras_tuner.HyperParameters, model: keras.Model, **kwargs: Any) -> Any:
        """Fit `model` on a stream of its own."""
        data, training = self.data, self._draw_training(hp)
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
    hypermodel: _Classifier,
    folder: Path,
    *,
    max_trials: int,
    num_epochs: int,
    seed: int,
    budget: ServingBudget,
    report: Callable[[Trial], None],
) -> keras_tuner.Tuner:
    oracles = {"random": _BudgetedRandom, "hyperband": _BudgetedHyperband}
    sizes = {"hyperband": {"max_epochs": num_epochs}}
    oracle = oracles.get(algorithm, _BudgetedBayesian)(
        objective=keras_tuner.Objective(OBJECTIVE, "max"),
        seed=seed,
        # A diverging trial is marked failed and the search goes on; three in a row end it.
        max_retries_per_trial=0,
        max_consecutive_failed_trials=3,
        **sizes.get(algorithm, {"max_trials": max_trials}),
    )
    oracle.admits = lambda values: budget.admits(_make_config(values, hypermodel.data))
    oracle._max_collisions = MAX_REJECTED
    # Hyperband's tuner takes over the weights of a trial's earlier round; the others have none.
    base = keras_tuner.Hyperband if algorithm == "hyperband" else keras_tuner.Tuner

    class ReportingTuner(base):  # type: ignore[misc, valid-type]  # the base is chosen at run time
        def __init__(self, **kwargs: Any) -> None:
            keras_tuner.Tuner.__init__(self, **kwargs)  # Hyperband's own makes its own oracle

        def on_trial_end(self, trial: Any) -> None:
            super().on_trial_end(trial)
            done = self.oracle.get_trial(trial.trial_id)
            if done.score is not None:
                report(_describe_trial(done, hypermodel.data, budget))

    return ReportingTuner(
        oracle=oracle,
        hypermodel=hypermodel,
        directory=str(folder),
        project_name="keras_tuner",
        overwrite=False,  # resume
    )


def _describe_trial(trial: Any, data: PreparedData, budget: ServingBudget) -> Trial:
    values = {key: value for key, value in trial.hyperparameters.values.items() if "/" not in key}
    config = _make_config(values, data)
    return Trial(
        trial_id=trial.trial_id,
        values=values,
        score=float(trial.score),
        table_mb=table_megabytes(config),
        latency_us=budget.predict_us(config),
    )


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
    budget: ServingBudget | None = None,
    draws_batch_size: bool = False,
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
        budget: What a model may cost when it is served; shapes beyond it are not tried.
        draws_batch_size: Whether the batch size is searched too, instead of `training`'s.
        console: Where progress goes; silent when absent.

    Returns:
        All finished trials, best first.

    Raises:
        RunError: Another process searches in this folder, or no trial finished.
        ValueError: `max_trials` is below 1, `name` is unsafe, or no shape keeps the budget.
    """
    if max_trials < 1:
        raise ValueError(f"max_trials: expected at least 1, found {max_trials}.")
    budget = budget or ServingBudget()
    _check_budget(budget, data)
    parts = [SEARCH_VERSION, data.fingerprint, training.key_fields(), algorithm]
    parts += [budget.max_latency_us, budget.max_table_mb, draws_batch_size]
    key = json.dumps(parts, sort_keys=True)
    name = name or f"{data.name[:70]}-{algorithm}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    check_run_name(name)
    folder = tuners / name
    folder.mkdir(parents=True, exist_ok=True)
    console = console or Console(quiet=True)
    try:
        with filelock.FileLock(folder / ".lock", timeout=0):
            hypermodel = _Classifier(
                data, training, cache, service, draws_batch_size=draws_batch_size
            )
            return _search(hypermodel, training, folder, algorithm, max_trials, budget, console)
    except filelock.Timeout as err:
        raise RunError(
            f"{folder}: another process is searching here. Wait for it, or choose another --name."
        ) from err


def _check_budget(budget: ServingBudget, data: PreparedData) -> None:
    smallest = ModelConfig(
        vocab_size=data.vocab_size,
        num_classes=len(data.labels),
        embed_dim=min(EMBED_DIMS),
        units=min(UNITS),
        bidirectional=False,
    )
    if not budget.admits(smallest):
        latency_us = budget.predict_us(smallest)
        predicted = "" if latency_us is None else f", {latency_us:.1f} us"
        raise ValueError(
            f"budget: expected at least what the smallest model of the search takes, one "
            f"GRU({smallest.units}): {table_megabytes(smallest):.1f} MB{predicted}; found "
            f"--max-table-mb {budget.max_table_mb} and --max-latency-us {budget.max_latency_us}."
        )


def _search(
    hypermodel: _Classifier,
    training: TrainConfig,
    folder: Path,
    algorithm: Algorithm,
    max_trials: int,
    budget: ServingBudget,
    console: Console,
) -> SearchResult:
    def report(trial: Trial) -> None:
        shown = "  ".join(f"{key} {value}" for key, value in sorted(trial.values.items()))
        cost = "" if trial.latency_us is None else f"{trial.latency_us:.1f} us  "
        console.print(
            f"trial {trial.trial_id}  validation top-1 {trial.score:.4f}  {cost}"
            f"{trial.table_mb:.1f} MB  {shown}",
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
        budget=budget,
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
    trials = [_describe_trial(trial, hypermodel.data, budget) for trial in done]
    trials.sort(key=lambda trial: -trial.score)
    write_json(folder / "trials.json", [dataclasses.asdict(trial) for trial in trials])
    write_json(folder / "best.json", trials[0].values)
    (folder / "pareto.svg").write_text(draw_pareto(trials), encoding="utf-8")
    return SearchResult(folder=folder, trials=tuple(trials))
