from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

CHILD = """
import sys, time
from serving_compare.load.bound_server import die_with_parent
die_with_parent(int(sys.argv[1]))
print("bound", flush=True)
time.sleep(60)
"""
PARENT = """
import os, subprocess, sys, time
known = sys.argv[2] if len(sys.argv) > 2 else str(os.getpid())
child = subprocess.Popen(
    [sys.executable, "-c", sys.argv[1], known], stdout=subprocess.PIPE, text=True
)
print(child.pid, child.stdout.readline(), flush=True)
time.sleep(60)
"""


def start(*known: str) -> tuple[subprocess.Popen[str], list[str]]:
    """Start a parent that starts a child; gives what it tells: the child's id and its word."""
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD, *known],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert process.stdout is not None
    return process, process.stdout.readline().split()


def end(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    process.kill()
    process.wait()
    process.stdout.close()


def is_running(pid: str) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_server_ends_when_what_started_it_is_killed() -> None:
    process, (pid, word) = start()
    try:
        assert word == "bound"
        assert is_running(pid)
    finally:
        end(process)
    deadline = time.monotonic() + 20
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(pid)


def test_a_server_whose_parent_has_gone_already_does_not_start() -> None:
    process, told = start("1")  # the process it is told of is not its parent
    end(process)
    assert len(told) == 1
