"""The search: trials are kept, extended, and end in hyperparameters that `train` takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import filelock
import pytest

from pipeline.config import PrepareConfig, TrainConfig
from pipeline.cost_model import ServingBudget
from pipeline.run_folder import RunError

pytestmark = pytest.mark.slow

TRAINING = TrainConfig(num_epochs=1, batch_size=64, num_predict=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from pipeline.prepare import prepare
    from pipeline.tables.source import resolve_source

    folder = tmp_path_factory.mktemp("data")
    rows = [
        f"the {('cat', 'saw')[i % 2]} number {i},{('animal', 'tool')[i % 2]}" for i in range(200)
    ]
    (folder / "things.csv").write_text("\n".join(["title,category", *rows]), encoding="utf-8")
    config = PrepareConfig(vocab_size=80, max_tokens=16, shards=1)
    return prepare(resolve_source(path=folder / "things.csv"), config, folder / "things")


def test_a_search_is_extended_without_repeating_trials(data: Any, tmp_path: Path) -> None:
    from pipeline.search import search

    first = search(data, TRAINING, tmp_path, max_trials=1)
    second = search(data, TRAINING, tmp_path, max_trials=2)
    assert len(first.trials) == 1
    assert len(second.trials) == 2
    assert first.trials[0] in second.trials
    scores = [trial.score for trial in second.trials]
    assert scores == sorted(scores, reverse=True)
    best = json.loads(second.best_path.read_text())
    assert best == second.trials[0].values
    assert {"units", "pooling", "learning_rate", "label_smoothing"} <= set(best)


@pytest.mark.parametrize("algorithm", ["hyperband", "bayesian"])
def test_no_model_beyond_the_budget_is_tried(data: Any, tmp_path: Path, algorithm: Any) -> None:
    from pipeline.search import search

    most_mb = 2 * data.vocab_size * 3 * 32 * 4 / 1e6  # two directions of 32, or one of 64
    found = search(
        data,
        TRAINING,
        tmp_path,
        algorithm=algorithm,
        max_trials=2,
        budget=ServingBudget(max_table_mb=most_mb),
    )
    assert found.trials
    assert all(trial.table_mb <= most_mb for trial in found.trials)
    stored = json.loads((found.folder / "trials.json").read_text())
    assert [trial["table_mb"] for trial in stored] == [trial.table_mb for trial in found.trials]
    assert (found.folder / "pareto.svg").read_text().startswith("<svg")


def test_values_are_drawn_until_they_keep_the_budget_or_the_space_is_empty() -> None:
    from keras_tuner import Objective

    from pipeline.search import _BudgetedRandom

    oracle = _BudgetedRandom(objective=Objective("val_top_1", "max"), max_trials=3, seed=1)
    oracle.admits = lambda values: values["units"] < 100

    oracle.hyperparameters.Choice("units", [32, 256])
    oracle._max_collisions = 50
    for number in range(5):
        found = oracle.populate_space(str(number))
        assert found["status"] == "RUNNING"
        assert found["values"]["units"] == 32
    oracle.admits = lambda values: False
    assert oracle.populate_space("last")["status"] == "STOPPED"


def test_a_budget_that_nothing_keeps_is_refused_before_anything_is_built(
    data: Any, tmp_path: Path
) -> None:
    from pipeline.search import search

    with pytest.raises(
        ValueError, match=r"budget: expected at least .* one GRU\(16\): .* MB; found"
    ):
        search(data, TRAINING, tmp_path, budget=ServingBudget(max_table_mb=0.001))
    assert list(tmp_path.iterdir()) == []


def test_the_batch_size_is_searched_where_it_is_asked_for(data: Any, tmp_path: Path) -> None:
    from pipeline.search import search

    found = search(data, TRAINING, tmp_path, max_trials=1, draws_batch_size=True)
    assert found.trials[0].values["batch_size"] in (128, 256, 512)


def test_two_searches_do_not_share_a_folder(data: Any, tmp_path: Path) -> None:
    from pipeline.search import search

    (tmp_path / "mine").mkdir()
    with (
        filelock.FileLock(tmp_path / "mine" / ".lock"),
        pytest.raises(RunError, match="another process is searching here"),
    ):
        search(data, TRAINING, tmp_path, name="mine")


def test_a_search_refuses_no_trials_and_names_that_leave_its_folder(
    data: Any, tmp_path: Path
) -> None:
    from pipeline.search import search

    with pytest.raises(ValueError, match="max_trials: expected at least 1, found 0"):
        search(data, TRAINING, tmp_path, max_trials=0)
    with pytest.raises(ValueError, match="name: expected 1 to 100 letters"):
        search(data, TRAINING, tmp_path, name="../elsewhere")
    assert list(tmp_path.iterdir()) == []


def test_every_point_of_the_space_is_a_model() -> None:
    import keras_tuner

    from pipeline.search import sample_config

    hp = keras_tuner.HyperParameters()
    config = sample_config(hp, vocab_size=100, num_classes=3)
    assert (config.units, config.bidirectional, config.pooling) == (96, True, "max")
