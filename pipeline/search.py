"""Hyperparameter search: opens its folder, runs or serves its trials, writes what it found.

A search lives in build/tuner/<name>/, whose name derives from data and settings:

    search.json      the settings it belongs to
    keras_tuner/     state and outcomes (`pipeline.oracle_store`); a kill at any time loses at most
                     the trial under way, which is run again with the same values and seed
    logs/            TensorBoard, HParams too
    trials.json      every ended trial with its values, score or failure, and predicted cost
    best.json        what `train --hp` takes; `best-under-10us.json` likewise within that time
    pareto.svg       accuracy against cost

With a serving budget, shapes that would cost more are never drawn.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock
import tensorflow as tf
from keras_tuner.engine.trial import TrialStatus
from rich.console import Console

from pipeline import dataset
from pipeline.allocator import keep_freed_memory
from pipeline.cache_folder import CacheConfig
from pipeline.config import TrainConfig
from pipeline.cost_model import ServingBudget, table_megabytes
from pipeline.data_folder import PreparedData
from pipeline.json_file import write_json
from pipeline.oracles import Algorithm, DurableOracle, make_oracle
from pipeline.run_folder import RunError, check_run_name, read_json
from pipeline.search_space import (
    SEARCH_VERSION,
    drop_tuner_values,
    make_model_config,
    smallest_config,
)
from pipeline.service.config import ServiceConfig
from pipeline.threads import share_threads
from pipeline.trial_runner import PROJECT, FatalTrialError, TrialSetup, TrialTuner
from pipeline.trials import LATENCY_GOALS_US, FailedTrial, Trial, draw_pareto, find_best_within
from pipeline.tune_progress import Reporter, SearchProgress
from pipeline.whole_file import write_whole


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How to search.

    Attributes:
        algorithm: KerasTuner's RandomSearch, Hyperband or BayesianOptimization.
        max_trials: Trials of the first and the last; Hyperband derives its own from the epochs.
        max_minutes: No trial begins that would not end within so many minutes from now.
        name: Folder name; derived from data and settings when absent.
        cache: Where tokenised rows are kept; on disk, trials share them.
        service: A tf.data service that reads and tokenises the training rows.
        budget: What a model may cost when it is served; shapes beyond it are not tried.
        draws_batch_size: Whether the batch size is searched too, instead of the fixed one.
    """

    algorithm: Algorithm = "random"
    max_trials: int = 10
    max_minutes: float | None = None
    name: str | None = None
    cache: CacheConfig = dataset.IN_MEMORY
    service: ServiceConfig | None = None
    budget: ServingBudget = field(default_factory=ServingBudget)
    draws_batch_size: bool = False

    def __post_init__(self) -> None:
        if self.max_trials < 1:
            raise ValueError(f"max_trials: expected at least 1, found {self.max_trials}.")
        if self.name is not None:
            check_run_name(self.name)


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What a search found.

    Attributes:
        folder: Where it lies.
        trials: Finished ones, best first; at least one.
        failed: Those without a score.
        stop_reason: Why it ended before its last trial, or None.
    """

    folder: Path
    trials: tuple[Trial, ...]
    failed: tuple[FailedTrial, ...] = ()
    stop_reason: str | None = None

    @property
    def best_path(self) -> Path:
        """Hyperparameters of the best trial, for `train --hp`."""
        return self.folder / "best.json"

    def best_within_path(self, latency_us: int) -> Path:
        """Hyperparameters of the best trial predicted to take at most `latency_us`."""
        return self.folder / f"best-under-{latency_us}us.json"


@dataclass(frozen=True, kw_only=True)
class OpenSearch:
    """A search whose folder this process holds."""

    setup: TrialSetup
    oracle: DurableOracle
    note: str | None

    def describe(self, trial: Any) -> Trial | FailedTrial:
        """Return one of the oracle's ended trials with its costs."""
        outcome = self.oracle.read_outcome(trial)
        is_finished = trial.status == TrialStatus.COMPLETED
        return self.setup.describe(
            trial.trial_id,
            trial.hyperparameters.values,
            score=float(trial.score) if is_finished else None,
            failure=None if outcome is None else outcome.failure,
        )

    def report_to(self, progress: SearchProgress) -> None:
        """Have `progress` told of every trial, and of those that ended before."""
        if self.note:
            progress.tell(self.note)

        def read_seconds(trial: Any) -> float | None:
            outcome = self.oracle.read_outcome(trial)
            return None if outcome is None else outcome.seconds

        def begin(tuner_id: str, trial: Any) -> None:
            described = self.setup.describe(
                trial.trial_id, trial.hyperparameters.values, score=None
            )
            progress.begin(tuner_id, described)

        def end(tuner_id: str, trial: Any) -> None:
            progress.close(tuner_id)
            progress.end(self.describe(trial), read_seconds(trial))

        for trial_id in self.oracle.end_order:
            trial = self.oracle.trials[trial_id]
            progress.count_done(self.describe(trial), read_seconds(trial))
        self.oracle.on_begin, self.oracle.on_end = begin, end

    def finish(self) -> SearchResult:
        """Write what was found.

        Raises:
            RunError: No trial finished.
        """
        ended = [self.describe(self.oracle.trials[name]) for name in self.oracle.end_order]
        trials = [trial for trial in ended if isinstance(trial, Trial)]
        trials.sort(key=lambda trial: (-trial.score, trial.trial_id))
        failed = [trial for trial in ended if isinstance(trial, FailedTrial)]
        failed.sort(key=lambda trial: trial.trial_id)
        result = SearchResult(
            folder=self.setup.folder,
            trials=tuple(trials),
            failed=tuple(failed),
            stop_reason=self.oracle.stop_reason,
        )
        write_json(result.folder / "trials.json", [each.to_json() for each in (*trials, *failed)])
        if not trials:
            reason = failed[-1].failure if failed else self.oracle.stop_reason or "none was begun"
            raise RunError(
                f"{result.folder}: expected a trial that finishes, found {len(failed)} failed and "
                f"none finished: {reason}. Mend that and choose another --name, or delete the "
                "folder."
            )
        write_json(result.best_path, self._make_hyperparameters(trials[0]))
        for goal_us in LATENCY_GOALS_US:
            within = find_best_within(trials, goal_us)
            path = result.best_within_path(goal_us)
            if within is None:
                path.unlink(missing_ok=True)
            else:
                write_json(path, self._make_hyperparameters(within))
        write_whole(result.folder / "pareto.svg", draw_pareto(trials))
        return result

    def _make_hyperparameters(self, trial: Trial) -> dict[str, Any]:
        # The epochs are not among them: a trial's are few, so that there are many trials.
        training = self.setup.training
        fixed = {"batch_size": training.batch_size, "embedding_init": training.embedding_init}
        return {**fixed, **trial.values}


