"""The search: trials are kept, extended, killed, failed, and end in what `train` takes."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import pytest

from pipeline.config import TrainConfig
from pipeline.cost_model import ServingBudget
from pipeline.data_folder import PreparedData
from pipeline.run_folder import RunError

pytestmark = pytest.mark.slow

# One step an epoch, so that each model is traced once.
TRAINING = TrainConfig(num_epochs=1, batch_size=512, num_predict=2)

IS_THOROUGH = bool(os.environ.get("GATETABLE_THOROUGH"))
"""Ten kills in five trials instead of six in three."""
TRIALS = 5 if IS_THOROUGH else 3
KILLS = [(1, 0.0), (1, 0.4), (2, 0.0), (3, 0.1), (1, 0.6), (2, 0.01)]
"""Writes of the state until a kill (as a trial begins, as it ends, as the next one begins), and at
most how many seconds later it comes."""
if IS_THOROUGH:
    KILLS += [(1, 0.2), (1, 0.8), (2, 0.05), (1, 0.3)]
ZYGOTE = """
import os, sys
from pathlib import Path
from pipeline.config import TrainConfig
from pipeline.data_folder import read_prepared
from pipeline.search import SearchConfig, search

data = read_prepared(Path(sys.argv[1]))
training = TrainConfig(num_epochs=1, batch_size=512, num_predict=2, deterministic=True)
for line in sys.stdin:
    if not (pid := os.fork()):
        config = SearchConfig(max_trials=int(sys.argv[2]), name="it")
        search(data, training, Path(line.strip()), config)
        os._exit(0)
    print(pid, flush=True)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


