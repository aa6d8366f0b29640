"""What is tried next does not depend on kills, on who asks, or on when."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import TrainConfig
from pipeline.oracle_store import Outcome, read_state, write_outcome
from pipeline.run_folder import RunError

pytestmark = pytest.mark.slow

TRAINING = TrainConfig(num_epochs=3, seed=0)


def admit_all(values: Mapping[str, Any]) -> bool:
    return True


def make(folder: Path, algorithm: Any = "random", *, max_trials: int = 4) -> Any:
    from pipeline.oracles import make_oracle

    oracle = make_oracle(
        algorithm, TRAINING, max_trials=max_trials, draws_batch_size=True, admits=admit_all
    )
    oracle._set_project_dir(str(folder), "keras_tuner")
    return oracle


@pytest.fixture
def small_space(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Three dimensions: the surface of thirteen takes seconds a draw to follow."""
    import threadpoolctl

    def declare(hp: Any, *, draws_batch_size: bool) -> None:
        hp.Choice("units", [16, 32, 48, 64], default=16)
        hp.Fixed("bidirectional", True)
        hp.Float("head_dropout", 0.2, 0.6, step=0.05)
        hp.Float("learning_rate", 1e-3, 8e-3, sampling="log")

    monkeypatch.setattr("pipeline.oracles.declare_space", declare)
    with threadpoolctl.threadpool_limits(limits=1):  # matrices of eight rows: threads only wait
        yield


def score(values: Mapping[str, Any]) -> float:
    """A number that the values decide, in the place of a training."""
    return float(values["units"] / 512 + values["head_dropout"] + values["learning_rate"])


def run(oracle: Any, runs: Counter[str] | None = None, tuner_id: str = "tuner0") -> None:
    """Ask for trials and end them, as `TrialTuner` does, until there are none."""
    while True:
        trial = oracle.create_trial(tuner_id)
        if trial.status != "RUNNING":
            return
        values = trial.hyperparameters.values
        if oracle.read_outcome(trial) is None:
            if runs is not None:
                runs[trial.trial_id] += 1
            metrics = {"val_top_1": score(values)}
            outcome = Outcome(values=values, metrics=metrics, failure=None, seconds=60.0)
            write_outcome(oracle.trial_folder(trial.trial_id), outcome)
        oracle.update_trial(trial.trial_id, {"val_top_1": score(values)})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
        oracle.save()


def describe(oracle: Any) -> list[tuple[str, Any, float]]:
    return [
        (name, dict(oracle.trials[name].hyperparameters.values), oracle.trials[name].score)
        for name in oracle.end_order
    ]


def test_a_surface_of_few_trials_does_not_talk_about_its_fit(
    tmp_path: Path, small_space: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keras_tuner.src.tuners import bayesian
    from sklearn.exceptions import ConvergenceWarning

    told: list[str] = []

    def fit(self: Any, *data: Any, **options: Any) -> Any:
        where = {
            "filename": "kernels.py",
            "lineno": 1,
            "module": "sklearn.gaussian_process.kernels",
        }
        warnings.warn_explicit("close to the lower bound", ConvergenceWarning, **where)
        told.append("surface")
        return real(self, *data, **options)

    kind = bayesian.sklearn.gaussian_process.GaussianProcessRegressor
    real = kind.fit
    monkeypatch.setattr(kind, "fit", fit)
    oracle = make(tmp_path, "bayesian", max_trials=10)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        run(oracle)
    assert told


@pytest.mark.parametrize("algorithm", ["random", "hyperband", "bayesian"])
def test_a_search_that_is_killed_at_each_of_its_writes_is_the_unbroken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_space: None, algorithm: str
) -> None:
    from pipeline import oracles

    trials = 9 if algorithm == "bayesian" else 4  # eight are random
    whole = make(tmp_path / "whole", algorithm, max_trials=trials)
    run(whole)
    expected = describe(whole)
    assert len(expected) == whole.total_trials

    real = oracles.write_state
    runs: Counter[str] = Counter()
    kills = 0

    def kill_at(write: int, *, before: bool) -> Callable[..., None]:
        writes = 0

        def write_and_die(folder: Path, state: Mapping[str, Any]) -> None:
            nonlocal writes
            writes += 1
            if writes < write or not before:
                real(folder, state)
            if writes == write:
                raise KeyboardInterrupt

        return write_and_die

    for attempt in range(200):
        oracle = make(tmp_path / "killed", algorithm, max_trials=trials)
        oracle.restore()
        # The first, second or third write of each attempt: each kind of write dies, both ways.
        kill = kill_at(1 + attempt % 3, before=attempt % 2 == 0)
        monkeypatch.setattr(oracles, "write_state", kill)
        try:
            run(oracle, runs)
            break
        except KeyboardInterrupt:
            kills += 1
    assert kills > len(expected)
    assert describe(oracle) == expected
    # No trial that has an outcome is run again.
    assert runs == Counter(dict.fromkeys((name for name, *_ in expected), 1))