def _check_budget(budget: ServingBudget, data: PreparedData) -> None:
    smallest = smallest_config(vocab_size=data.vocab_size, num_classes=len(data.labels))
    if not budget.admits(smallest):
        latency_us = budget.predict_us(smallest)
        predicted = "" if latency_us is None else f", {latency_us:.1f} us"
        raise ValueError(
            f"budget: expected at least what the smallest model of the search takes, one "
            f"GRU({smallest.units}): {table_megabytes(smallest):.1f} MB{predicted}; found "
            f"--max-table-mb {budget.max_table_mb} and --max-latency-us {budget.max_latency_us}."
        )


def _make_setup(
    data: PreparedData, training: TrainConfig, tuners: Path, config: SearchConfig
) -> tuple[TrialSetup, DurableOracle, list[Any]]:
    """The parts of a search and the key that it is named after; nothing is written."""
    budget = config.budget
    _check_budget(budget, data)
    if training.deterministic and config.service is not None:
        raise ValueError(
            "deterministic: expected no data service, found one: its rows come in the order in "
            "which its workers finish. Leave out --deterministic or --data-service."
        )
    key = [SEARCH_VERSION, data.fingerprint, training.key_fields(), config.algorithm]
    key += [budget.max_latency_us, budget.max_table_mb, config.draws_batch_size]
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:8]
    name = config.name or f"{data.name[:70]}-{config.algorithm}-{digest}"
    check_run_name(name)
    setup = TrialSetup(
        data=data,
        training=training,
        folder=tuners / name,
        budget=budget,
        cache=config.cache,
        service=config.service,
        keeps_weights=config.algorithm == "hyperband",
    )

    def admits(values: Mapping[str, Any]) -> bool:
        shape = make_model_config(
            drop_tuner_values(values), vocab_size=data.vocab_size, num_classes=len(data.labels)
        )
        return budget.admits(shape)

    oracle = make_oracle(
        config.algorithm,
        training,
        max_trials=config.max_trials,
        draws_batch_size=config.draws_batch_size,
        admits=admits,
    )
    oracle._set_project_dir(str(setup.folder), PROJECT)
    if config.max_minutes is not None:
        oracle.deadline = time.monotonic() + 60 * config.max_minutes
    return setup, oracle, key


