"""Programs that a benchmark needs before it times anything: start, wait, end. None outlives it.

They are untimed and share the machine, a few at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serving_compare.machine import child_environment

POLL_S = 0.05
TAIL_LINES = 10


class ProgramError(Exception):
    """A program that failed or took too long."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """One run of a module of this project.

    Attributes:
        name: What messages call it.
        module: As `python -m` takes it.
        arguments: Of its command line.
        log: File for everything it writes.
    """

    name: str
    module: str
    arguments: tuple[str, ...]
    log: Path


def run_programs(programs: Sequence[Program], *, at_once: int, timeout_s: float) -> None:
    """Run all programs, `at_once` at a time; end all of them on any failure.

    Args:
        programs: What to run; each starts in the order given.
        at_once: How many run at the same time.
        timeout_s: Time for all of them together.

    Raises:
        ProgramError: One failed, or they took too long.
    """
    deadline = time.monotonic() + timeout_s
    waiting = list(programs)
    running: list[tuple[Program, subprocess.Popen[bytes]]] = []
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                program = waiting.pop(0)
                running.append((program, _start(program)))
            for entry in list(running):
                program, process = entry
                if process.poll() is None:
                    continue
                running.remove(entry)
                if process.returncode:
                    raise ProgramError(
                        f"{program.name}: expected it to succeed, found exit code "
                        f"{process.returncode}. The last lines it wrote:\n{_tail(program.log)}"
                    )
            if time.monotonic() > deadline:
                names = ", ".join(program.name for program, _ in running)
                raise ProgramError(
                    f"{names}: expected an end within {timeout_s:.0f} s, found it still running. "
                    "Close other programs and try again."
                )
            time.sleep(POLL_S)
    finally:
        for _, process in running:
            # The whole session: a converter runs in a process of its own.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _start(program: Program) -> subprocess.Popen[bytes]:
    with program.log.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", program.module, *program.arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=child_environment(os.environ),
            start_new_session=True,
        )


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"    {line}" for line in lines[-TAIL_LINES:]) or "    (nothing)"