@pytest.mark.parametrize("algorithm", ["random", "hyperband"])
@pytest.mark.parametrize("torn", [["oracle.json"], ["oracle.json", "oracle.previous.json"]])
def test_torn_states_repeat_no_trial_either(
    tmp_path: Path, algorithm: str, torn: list[str]
) -> None:
    oracle = make(tmp_path, algorithm)
    runs: Counter[str] = Counter()
    run(oracle, runs)
    for name in torn:
        (oracle.folder / name).write_bytes(b'{"schema_version": 1, "sta')
    again = make(tmp_path, algorithm)
    note = again.restore()
    assert note is not None
    assert "oracle.json is torn" in note
    run(again, runs)
    assert describe(again) == describe(oracle)
    assert set(runs.values()) == {1}


def test_a_state_of_another_kind_is_refused(tmp_path: Path) -> None:
    from pipeline.oracle_store import write_state

    oracle = make(tmp_path)
    write_state(oracle.folder, {"trials": {}})
    with pytest.raises(RunError, match="expected the state of such a search, found KeyError"):
        oracle.restore()


def test_a_larger_search_begins_with_the_trials_of_the_smaller(tmp_path: Path) -> None:
    first = make(tmp_path, max_trials=2)
    run(first)
    second = make(tmp_path, max_trials=4)
    second.restore()
    runs: Counter[str] = Counter()
    run(second, runs)
    assert describe(second)[:2] == describe(first)
    assert runs == Counter({"2": 1, "3": 1})


def test_whoever_asks_gets_the_same_values(tmp_path: Path) -> None:
    alone = make(tmp_path / "alone")
    run(alone)
    shared = make(tmp_path / "shared")
    trials = [shared.create_trial(f"worker{number}") for number in range(4)]
    assert [trial.hyperparameters.values for trial in trials] == [
        values for _, values, _ in describe(alone)
    ]


def test_a_restarted_worker_gets_its_trial_back_and_a_lost_one_leaves_it_to_others(
    tmp_path: Path,
) -> None:
    oracle = make(tmp_path)
    mine, other = oracle.create_trial("worker1"), oracle.create_trial("worker2")
    # It reported and died before it could end the trial: the report must not stay.
    oracle.update_trial(mine.trial_id, {"val_top_1": 0.1})
    again = oracle.create_trial("worker1")
    assert again.trial_id == mine.trial_id
    assert not again.metrics.exists("val_top_1")
    oracle.lose_tuner("worker2")
    runs: Counter[str] = Counter()
    run(oracle, runs, "worker3")
    assert runs[other.trial_id] == 1
    assert oracle.unfinished == [mine.trial_id]
    assert "worker2" not in oracle.tuner_ids


def test_the_first_trials_failing_end_a_search_and_later_ones_do_not(tmp_path: Path) -> None:
    def fail(oracle: Any) -> None:
        trial = oracle.create_trial("tuner0")
        trial.status = "FAILED"
        oracle.end_trial(trial)

    hopeless = make(tmp_path / "hopeless", max_trials=9)
    for _ in range(3):
        fail(hopeless)
    assert hopeless.create_trial("tuner0").status == "STOPPED"
    assert hopeless.stop_reason == "the first 3 trials all failed"
    again = make(tmp_path / "hopeless", max_trials=9)
    again.restore()
    assert again.create_trial("tuner0").status == "RUNNING"

    lucky = make(tmp_path / "lucky", max_trials=9)
    trial = lucky.create_trial("tuner0")
    lucky.update_trial(trial.trial_id, {"val_top_1": 0.5})
    trial.status = "COMPLETED"
    lucky.end_trial(trial)
    for _ in range(8):
        fail(lucky)
    assert [trial.status for trial in lucky.trials.values()] == ["COMPLETED", *["FAILED"] * 8]


