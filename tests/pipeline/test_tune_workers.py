"""Several workers at one search: the same trials, whoever dies; and nothing left running."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.__main__ import cli
from pipeline.config import TrainConfig
from pipeline.data_folder import PreparedData
from pipeline.run_folder import RunError

TRAINING = TrainConfig(num_epochs=1, batch_size=512, num_predict=2, seed=1)

STUB = """
import os, sys
from pathlib import Path
who, behaviour = os.environ["KERASTUNER_TUNER_ID"], sys.argv[1]
if who == "worker2" and behaviour == "refuses":
    print("error: no room on the disk", file=sys.stderr)
    sys.exit(2)
if who == "worker2" and behaviour == "dies":
    os.kill(os.getpid(), 9)
if behaviour == "waits":
    Path(sys.argv[2], who).write_text(str(os.getpid()))
    sys.stdin.read()
    sys.exit(1)
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 3, 5, 64])
def test_the_cores_are_shared_out_and_every_worker_has_one(
    monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2, 3, 5, 7})
    from pipeline.tune_workers import share_cores

    shares = share_cores(workers)
    assert len(shares) == workers
    assert set().union(*shares) == {0, 2, 3, 5, 7}
    assert all(shares)
    if workers <= 5:
        assert sum(map(len, shares)) == 5


def search_with(prepared: PreparedData, tmp_path: Path, *behaviour: str, workers: int = 2) -> Any:
    from rich.console import Console

    from pipeline.search import SearchConfig
    from pipeline.tune_workers import search_with_workers

    return search_with_workers(
        prepared,
        TRAINING,
        tmp_path / "tuner",
        SearchConfig(max_trials=2, name="it"),
        workers=workers,
        command=[sys.executable, "-c", STUB, *behaviour],
        console=Console(quiet=True),
    )


@pytest.mark.slow
def test_a_worker_that_refuses_ends_the_search_with_its_reason(
    prepared: PreparedData, tmp_path: Path
) -> None:
    with pytest.raises(
        RunError, match=r"worker2 \(process \d+\) died with exit code 2: no room on the disk"
    ):
        search_with(prepared, tmp_path, "refuses")


@pytest.mark.slow
def test_a_worker_that_always_dies_is_given_up_and_the_search_ends(
    prepared: PreparedData, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="found 0 failed and none finished: none was begun"):
        search_with(prepared, tmp_path, "dies")