class Zygote:
    """A process with everything imported, which forks searches: TensorFlow is read once."""

    def __init__(self, data: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", ZYGOTE, str(data), str(TRIALS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, tuners: Path) -> int:
        """Begin or go on with a search; returns its process id."""
        assert self.process.stdin and self.process.stdout
        print(tuners, file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())

    def wait(self) -> int:
        """Return how the search ended, as `os.waitpid` has it."""
        assert self.process.stdout
        return int(self.process.stdout.readline())


@pytest.fixture
def zygote(prepared: PreparedData) -> Iterator[Zygote]:
    found = Zygote(prepared.folder)
    with found.process:
        yield found
        assert found.process.stdin
        found.process.stdin.close()


def wait_for_writes(path: Path, count: int) -> None:
    """Wait until a file was replaced so many times; the suite's timeout ends a wait in vain."""
    seen = path.stat().st_ino if path.is_file() else None
    while count:
        time.sleep(0.001)
        if path.is_file() and path.stat().st_ino != seen:
            seen, count = path.stat().st_ino, count - 1


def test_a_search_that_is_killed_again_and_again_ends_as_the_unbroken_one(
    zygote: Zygote, tmp_path: Path
) -> None:
    zygote.start(tmp_path / "whole")
    assert zygote.wait() == 0
    whole = tmp_path / "whole" / "it"

    killed = tmp_path / "killed" / "it"
    dice = random.Random(8)
    outcomes: dict[Path, bytes] = {}
    for writes, most_s in KILLS:
        pid = zygote.start(killed.parent)
        wait_for_writes(killed / "keras_tuner" / "oracle.json", writes)
        time.sleep(dice.uniform(0, most_s))
        os.kill(pid, signal.SIGKILL)
        assert zygote.wait() == signal.SIGKILL
        for path, content in outcomes.items():  # a finished trial is not run again
            assert path.read_bytes() == content
        outcomes = {path: path.read_bytes() for path in killed.glob("keras_tuner/*/outcome.json")}
    zygote.start(killed.parent)
    assert zygote.wait() == 0
    for path, content in outcomes.items():
        assert path.read_bytes() == content
    for name in ("trials.json", "best.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    trials = json.loads((killed / "trials.json").read_text())
    assert sorted(trial["trial_id"] for trial in trials) == [str(each) for each in range(TRIALS)]


def test_a_search_is_extended_and_failures_are_listed_and_stop_nothing(
    prepared: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    from pipeline import trial_runner
    from pipeline.search import SearchConfig, search

    # The first trial has no room, the second begins from no numbers, the third is as it should.
    attempts = 0
    build_model, begin = trial_runner.build_model, trial_runner.TrialTuner._start_embedding

    def build(*arguments: Any, **options: Any) -> Any:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise MemoryError("cannot allocate 9 GB\nand more of that")
        return build_model(*arguments, **options)

    def start(tuner: Any, embedding: Any, training: TrainConfig) -> None:
        begin(tuner, embedding, training)
        assert training.embedding_init == "skip_gram"
        if attempts == 2:
            embeddings = embedding.embeddings
            embeddings.assign(np.full(embeddings.shape, np.nan, "float32"))

    monkeypatch.setattr(trial_runner, "build_model", build)
    monkeypatch.setattr(trial_runner.TrialTuner, "_start_embedding", start)
    training = dataclasses.replace(TRAINING, embedding_init="skip_gram")
    with pytest.raises(
        RunError, match="expected a trial that finishes, found 1 failed and none finished: Memory"
    ):
        search(prepared, training, tmp_path, SearchConfig(max_trials=1))
    found = search(prepared, training, tmp_path, SearchConfig(max_trials=3))
    assert attempts == 3
    assert [(trial.trial_id, trial.failure) for trial in found.failed] == [
        ("0", "MemoryError: cannot allocate 9 GB"),
        ("1", "the loss became nan in epoch 1"),
    ]
    (trial,) = found.trials
    best = json.loads(found.best_path.read_text())
    assert best == {**trial.values, "batch_size": 512, "embedding_init": "skip_gram"}
    assert {"units", "pooling", "learning_rate", "weight_averaging", "gru_dropout"} <= set(best)
    stored = json.loads((found.folder / "trials.json").read_text())
    assert [each["score"] for each in stored] == [trial.score, None, None]
    assert stored[1]["failure"] == "MemoryError: cannot allocate 9 GB"
    assert (found.folder / "pareto.svg").read_text().startswith("<svg")


def test_hyperband_goes_on_from_the_weights_of_the_round_before(
    prepared: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from pipeline.cost_model import CostModel
    from pipeline.search import SearchConfig, search

    # One trial a round instead of up to three: a bracket of two rounds, and one of one.
    monkeypatch.setattr(
        "pipeline.oracles._Hyperband._get_size", lambda self, bracket_num, round_num: 1
    )
    sizes, times = np.array([16.0, 256.0]), np.array([1.0, 16.0])
    cost_model = CostModel(
        units=sizes,
        call_us=0.0,
        first_us=times,
        step_us=times,
        projection_units=sizes,
        projection_us=times / 1000,
        head_us=0.0,
        engine="test",
    )
    most_mb = 2 * prepared.vocab_size * 3 * 32 * 4 / 1e6  # two directions of 32, or one of 64
    found = search(
        prepared,
        TrainConfig(num_epochs=3, batch_size=512, num_predict=2),
        tmp_path,
        SearchConfig(
            algorithm="hyperband",
            budget=ServingBudget(max_table_mb=most_mb, tokens=2, cost_model=cost_model),
        ),
    )
    state = json.loads((found.folder / "keras_tuner" / "oracle.json").read_text())["state"]
    rounds = [
        trial["hyperparameters"]["values"].get("tuner/round") for trial in state["trials"].values()
    ]
    assert rounds == [0, 1, 0]
    (first, second) = list(state["trials"].values())[:2]
    assert second["hyperparameters"]["values"]["tuner/trial_id"] == first["trial_id"]
    assert found.failed == ()
    assert all(trial.table_mb <= most_mb for trial in found.trials)
    # The best within each time stands in a file of its own, where one keeps it.
    for goal_us in (10, 25):
        within = [each for each in found.trials if each.cost <= goal_us]
        path = found.best_within_path(goal_us)
        assert path.is_file() == bool(within)
        if within:
            assert json.loads(path.read_text())["units"] == within[0].values["units"]
    logs = found.folder / "logs"
    shown = EventAccumulator(str(logs)).Reload()
    assert list(shown.PluginTagToContent("hparams")) == ["_hparams_/experiment"]
    shown = EventAccumulator(str(logs / first["trial_id"])).Reload()
    assert list(shown.PluginTagToContent("hparams")) == ["_hparams_/session_start_info"]
    tags = {"search/validation_top_1", "search/predicted_us", "search/table_mb"}
    assert tags <= set(shown.Tags()["tensors"])
    assert {path.name for path in logs.iterdir() if path.is_dir()} == set(state["trials"])


def test_a_budget_that_nothing_keeps_is_refused_before_anything_is_built(
    prepared: PreparedData, tmp_path: Path
) -> None:
    from pipeline.search import SearchConfig, search

    budget = ServingBudget(max_table_mb=0.001)
    with pytest.raises(
        ValueError, match=r"budget: expected at least .* one GRU\(16\): .* MB; found"
    ):
        search(prepared, TRAINING, tmp_path, SearchConfig(budget=budget))
    assert list(tmp_path.iterdir()) == []


def test_two_searches_do_not_share_a_folder(prepared: PreparedData, tmp_path: Path) -> None:
    from pipeline.search import SearchConfig, open_search, search

    (tmp_path / "mine").mkdir()
    config = SearchConfig(name="mine")
    with (
        filelock.FileLock(tmp_path / "mine" / ".lock"),
        pytest.raises(RunError, match="another process is searching here"),
    ):
        search(prepared, TRAINING, tmp_path, config)
    with open_search(prepared, TRAINING, tmp_path, config):
        pass
    other = TrainConfig(num_epochs=2, batch_size=512, num_predict=2)
    with pytest.raises(RunError, match="same data and settings, found one of others. Choose"):
        search(prepared, other, tmp_path, config)
    (tmp_path / "old" / "keras_tuner").mkdir(parents=True)
    with pytest.raises(RunError, match="search of this version, found one of an earlier"):
        search(prepared, TRAINING, tmp_path, SearchConfig(name="old"))


def test_a_search_refuses_no_trials_and_names_that_leave_its_folder() -> None:
    from pipeline.search import SearchConfig

    with pytest.raises(ValueError, match="max_trials: expected at least 1, found 0"):
        SearchConfig(max_trials=0)
    with pytest.raises(ValueError, match="name: expected 1 to 100 letters"):
        SearchConfig(name="../elsewhere")


def test_a_worker_without_the_chiefs_folder_says_what_it_needs(
    prepared: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.search import SearchConfig, search_as_worker
    from pipeline.tune_progress import Silence

    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker1")
    with pytest.raises(RunError, match="expected the folder of the chief's search, found none"):
        search_as_worker(prepared, TRAINING, tmp_path, SearchConfig(), Silence())