def test_no_trial_begins_that_would_not_end_in_time(tmp_path: Path) -> None:
    oracle = make(tmp_path)
    oracle.deadline = time.monotonic() + 30  # a trial takes 60 s, as the first one shows
    run(oracle)
    assert len(oracle.trials) == 1
    assert oracle.stop_reason == (
        "the next trial, 60 s by the median, would not end in --max-minutes"
    )
    another_day = make(tmp_path)
    another_day.restore()
    another_day.deadline = time.monotonic() + 3600
    run(another_day)
    assert len(another_day.trials) == 4
    assert another_day.stop_reason is None


def test_an_interrupted_trial_waits_too_where_it_would_not_end_in_time(tmp_path: Path) -> None:
    oracle = make(tmp_path)
    oracle.deadline = time.monotonic() + 30
    run(oracle)
    oracle.deadline = None
    values = oracle.create_trial("tuner0").hyperparameters.values  # and this process is killed

    late = make(tmp_path)
    late.restore()
    late.deadline = time.monotonic() + 30
    run(late)
    assert len(late.end_order) == 1
    assert late.stop_reason and "would not end in --max-minutes" in late.stop_reason

    another_day = make(tmp_path)
    another_day.restore()
    assert another_day.create_trial("tuner0").hyperparameters.values == values


def test_values_are_drawn_until_they_keep_the_budget_or_the_space_is_empty(
    tmp_path: Path,
) -> None:
    oracle = make(tmp_path)
    oracle._max_collisions = 50
    oracle.admits = lambda values: values["units"] < 100
    for number in range(5):
        found = oracle.populate_space(str(number))
        assert found["status"] == "RUNNING"
        assert found["values"]["units"] < 100
    oracle.admits = lambda values: False
    assert oracle.populate_space("last")["status"] == "STOPPED"


def test_a_surface_that_leads_beyond_the_budget_or_back_is_left(
    tmp_path: Path, small_space: None
) -> None:
    oracle = make(tmp_path, "bayesian", max_trials=10)
    oracle.admits = lambda values: values["units"] <= 32
    run(oracle)
    values = [values for _, values, _ in describe(oracle)]
    assert len(values) == 10
    assert max(each["units"] for each in values) <= 32
    assert len({str(sorted(each.items())) for each in values}) == 10


@pytest.mark.parametrize("algorithm", ["random", "hyperband", "bayesian"])
def test_a_search_begins_with_the_defaults_of_train_or_what_the_budget_leaves_of_them(
    tmp_path: Path, algorithm: str
) -> None:
    from pipeline.config import DEFAULT_SHAPE

    oracle = make(tmp_path / "all", algorithm)
    values = oracle.create_trial("tuner0").hyperparameters.values
    assert {name: values[name] for name in DEFAULT_SHAPE} == dict(DEFAULT_SHAPE)
    assert values["bidirectional"]
    second = oracle.create_trial("tuner1").hyperparameters.values
    assert second != values

    oracle = make(tmp_path / "few", algorithm)
    oracle.admits = lambda values: values["units"] <= 64
    values = oracle.create_trial("tuner0").hyperparameters.values
    assert (values["units"], values["bidirectional"]) == (64, True)

    oracle = make(tmp_path / "one_way", algorithm)
    oracle.admits = lambda values: not values["bidirectional"] and values["layers"] == 2
    values = oracle.create_trial("tuner0").hyperparameters.values
    assert values["layers"] == 2  # drawn: the defaults have one


def test_the_state_holds_numbers_as_a_person_would_type_them(tmp_path: Path) -> None:
    oracle = make(tmp_path)
    run(oracle)
    state, _ = read_state(oracle.folder)
    assert state is not None
    for trial in state["trials"].values():
        for value in trial["hyperparameters"]["values"].values():
            assert not isinstance(value, float) or value == float(f"{value:.4g}")


def test_every_point_of_the_space_is_a_model_that_train_takes(tmp_path: Path) -> None:
    from pipeline.search_space import make_model_config, make_train_config

    oracle = make(tmp_path, max_trials=30)
    base = TrainConfig(num_epochs=7, batch_size=32, seed=3)
    for _ in range(30):
        values = oracle._random_values()
        config = make_model_config(values, vocab_size=100, num_classes=3)
        training = make_train_config(values, base)
        assert (config.units, config.gru_dropout) == (values["units"], values["gru_dropout"])
        assert training.batch_size == values["batch_size"]
        assert training.weight_averaging == values["weight_averaging"]
        assert (training.num_epochs, training.seed) == (7, 3)
    default = make_model_config({}, vocab_size=100, num_classes=3)
    assert (default.units, default.bidirectional, default.pooling) == (128, True, "max")
