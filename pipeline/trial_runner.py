"""Runs the trials that an oracle gives out: builds, fits and scores one model after another.

A trial is a function of its values and the search's seed: the session is cleared and everything
seeded before each, so a trial that is run again, in another process or by another worker, is the
same trial. What it came to is recorded before the oracle hears of it; a trial whose record stands
is never run again.
"""

from __future__ import annotations

import errno
import gc
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
from keras_tuner.engine.base_tuner import BaseTuner

from pipeline import dataset
from pipeline.cache_folder import CacheConfig
from pipeline.config import TrainConfig
from pipeline.cost_model import ServingBudget, table_megabytes
from pipeline.data_folder import PreparedData
from pipeline.embedding_init import StartingRows, make_starting_rows
from pipeline.hparams_log import write_domains, write_trial
from pipeline.model import build_model
from pipeline.objective import AverageValidator, compile_model
from pipeline.oracle_store import Outcome, read_outcome, write_outcome
from pipeline.oracles import OBJECTIVE, DurableOracle
from pipeline.search_space import drop_tuner_values, make_model_config, make_train_config
from pipeline.service.client import service_errors
from pipeline.service.config import ServiceConfig, ServiceError
from pipeline.training_data import count_classes, make_evaluation, make_stream
from pipeline.trials import FailedTrial, Trial
from pipeline.tune_progress import Pace, Reporter

PROJECT = "keras_tuner"
"""Folder of the search's state within its folder."""
IDLE_S = 0.2
"""Pause before a tuner that got nothing asks again; KerasTuner's asks without any."""


@dataclass(frozen=True, kw_only=True)
class TrialSetup:
    """What all trials of a search have in common.

    Attributes:
        data: A prepared data folder.
        training: Fixed settings, whatever the trials' values do not say.
        folder: Of the search.
        budget: Predicts what a model costs.
        cache: Where tokenised rows are kept; on disk, trials share them.
        service: A tf.data service that reads and tokenises the training rows.
        keeps_weights: Whether later trials go on from an earlier one's weights (Hyperband).
    """

    data: PreparedData
    training: TrainConfig
    folder: Path
    budget: ServingBudget
    cache: CacheConfig = dataset.IN_MEMORY
    service: ServiceConfig | None = None
    keeps_weights: bool = False

    def describe(
        self,
        trial_id: str,
        values: Mapping[str, Any],
        *,
        score: float | None,
        failure: str | None = None,
    ) -> Trial | FailedTrial:
        """Return a trial with its costs; without a score, as one that failed."""
        values = drop_tuner_values(values)
        config = make_model_config(
            values, vocab_size=self.data.vocab_size, num_classes=len(self.data.labels)
        )
        about: dict[str, Any] = {
            "trial_id": trial_id,
            "values": values,
            "table_mb": table_megabytes(config),
            "latency_us": self.budget.predict_us(config),
        }
        if score is not None:
            return Trial(**about, score=score)
        return FailedTrial(**about, failure=failure or "its reason was not recorded")


