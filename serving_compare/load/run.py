"""Runs a load in a process of its own, and gives back what it recorded."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from serving_compare.load.arrivals import Phase
from serving_compare.load.errors import ConnectError, GeneratorError, LoadError
from serving_compare.load.generator import DEFAULT_LIMITS, OPEN_TIMEOUT_S, Limits
from serving_compare.load.recording import Recording, read_recording
from serving_compare.load.request import Target
from serving_compare.load.worker import CANNOT_CONNECT
from serving_compare.machine import allowed_cores, child_environment

START_ALLOWANCE_S = 60.0
"""For starting Python on a busy machine, opening connections, and writing the recording."""


@dataclass(frozen=True, kw_only=True)
class LoadJob:
    """One load.

    Attributes:
        target: Its host and port; the path is in the requests.
        requests: Whole requests, sent in turn.
        phases: Of an open loop; empty for a closed one.
        duration_s: Of a closed loop.
        limits: Bounds.
        seed: Of the arrivals.
    """

    target: Target
    requests: Sequence[bytes]
    phases: Sequence[Phase] = ()
    duration_s: float = 0.0
    limits: Limits = DEFAULT_LIMITS
    seed: int = 1

    @property
    def length_s(self) -> float:
        """How long requests are sent."""
        return self.duration_s or sum(phase.duration_s for phase in self.phases)


class Load:
    """A running load. A context manager: leaving the block ends the process.

    Args:
        job: What to do.
        core: The generator's core, or None for any.
    """

    def __init__(self, job: LoadJob, *, core: int | None) -> None:
        if not hasattr(select, "epoll"):
            raise LoadError(
                f"load generator: expected Linux, whose epoll it spins on, found {sys.platform}. "
                "Load the server from a Linux machine."
            )
        self._folder = tempfile.TemporaryDirectory(prefix="gatetable-load-")
        folder = Path(self._folder.name)
        self._output = folder / "recording.npz"
        timeout_s = job.length_s + job.limits.timeout_s + OPEN_TIMEOUT_S + START_ALLOWANCE_S
        fields = {
            "host": job.target.host,
            "port": job.target.port,
            "requests": [request.decode("latin-1") for request in job.requests],
            "phases": [phase._asdict() for phase in job.phases],
            "duration_s": job.duration_s,
            "limits": job.limits._asdict(),
            "seed": job.seed,
            "core": core,
            "timeout_s": timeout_s,
            "output": str(self._output),
        }
        (folder / "job.json").write_text(json.dumps(fields), encoding="utf-8")
        self._stderr = folder / "stderr"
        with (folder / "job.json").open("rb") as stdin, self._stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "serving_compare.load.worker"],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=child_environment(os.environ),
                start_new_session=True,  # a Ctrl-C reaches the parent alone, which ends this
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._folder.cleanup()

    @property
    def pid(self) -> int:
        """Process id of the generator."""
        return self._process.pid

    def wait_started(self) -> int:
        """Return the `perf_counter_ns` of time 0, as soon as it is known.

        Raises:
            ConnectError: The server cannot be reached.
            GeneratorError: The process failed.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._check()
        return int(line)

    def wait(self) -> Recording:
        """Return what was recorded, once the load has ended.

        Raises:
            ConnectError: The server cannot be reached.
            GeneratorError: The process failed.
        """
        self._process.wait()  # it has an alarm of its own
        self._check()
        return read_recording(self._output)

    def _check(self) -> None:
        code = self._process.wait()
        if code == 0:
            return
        message = self._stderr.read_text(encoding="utf-8", errors="replace").strip()
        if code == CANNOT_CONNECT:
            raise ConnectError(message)
        last = message.splitlines()[-1:] or ["(nothing)"]
        raise GeneratorError(
            f"load generator: expected a recording, found the process ended with code {code}. "
            f"The last line it wrote: {last[0]}"
        )


def run_load(job: LoadJob, *, core: int | None) -> Recording:
    """Run a load from beginning to end.

    Raises:
        ConnectError: The server cannot be reached.
        GeneratorError: The process failed.
    """
    with Load(job, core=core) as load:
        return load.wait()


def choose_cores() -> tuple[int | None, int | None]:
    """Return a core for the generator and one for the servers, the first and the last allowed.

    With a single core both are that one, and the generator's lag will say that this is no good;
    without affinity calls both are None.
    """
    cores = allowed_cores()
    return (None, None) if cores is None else (cores[0], cores[-1])
