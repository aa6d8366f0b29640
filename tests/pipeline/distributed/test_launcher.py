"""Several child processes of one launcher: started, told apart, ended together.

The children are programs of a line, as what is held here needs no training; test_replicas.py trains
with real workers.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.distributed.launcher import find_addresses, run_workers, share_cores
from pipeline.run_folder import RunError

INDEX = "import json, os, sys, time; i = json.loads(os.environ['TF_CONFIG'])['task']['index']; "
ROOT = Path(__file__).parents[3]


def run(program: str, *, count: int = 2, options: tuple[str, ...] = ()) -> list[str]:
    lines: list[str] = []
    run_workers(count, options, lines.append, command=[sys.executable, "-c", INDEX + program])
    return lines


def read_pids(lines: list[str]) -> list[int]:
    return [int(line.split("process ")[1].split(")")[0]) for line in lines if "is started" in line]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_each_worker_gets_its_place_the_options_and_its_cores(
    capfd: pytest.CaptureFixture[str],
) -> None:
    said = "print(i, sys.argv[1:], len(os.sched_getaffinity(0)), flush=True)"
    # The affinity is set from outside, a moment after the start.
    lines = run(f"time.sleep(0.5); {said}", count=2, options=("--units", "7"))
    cores = [len(each) or len(os.sched_getaffinity(0)) for each in share_cores(2)]
    assert lines[0].startswith("worker 1 (process ") and lines[0].endswith("is started, the chief")
    assert lines[1].startswith("worker 2 (process ") and lines[1].endswith("is started")
    assert lines[2:] == [f"worker 2: 1 ['--units', '7'] {cores[1]}"]
    assert capfd.readouterr().out == f"0 ['--units', '7'] {cores[0]}\n"


def test_cores_are_dealt_out_and_none_twice() -> None:
    cores = sorted(os.sched_getaffinity(0))
    for count in range(1, len(cores) + 1):
        dealt = share_cores(count)
        assert sorted(core for each in dealt for core in each) == cores
        assert all(dealt)
    assert share_cores(len(cores) + 1) == [[]] * (len(cores) + 1)


def test_addresses_are_of_this_machine_and_differ() -> None:
    addresses = find_addresses(5)
    assert len(set(addresses)) == 5
    assert all(address.startswith("127.0.0.1:") for address in addresses)


@pytest.mark.parametrize(
    ("end", "how"),
    [
        ("sys.exit(2)", r"exit code 2"),
        ("os.kill(os.getpid(), 9)", r"exit code -9 \(SIGKILL\)"),
    ],
)
def test_one_that_fails_ends_all_and_is_named(
    end: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.distributed.launcher.FAREWELL_S", 0.3)
    monkeypatch.setattr("pipeline.distributed.launcher.END_TIMEOUT_S", 0.3)
    lines: list[str] = []
    # The others do not look at their stdin: they are killed.
    program = f"{INDEX}print('bad luck', flush=True) if i == 1 else time.sleep(60); {end}"
    message = (
        rf"worker 2 \(process \d+\) of 3: expected it to train to the end, found it ended with "
        rf"{how}; the others were ended too\. .* The same command goes on after the last finished "
        r"epoch\."
    )
    began = time.monotonic()
    with pytest.raises(RunError, match=message):
        run_workers(3, (), lines.append, command=[sys.executable, "-c", program])
    assert time.monotonic() - began < 50  # nobody slept to the end
    assert "worker 2: bad luck" in lines
    pids = read_pids(lines)
    assert len(pids) == 3 and not any(map(is_running, pids))


def test_a_worker_that_reads_its_stdin_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.distributed.launcher.FAREWELL_S", 0.3)
    lines: list[str] = []
    program = f"{INDEX}sys.exit(3) if i == 0 else (sys.stdin.read(), print('farewell'))"
    with pytest.raises(RunError, match=r"worker 1 \(process \d+\) of 2: .* exit code 3;"):
        run_workers(2, (), lines.append, command=[sys.executable, "-c", program])
    assert not any(map(is_running, read_pids(lines)))


def test_no_worker_outlives_a_launcher_that_is_killed(tmp_path: Path) -> None:
    launcher = (
        "import sys; from pipeline.distributed.launcher import run_workers; "
        "run_workers(2, (), lambda line: print(line, flush=True), command=[sys.executable, '-c', "
        "'from pipeline.distributed.worker import _end_with_parent; _end_with_parent()'])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", launcher], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        pids = read_pids([process.stdout.readline() for _ in range(2)])
        assert len(pids) == 2 and all(map(is_running, pids))
        process.send_signal(signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 30
        while any(map(is_running, pids)):
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize("count", [1, 65])
def test_a_number_of_workers_out_of_range_is_refused(count: int) -> None:
    message = rf"workers: expected 2 to 64, found {count}\. One process is plain `python -m"
    with pytest.raises(ValueError, match=message):
        run("pass", count=count)