@pytest.mark.slow
def test_two_workers_run_the_trials_of_one_and_a_killed_one_gets_its_trial_back(
    prepared: PreparedData, tmp_path: Path
) -> None:
    from pipeline.oracles import make_oracle

    alone = make_oracle(
        "random",
        TrainConfig(num_epochs=1, batch_size=512),
        max_trials=3,
        draws_batch_size=False,
        admits=lambda values: True,
    )
    alone._set_project_dir(str(tmp_path), "alone")
    expected = [alone.create_trial(f"tuner{number}").hyperparameters.values for number in range(3)]

    folder = tmp_path / "build" / "tuner" / "it"
    (tmp_path / "build" / "data").mkdir(parents=True)
    (tmp_path / "pets.csv").write_bytes((prepared.folder.parents[1] / "pets.csv").read_bytes())
    command = [sys.executable, "-m", "pipeline", "tune-workers", "-n", "2"]
    command += ["--source", str(tmp_path / "pets.csv"), "--vocab-size", "200", "--name", "it"]
    command += ["--num-epochs", "1", "--batch-size", "512", "--max-trials", "3"]
    with subprocess.Popen(
        command,
        env={**os.environ, "GATETABLE_BUILD": str(tmp_path / "build")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout
        workers: list[int] = []
        state = folder / "keras_tuner" / "oracle.json"
        while process.poll() is None and not workers:
            time.sleep(0.05)
            if state.is_file():
                ongoing = json.loads(state.read_text())["state"]["oracle"]["ongoing_trials"]
                if "worker1" in ongoing:
                    workers = find_children(process.pid, "worker1")
                    os.kill(workers[0], signal.SIGKILL)
        output = process.stdout.read()
    assert process.returncode == 0, output
    assert re.search(r"worker1 \(process \d+\) died with exit code -9 \(SIGKILL\)", output)
    assert "It is started again and gets its trial back." in output
    assert "Best of 3 trials" in output
    train = f"python -m pipeline train --source {tmp_path / 'pets.csv'} --vocab-size 200 --hp"
    assert f"{train} {folder / 'best.json'}" in output
    trials = json.loads((folder / "trials.json").read_text())
    found = {trial["trial_id"]: trial["values"] for trial in trials}
    assert [found[str(number)] for number in range(3)] == expected
    assert all(trial["score"] is not None for trial in trials)


def find_children(parent: int, tuner_id: str) -> list[int]:
    """Process ids of the workers of that id."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
            variables = (entry / "environ").read_bytes()
        except OSError:
            continue
        if int(stat[1]) == parent and f"KERASTUNER_TUNER_ID={tuner_id}".encode() in variables:
            found.append(int(entry.name))
    return found


SUPERVISOR = """
import os, signal, sys
from pathlib import Path
from rich.console import Console
from pipeline.config import TrainConfig
from pipeline.data_folder import read_prepared
from pipeline.search import SearchConfig
from pipeline.tune_workers import search_with_workers

def end(*_):
    raise KeyboardInterrupt

for line in sys.stdin:
    folder = Path(line.strip())
    folder.mkdir()
    if not (pid := os.fork()):
        signal.signal(signal.SIGTERM, end)
        try:
            search_with_workers(
                read_prepared(Path(sys.argv[1])), TrainConfig(), folder, SearchConfig(),
                workers=2, console=Console(quiet=True),
                command=[sys.executable, "-c", sys.argv[2], "waits", str(folder)],
            )
        finally:
            os._exit(1)
    print(pid, flush=True)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


@pytest.mark.slow
def test_however_the_supervisor_ends_no_worker_is_left(
    prepared: PreparedData, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(prepared.folder), STUB],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin and process.stdout
        for number in (signal.SIGTERM, signal.SIGKILL):
            folder = tmp_path / number.name
            print(folder, file=process.stdin, flush=True)
            supervisor = int(process.stdout.readline())
            files = [folder / "worker1", folder / "worker2"]
            while not all(path.is_file() and path.read_text() for path in files):
                time.sleep(0.02)
            os.kill(supervisor, number)
            status = int(process.stdout.readline())
            assert status == (256 if number == signal.SIGTERM else number)
            # At once after SIGTERM; after SIGKILL as soon as they see the pipe closed.
            deadline = time.monotonic() + 30
            left = [int(path.read_text()) for path in files]
            while left and time.monotonic() < deadline:
                left = [pid for pid in left if Path(f"/proc/{pid}").exists()]
                time.sleep(0.02)
            assert left == []
        process.stdin.close()


def run(*arguments: str, **variables: str) -> Any:
    return CliRunner().invoke(cli, arguments, env=variables, catch_exceptions=False)


def test_help_shows_an_example() -> None:
    result = run("tune-workers", "--help")
    assert result.exit_code == 0
    assert "Example: python -m pipeline tune-workers -n 4" in " ".join(result.output.split())


def test_a_chief_elsewhere_is_refused_and_half_of_one_too() -> None:
    chief = {"KERASTUNER_ORACLE_IP": "127.0.0.1"}
    result = run("tune-workers", **chief)
    assert result.exit_code == 2
    assert "expected none of KerasTuner's variables, found KERASTUNER_ORACLE_IP" in result.output
    result = run("tune", **chief)
    assert result.exit_code == 2
    assert "KERASTUNER_ORACLE_PORT together, found only KERASTUNER_ORACLE_IP" in result.output