class FatalTrialError(keras_tuner.errors.FatalError):
    """No fault of the trial, so KerasTuner must not count it as failed: ends the search."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class DivergedError(keras_tuner.errors.FailedTrialError):
    """A loss that is no number any more."""


class _Watch(keras.callbacks.Callback):
    """Tells how far the trial is, and ends one whose loss is no number any more."""

    def __init__(self, tell: Callable[[float, str], None], *, epochs: int, steps: int) -> None:
        super().__init__()
        self._tell = tell
        self._epochs = epochs
        self._steps = steps
        self._epoch = 0
        self._best = ""
        self._pace = Pace()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        # A mean over the epoch: once it is no number, it stays none.
        if self._pace.is_due() and logs:
            self._check(logs["loss"])
            share = (self._epoch + (batch + 1) / self._steps) / self._epochs
            self._tell(share, f"epoch {self._epoch + 1}/{self._epochs}{self._best}")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if logs:
            self._check(logs["loss"])
            self._best = f"  top-1 {logs[OBJECTIVE]:.4f}"

    def _check(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise DivergedError(f"the loss became {loss} in epoch {self._epoch + 1}")


class TrialTuner(BaseTuner):
    """KerasTuner's loop over trials with our way to run one.

    Args:
        oracle: Gives out the trials; in a worker, KerasTuner puts a client in its place.
        setup: What all trials have in common.
        reporter: Is told how far the trial is.
    """

    def __init__(self, oracle: DurableOracle, setup: TrialSetup, reporter: Reporter) -> None:
        super().__init__(oracle=oracle, directory=str(setup.folder), project_name=PROJECT)
        self._setup = setup
        self._reporter = reporter
        self._asked_at = 0.0
        self._rows: dict[int, StartingRows | None] = {}  # by E; skip-gram takes a minute
        write_domains(setup.folder / "logs", oracle.hyperparameters.space)

    # The oracle's file is all the state there is.

    def _get_tuner_fname(self) -> str:
        return str(Path(self.project_dir) / "no_state_of_its_own.json")

    def save(self) -> None:
        """Save the oracle, where it lives here; KerasTuner has ended a trial just before."""
        if isinstance(self.oracle, DurableOracle):
            self.oracle.save()

    def pre_create_trial(self) -> None:
        """Ask for trials no faster than once every `IDLE_S`."""
        time.sleep(max(0.0, self._asked_at + IDLE_S - time.monotonic()))
        self._asked_at = time.monotonic()

    def run_trial(self, trial: Any) -> dict[str, float]:
        """Return the metrics of the trial's best epoch, measured or recorded.

        Raises:
            FailedTrialError: The trial failed, now or when it was run before.
            FatalTrialError: The data service is lost, or the disk is full.
        """
        values = trial.hyperparameters.values
        folder = self._trial_folder(trial.trial_id)
        outcome = read_outcome(folder, values)
        if outcome is None:
            outcome = self._measure(trial)
            write_trial(
                self._setup.folder / "logs",
                self._setup.describe(
                    trial.trial_id,
                    values,
                    score=outcome.metrics.get(OBJECTIVE),
                    failure=outcome.failure,
                ),
            )
            write_outcome(folder, outcome)
        if outcome.failure is not None:
            raise keras_tuner.errors.FailedTrialError(outcome.failure)
        return dict(outcome.metrics)

    def _trial_folder(self, trial_id: str) -> Path:
        return Path(self.project_dir) / f"trial_{trial_id}"

    def _measure(self, trial: Any) -> Outcome:
        begun = time.monotonic()
        metrics: dict[str, float] = {}
        failure = None
        try:
            with service_errors():
                metrics = self._fit(trial)
        except ServiceError as err:
            raise FatalTrialError(err) from err
        except Exception as err:  # whatever values can do to a model
            if isinstance(err, OSError) and err.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise FatalTrialError(err) from err
            lines = str(err).strip().splitlines() or [""]
            name = "" if isinstance(err, DivergedError) else f"{type(err).__name__}: "
            failure = f"{name}{lines[0]}"[:200]
        return Outcome(
            values=dict(trial.hyperparameters.values),
            metrics=metrics,
            failure=failure,
            seconds=time.monotonic() - begun,
        )

    def _fit(self, trial: Any) -> dict[str, float]:
        setup, values = self._setup, trial.hyperparameters.values
        data = setup.data
        training = make_train_config(values, setup.training)
        config = make_model_config(values, vocab_size=data.vocab_size, num_classes=len(data.labels))
        epochs = values.get("tuner/epochs", training.num_epochs)  # set by Hyperband
        first_epoch = values.get("tuner/initial_epoch", 0)
        steps = dataset.count_steps(data.train.count, training.batch_size)

        # Before any dataset: both destroy every SentencePiece op's resource.
        keras.backend.clear_session()
        gc.collect()
        keras.utils.set_random_seed(training.seed)
        model = build_model(config, cell=training.cell)
        compile_model(
            model,
            training,
            num_classes=config.num_classes,
            total_steps=epochs * steps,
            class_counts=None if training.class_weights == "none" else count_classes(data),
        )
        if "tuner/trial_id" in values:
            model.optimizer.build(model.trainable_variables)
            model.load_weights(self._weights_path(values["tuner/trial_id"]))
        else:
            self._start_embedding(model.get_layer("embedding"), training)
        logs = setup.folder / "logs" / trial.trial_id
        shutil.rmtree(logs, ignore_errors=True)  # of an attempt that was interrupted

        def tell(share: float, note: str) -> None:
            self._reporter.advance(self.tuner_id, share, note)

        callbacks: list[keras.callbacks.Callback] = [
            _Watch(tell, epochs=epochs, steps=steps),
            keras.callbacks.EarlyStopping(OBJECTIVE, patience=training.patience, mode="max"),
            keras.callbacks.TensorBoard(logs, write_graph=False),
        ]
        if training.weight_averaging:
            callbacks.append(AverageValidator())
        if setup.keeps_weights:
            callbacks.append(_KeepBest(self._weights_path(trial.trial_id)))
        stream = make_stream(
            data, training, cache=setup.cache, service=setup.service, start_epoch=first_epoch
        )
        history = model.fit(
            stream.dataset,
            epochs=epochs,
            initial_epoch=first_epoch,
            steps_per_epoch=stream.steps_per_epoch,
            validation_data=make_evaluation(data, data.validation, training),
            callbacks=callbacks,
            shuffle=False,
            verbose=0,
        ).history
        best = int(np.argmax(history[OBJECTIVE]))
        return {name: float(curve[best]) for name, curve in sorted(history.items())}

    def _start_embedding(self, embedding: keras.layers.Embedding, training: TrainConfig) -> None:
        dim = embedding.output_dim
        if dim not in self._rows:
            self._rows[dim] = make_starting_rows(self._setup.data, training, embed_dim=dim)
        if (rows := self._rows[dim]) is not None:
            embedding.embeddings.assign(rows.values)

    def _weights_path(self, trial_id: str) -> Path:
        return self._trial_folder(trial_id) / "best.weights.h5"


class _KeepBest(keras.callbacks.Callback):
    """Keeps weights and optimiser of the best epoch, the file whole at any time."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._best = -math.inf

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if logs and logs[OBJECTIVE] > self._best:
            self._best = logs[OBJECTIVE]
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial = self._path.with_name(f"partial.{self._path.name}")
            self.model.save_weights(partial, overwrite=True)
            partial.replace(self._path)
