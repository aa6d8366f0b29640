"""What decides which values a search tries next: KerasTuner's oracles, made to survive.

`DurableOracle` is mixed into each. Over KerasTuner's own it
* keeps its whole state in one file that is always whole (`pipeline.oracle_store`),
* tries the defaults of `train` first, so that no search ends below them,
* draws no values beyond the serving budget: they look like values it has tried already,
* draws the same values after a resume, and whoever asks for them,
* begins no trial that would not end in time, and no further one when the first all fail,
* takes the trial of a lost worker back.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any, Literal

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial as TunerTrial
from keras_tuner.engine.trial import TrialStatus
from keras_tuner.oracles import BayesianOptimizationOracle, HyperbandOracle, RandomSearchOracle

from pipeline.config import TrainConfig
from pipeline.oracle_store import Outcome, read_outcome, read_state, write_state
from pipeline.run_folder import RunError
from pipeline.search_space import declare_space, list_first_values, tidy_values

Algorithm = Literal["random", "hyperband", "bayesian"]
OBJECTIVE = "val_top_1"
MAX_REJECTED = 2000
"""Draws beyond the budget, or tried already, before the space counts as exhausted."""
MAX_FIRST_FAILURES = 3
"""So many failures before any trial finished lie in the setup, not in the values drawn."""
BAYESIAN_RANDOM_TRIALS = 8
"""Random trials before the surface is followed. KerasTuner's three a dimension would be 39, more
than most searches have."""
_DONE = (TrialStatus.COMPLETED, TrialStatus.FAILED)


class DurableOracle(keras_tuner.Oracle):
    """Mixed into an oracle; see the module.

    Attributes:
        admits: Whether values keep the serving budget.
        deadline: Time of `time.monotonic` by which every trial should have ended, or None.
        stop_reason: Why no further trial begins, where that is not the end of the search.
        on_begin: Called with the tuner's id and the trial.
        on_end: Called with the tuner's id and the trial.
    """

    admits: Callable[[Mapping[str, Any]], bool]
    deadline: float | None = None
    stop_reason: str | None = None
    ongoing_trials: dict[str, Any]
    tuner_ids: set[str]
    _retry_queue: list[str]
    on_begin: Callable[[str, Any], None] | None = None
    on_end: Callable[[str, Any], None] | None = None

    def prepare(self, admits: Callable[[Mapping[str, Any]], bool], seed: int) -> None:
        """Set what KerasTuner's constructors do not take."""
        self.admits = admits
        self.seed = self._seed_state = seed + 1  # KerasTuner takes a seed of 0 for none
        self._max_collisions = MAX_REJECTED
        self._lost: set[str] = set()
        self._first_failures = 0
        self.verbose = 0

    # State.

    @property
    def folder(self) -> Path:
        """Where the state lies, and the trials' folders."""
        return Path(self._project_dir)

    def save(self) -> None:
        """Write oracle and trials as one state."""
        trials = {trial_id: trial.get_state() for trial_id, trial in self.trials.items()}
        write_state(self.folder, {"oracle": self.get_state(), "trials": trials})

    def _save_trial(self, trial: Any) -> None:
        """Do nothing: `save`, which follows, holds the trials too."""

    def restore(self) -> str | None:
        """Go on from the newest whole state; returns a line to tell a person, if there is one.

        Raises:
            RunError: The state is of a newer program, or of another kind.
        """
        state, note = read_state(self.folder)
        if state is None:
            return note
        try:
            self.trials = {
                trial_id: TunerTrial.from_state(fields)
                for trial_id, fields in state["trials"].items()
            }
            self.set_state(state["oracle"])
        except (KeyError, TypeError, ValueError, AttributeError) as err:
            raise RunError(
                f"{self.folder}: expected the state of such a search, found {err!r}. Choose "
                "another --name."
            ) from err
        # KerasTuner saves before it takes an ended trial off the list of those under way.
        ended = {trial_id for trial_id, trial in self.trials.items() if trial.status in _DONE}
        under_way = [trial.trial_id for trial in self.ongoing_trials.values()]
        waiting = [*self._retry_queue, *sorted(under_way, reverse=True)]  # taken from its end
        self._retry_queue = [each for each in dict.fromkeys(waiting) if each not in ended]
        self.ongoing_trials = {}
        self.tuner_ids = set()
        return note

    def trial_folder(self, trial_id: str) -> Path:
        """Where a trial keeps its outcome."""
        return self.folder / f"trial_{trial_id}"

    def read_outcome(self, trial: Any) -> Outcome | None:
        """Return what a trial came to, if that was recorded."""
        return read_outcome(self.trial_folder(trial.trial_id), trial.hyperparameters.values)

    # Drawing.

    def _compute_values_hash(self, values: Mapping[str, Any]) -> str:
        digest: str = super()._compute_values_hash(tidy_values(values))
        return digest

    def _duplicate(self, values: Mapping[str, Any]) -> bool:
        return super()._duplicate(values) or not self.admits(values)

    def _random_values(self) -> dict[str, Any] | None:
        """Return the values of the first trial, the defaults, and draws from then on."""
        first = [] if self.start_order else list_first_values(self.hyperparameters)
        affordable: dict[str, Any] | None = next(filter(self.admits, first), None)
        return affordable or super()._random_values()

    def _explain_stop(self) -> str | None:
        """Why no further trial should begin although some are left, or None."""
        if self._first_failures >= MAX_FIRST_FAILURES:
            return f"the first {MAX_FIRST_FAILURES} trials all failed"
        if self.deadline is None:
            return None
        outcomes = [self.read_outcome(trial) for trial in self.trials.values()]
        seconds = [outcome.seconds for outcome in outcomes if outcome and not outcome.failure]
        expected_s = median(seconds) if seconds else 0.0
        if time.monotonic() + expected_s <= self.deadline:
            return None
        return f"the next trial, {expected_s:.0f} s by the median, would not end in --max-minutes"

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Return the values of the next trial, or that there is none."""
        self.stop_reason = self._explain_stop()
        if self.stop_reason:
            return {"status": TrialStatus.STOPPED, "values": None}
        found: dict[str, Any] = super().populate_space(trial_id)
        if found["status"] == TrialStatus.RUNNING:
            found["values"] = tidy_values(found["values"])
        return found

    # Trials.

    def lose_tuner(self, tuner_id: str) -> None:
        """Take back the trial of a worker that will not return; the next who asks gets it."""
        self._lost.add(tuner_id)

    @property
    def total_trials(self) -> int:
        """How many trials the whole search has."""
        return int(self.max_trials)

    @property
    def unfinished(self) -> list[str]:
        """Ids of the trials that were begun and have not ended."""
        return [name for name, trial in self.trials.items() if trial.status not in _DONE]

    @keras_tuner.synchronized
    def create_trial(self, tuner_id: str) -> Any:
        """Return the trial that this tuner was at, one that nobody finished, or a new one."""
        while self._lost:
            lost = self._lost.pop()
            self.tuner_ids.discard(lost)
            trial = self.ongoing_trials.pop(lost, None)
            if trial is not None:
                self._retry_queue.append(trial.trial_id)
        waiting, reason = self._retry_queue, self._explain_stop()
        if waiting and reason:  # KerasTuner would begin these all the same
            self.stop_reason, self._retry_queue = reason, []
        trial = super().create_trial(tuner_id)
        if waiting and reason:
            self._retry_queue = waiting
        if trial.status == TrialStatus.RUNNING:
            # Whatever an interrupted attempt reported: KerasTuner would keep that instead.
            trial.metrics = type(trial.metrics)()
            if self.on_begin:
                self.on_begin(tuner_id, trial)
        return trial

    @keras_tuner.synchronized
    def end_trial(self, trial: Any) -> None:
        """Record an ended trial."""
        # Values come back from a worker as it got them, and this search's space is declared.
        trial.hyperparameters = self.trials[trial.trial_id].hyperparameters
        tuner_ids = [
            tuner_id
            for tuner_id, ongoing in self.ongoing_trials.items()
            if ongoing.trial_id == trial.trial_id
        ]
        super().end_trial(trial)
        if self.on_end:
            self.on_end(tuner_ids[0], self.trials[trial.trial_id])

    def _check_consecutive_failures(self) -> None:
        """Count failures before the first success; later ones never end a search."""
        statuses = [self.trials[trial_id].status for trial_id in self.end_order]
        if TrialStatus.COMPLETED in statuses:
            self._first_failures = 0
        else:  # of this process alone: the next may have what this one lacked
            self._first_failures += 1


class _Random(DurableOracle, RandomSearchOracle):
    pass


class _Hyperband(DurableOracle, HyperbandOracle):
    @property
    def total_trials(self) -> int:
        rounds = [(b, r) for b in range(self._get_num_brackets()) for r in range(b + 1)]
        return int(sum(self._get_size(*each) for each in rounds))


class _Bayesian(DurableOracle, BayesianOptimizationOracle):
    def populate_space(self, trial_id: str) -> dict[str, Any]:
        # KerasTuner does not save this generator: after a resume it would begin anew.
        self._random_state = np.random.RandomState(self.seed + len(self.start_order))
        with warnings.catch_warnings():
            # That a width of its kernel lies at a bound: of few trials it often does.
            warnings.filterwarnings("ignore", module=r"sklearn\.gaussian_process")
            found = super().populate_space(trial_id)
        if found["status"] == TrialStatus.RUNNING and self._duplicate(found["values"]):
            values = self._random_values()  # its surface may lead to the same place again
            status = TrialStatus.RUNNING if values else TrialStatus.STOPPED
            return {"status": status, "values": tidy_values(values) if values else None}
        return found


def make_oracle(
    algorithm: Algorithm,
    training: TrainConfig,
    *,
    max_trials: int,
    draws_batch_size: bool,
    admits: Callable[[Mapping[str, Any]], bool],
) -> DurableOracle:
    """Make an oracle that knows the whole space from the start.

    Args:
        algorithm: Which one.
        training: Its seed decides what is drawn; its epochs are Hyperband's most.
        max_trials: Trials of the search; Hyperband derives its own from the epochs.
        draws_batch_size: Whether the batch size is part of the space.
        admits: Whether values keep the serving budget.
    """
    kinds = {"random": _Random, "hyperband": _Hyperband, "bayesian": _Bayesian}
    sizes = {
        "random": {"max_trials": max_trials},
        "hyperband": {"max_epochs": training.num_epochs},
        "bayesian": {
            "max_trials": max_trials,
            "num_initial_points": BAYESIAN_RANDOM_TRIALS,
        },
    }
    hyperparameters = keras_tuner.HyperParameters()
    declare_space(hyperparameters, draws_batch_size=draws_batch_size)
    oracle = kinds[algorithm](
        objective=keras_tuner.Objective(OBJECTIVE, "max"),
        hyperparameters=hyperparameters,
        seed=training.seed + 1,
        max_retries_per_trial=0,
        **sizes[algorithm],
    )
    oracle.prepare(admits, training.seed)
    return oracle
