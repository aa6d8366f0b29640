"""Workers that die are replaced; a server that cannot start says why."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.serving_compare.server.clients import Load
from tests.serving_compare.server.running import GOLDEN, PREDICT, ROOT, run_server

PATIENT = ("--max-wait-ms", "10000", "--deadline-ms", "10000")


def read_workers(folder: Path) -> list[int]:
    (group,) = json.loads((folder / "ready.json").read_text())["servers"]
    workers: list[int] = group["workers"]
    return workers


def wait_for_other(folder: Path, killed: int, *, within_s: float) -> list[int]:
    until = time.monotonic() + within_s
    while killed in (workers := read_workers(folder)):
        assert time.monotonic() < until
        time.sleep(0.01)
    return workers


def serve(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "serving_compare", "serve", *options],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow
def test_a_killed_worker_loses_only_what_it_had_and_is_replaced(tmp_path: Path) -> None:
    clients = 6
    with run_server(tmp_path, *PATIENT, "--workers", "2") as server:
        with Load(server.urls["lookup"], clients=clients) as load:
            for _ in range(3):
                lost, seen = load.outcomes["lost"], load.outcomes["200"]
                before = read_workers(tmp_path)
                os.kill(before[0], signal.SIGKILL)
                after = wait_for_other(tmp_path, before[0], within_s=20)
                assert after[1] == before[1]
                assert load.outcomes["lost"] - lost <= clients
                while load.outcomes["200"] <= seen:
                    time.sleep(0.01)
        assert set(load.outcomes) <= {"200", "lost"}, load.outcomes
    events = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert [event["code"] for event in events if event["event"] == "worker_died"] == [-9] * 3


def test_the_only_worker_is_replaced_and_says_meanwhile_that_it_is_loading(tmp_path: Path) -> None:
    with run_server(tmp_path) as server:
        (pid,) = read_workers(tmp_path)
        os.kill(pid, signal.SIGKILL)
        wait_for_other(tmp_path, pid, within_s=20)
        answer = server.post("lookup", PREDICT, {"instances": "stone"})
        assert answer["version"] == "1"


def test_a_spare_takes_the_place_of_a_killed_worker_and_leaves_with_the_server(
    tmp_path: Path,
) -> None:
    def wait_for_spare(known: set[int]) -> psutil.Process:
        until = time.monotonic() + 20
        while not (found := [child for child in supervisor.children() if child.pid not in known]):
            assert time.monotonic() < until
            time.sleep(0.01)
        (spare,) = found
        return spare

    with run_server(tmp_path) as server:
        supervisor = psutil.Process(server.process.pid)
        (pid,) = read_workers(tmp_path)
        spare = wait_for_spare({pid})
        os.kill(pid, signal.SIGKILL)
        assert wait_for_other(tmp_path, pid, within_s=20) == [spare.pid]
        spare.kill()  # a spare of its own follows it, too
        (next_worker,) = wait_for_other(tmp_path, spare.pid, within_s=20)
        last = wait_for_spare({next_worker})
    assert not last.is_running()


def test_a_spare_that_died_is_not_missed(tmp_path: Path) -> None:
    with run_server(tmp_path) as server:
        supervisor = psutil.Process(server.process.pid)
        (pid,) = read_workers(tmp_path)
        until = time.monotonic() + 20
        while len(children := supervisor.children()) < 2:
            assert time.monotonic() < until
            time.sleep(0.01)
        (spare,) = (child for child in children if child.pid != pid)
        spare.kill()
        spare.wait(10)
        os.kill(pid, signal.SIGKILL)
        wait_for_other(tmp_path, pid, within_s=20)
        assert server.post("lookup", PREDICT, {"instances": "stone"})["version"] == "1"


@pytest.mark.slow
def test_workers_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    options = ("--artifact", str(GOLDEN), "--port", "0", "--ready-file", str(ready))
    with subprocess.Popen(
        [sys.executable, "-m", "serving_compare", "serve", *options, "--drain-seconds", "1"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        until = time.monotonic() + 60
        while not ready.exists():
            assert time.monotonic() < until
            time.sleep(0.02)
        (pid,) = read_workers(tmp_path)
        process.kill()
    while Path(f"/proc/{pid}/stat").exists() and time.monotonic() < until:
        if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            break
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{pid}").exists()


def test_a_port_that_is_taken_is_bad_input() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = serve("--artifact", str(GOLDEN), "--port", str(port))
    assert done.returncode == 2
    assert done.stderr == (
        f"error: 127.0.0.1:{port}: expected an address to listen on, found: Address already in "
        "use. Stop what listens there, or choose another --host or --port.\n"
    )


def test_a_version_whose_answers_are_wrong_is_bad_input_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "1"
    shutil.copytree(GOLDEN, folder)
    # Consistent with itself, so that only the probes can tell.
    code = (
        "import sys\n"
        "from serving_compare import backends\n"
        "from serving_compare.server.errors import ServerError\n"
        "from serving_compare.server import model_slot, worker\n"
        "def refuse(*arguments, **options): raise ServerError('the probes disagree.')\n"
        "model_slot.replay_probes = refuse\n"
        "worker.main()\n"
    )
    fake = tmp_path / "fake"
    fake.mkdir()
    (fake / "sitecustomize.py").write_text(
        "import sys\n"
        "if sys.argv[:1] == ['-m'] and 'serving_compare.server.worker' in sys.orig_argv:\n"
        f"    exec({code!r})\n"
    )
    done = serve("--artifact", str(folder), "--port", "0", PYTHONPATH=str(fake))
    assert done.returncode == 2
    events = [json.loads(line) for line in done.stderr.splitlines()]
    names = [event["event"] for event in events]
    assert names == ["load_failed", "worker_died", "giving_up", "stopped"]
    assert events[0]["error"] == "the probes disagree."
    assert "the probes disagree." in events[2]["last_lines"]


@pytest.mark.slow
def test_a_worker_that_keeps_dying_ends_the_server_with_its_last_lines(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'serving_compare.server.worker' in sys.orig_argv:\n"
        "    print('no luck today', file=sys.stderr); sys.stderr.flush()\n"
        "    import os; os._exit(7)\n"
    )
    began_s = time.monotonic()
    done = serve("--artifact", str(GOLDEN), "--port", "0", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    events: list[dict[str, Any]] = [
        json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")
    ]
    assert [event["event"] for event in events].count("worker_died") == 5
    (giving_up,) = [event for event in events if event["event"] == "giving_up"]
    assert (giving_up["deaths"], giving_up["code"]) == (5, 7)
    assert "no luck today" in giving_up["last_lines"]
    assert time.monotonic() - began_s > 1.5  # 0.1 + 0.2 + 0.4 + 0.8 s between them