@contextmanager
def open_search(
    data: PreparedData, training: TrainConfig, tuners: Path, config: SearchConfig
) -> Iterator[OpenSearch]:
    """Hold a search's folder, its state as the last process left it.

    Raises:
        RunError: Another process searches in this folder, it holds a search of other settings, or
            its state cannot be read.
        ValueError: The name is unsafe, or no shape keeps the budget.
    """
    setup, oracle, key = _make_setup(data, training, tuners, config)
    setup.folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(setup.folder / ".lock", timeout=0):
            settings = setup.folder / "search.json"
            if not settings.is_file() and (setup.folder / PROJECT).is_dir():
                raise RunError(
                    f"{setup.folder}: expected a search of this version, found one of an earlier. "
                    "Choose another --name, or delete the folder."
                )
            if not settings.is_file():
                write_json(settings, key)
            elif read_json(settings) != json.loads(json.dumps(key)):
                raise RunError(
                    f"{setup.folder}: expected a search of the same data and settings, found one "
                    "of others. Choose another --name."
                )
            yield OpenSearch(setup=setup, oracle=oracle, note=oracle.restore())
    except filelock.Timeout as err:
        raise RunError(
            f"{setup.folder}: another process is searching here. Wait for it, or choose another "
            "--name."
        ) from err


def run_trials(oracle: DurableOracle, setup: TrialSetup, reporter: Reporter) -> None:
    """Run trials in this process until there are none left.

    Raises:
        ServiceError: The data service is lost.
        OSError: The disk is full.
    """
    keep_freed_memory()
    share_threads(2)  # the shapes differ; most read in both directions
    tf.get_logger().setLevel("ERROR")  # it takes each trial's own model for one traced too often
    if setup.training.deterministic:
        tf.config.experimental.enable_op_determinism()
    tuner = TrialTuner(oracle, setup, reporter)
    try:
        tuner.search()
    except FatalTrialError as err:
        raise err.cause from err


def search(
    data: PreparedData,
    training: TrainConfig,
    tuners: Path,
    config: SearchConfig | None = None,
    *,
    console: Console | None = None,
) -> SearchResult:
    """Search, or go on searching, for good hyperparameters, one trial after another.

    Args:
        data: A prepared data folder.
        training: Fixed settings, whatever is not searched.
        tuners: Parent of the search folders.
        config: How to search.
        console: Where progress goes; silent when absent.

    Returns:
        All ended trials.

    Raises:
        RunError: See `open_search`; or no trial finished.
        ValueError: See `open_search`.
    """
    console = console or Console(quiet=True)
    with open_search(data, training, tuners, config or SearchConfig()) as opened:
        with SearchProgress(console, total=opened.oracle.total_trials) as progress:
            opened.report_to(progress)
            run_trials(opened.oracle, opened.setup, progress)
        return opened.finish()


def search_as_worker(
    data: PreparedData,
    training: TrainConfig,
    tuners: Path,
    config: SearchConfig,
    reporter: Reporter,
) -> None:
    """Run the trials that a chief gives out, until it has none left.

    Where the chief is stands in KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT, who asks in
    KERASTUNER_TUNER_ID. The search's folder must be the chief's own.
    """
    setup, oracle, _ = _make_setup(data, training, tuners, config)
    if not (setup.folder / "search.json").is_file():
        raise RunError(
            f"{setup.folder}: expected the folder of the chief's search, found none. Give workers "
            "the chief's options, and a GATETABLE_BUILD that all of them share; start the chief "
            f"first ({os.environ['KERASTUNER_TUNER_ID']} is a worker)."
        )
    run_trials(oracle, setup, reporter)
