"""Child processes of the comparison: start, speak to, bound, end. None outlives its block.

Every child runs in a session of its own, so a Ctrl-C in the terminal reaches this process alone,
which then ends its children. Output goes to files, not pipes: a chatty library cannot block.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from serving_compare.machine import child_environment

POLL_S = 0.02
"""How often a child is looked after. The looking runs on another core than the timing."""
STDERR_TAIL_LINES = 15


class ChildError(Exception):
    """A child process that crashed, was killed, or ran into its time limit."""


@dataclass(frozen=True, kw_only=True)
class ChildJob:
    """What one child is to do.

    Attributes:
        name: What messages call it, such as "lookup, round 3".
        fields: The job as `serving_compare.worker` reads it, without `spawned_ns`,
            `timeout_s`, `core` and `output`, which are filled in here.
        output: Path without suffix for its results.
        timeout_s: It is killed behind this time.
    """

    name: str
    fields: Mapping[str, Any]
    output: Path
    timeout_s: float


class Child:
    """One running worker process. A context manager: leaving the block ends the process."""

    def __init__(
        self, job: ChildJob, *, core: int | None, module: str = "serving_compare.worker"
    ) -> None:
        self.job = job
        self.core = core
        job.output.parent.mkdir(parents=True, exist_ok=True)
        self._stderr_path = job.output.with_suffix(".stderr")
        self._started = time.monotonic()
        with self._stderr_path.open("wb") as stderr:
            self._process = self._start([sys.executable, "-m", module], stderr)

    def _start(self, command: list[str], stderr: BinaryIO) -> subprocess.Popen[bytes]:
        stdin_path = self.job.output.with_suffix(".job")
        environment = child_environment(os.environ)
        stdin_path.write_text(self._format_job(), encoding="utf-8")
        with stdin_path.open("rb") as stdin:
            return subprocess.Popen(
                command,
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env=environment,
                start_new_session=True,
            )

    def _format_job(self) -> str:
        fields = {
            **self.job.fields,
            "core": self.core,
            "timeout_s": self.job.timeout_s,
            "output": str(self.job.output),
            "spawned_ns": time.perf_counter_ns(),
        }
        return json.dumps(fields) + "\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()

    def end(self) -> None:
        """Kill the process and whatever it started; does nothing where it has ended."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def is_done(self) -> bool:
        """Return whether the job is finished.

        Raises:
            ChildError: The process failed or took longer than its time limit.
        """
        code = self._process.poll()
        if code is None:
            if time.monotonic() - self._started <= self.job.timeout_s:
                return False
            self.end()
            raise self._timeout()
        if code == 0 and self.job.output.with_suffix(".json").is_file():
            return True
        raise self._failure(code)

    def _failure(self, code: int) -> ChildError:
        cause = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        return ChildError(
            f"{self.job.name}: expected results, found the process ended with {cause}. "
            f"The last lines it wrote:\n{self._stderr_tail()}"
        )

    def _timeout(self) -> ChildError:
        return ChildError(
            f"{self.job.name}: expected its results within {self.job.timeout_s:.0f} s, found "
            "it still running. Close other programs, or compare fewer --backends."
        )

    def _stderr_tail(self) -> str:
        lines = self._stderr_path.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-STDERR_TAIL_LINES:]) or "    (nothing)"


class Partner(Child):
    """A worker that is spoken to over pipes: one JSON line there, one back. One thread at a time.

    Between two lines it sleeps in its read, so others may have the core. It is killed behind its
    job's time limit, whatever it is doing.
    """

    def __init__(
        self, job: ChildJob, *, core: int | None, module: str = "serving_compare.worker"
    ) -> None:
        super().__init__(job, core=core, module=module)
        self._watchdog = threading.Timer(job.timeout_s, self._kill)
        self._watchdog.daemon = True
        self._watchdog.start()

    def _start(self, command: list[str], stderr: BinaryIO) -> subprocess.Popen[bytes]:
        environment = child_environment(os.environ)
        line = self._format_job().encode()
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment,
            start_new_session=True,
        )
        with contextlib.suppress(BrokenPipeError):  # it died at once: the first answer says so
            self._send(process, line)
        return process

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Send one message and wait for its answer. See `listen`."""
        self.say(message)
        return self.listen()

    def say(self, message: Mapping[str, Any]) -> None:
        """Send one message; a dead process is found out when its answer is waited for."""
        with contextlib.suppress(BrokenPipeError):
            self._send(self._process, json.dumps(message).encode() + b"\n")

    def listen(self) -> dict[str, Any]:
        """Wait for the next answer.

        Raises:
            ChildError: The process ended instead, or was killed at its time limit.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line.endswith(b"\n"):
            answer: dict[str, Any] = json.loads(line)
            return answer
        code = self._process.wait()
        if time.monotonic() - self._started > self.job.timeout_s:
            raise self._timeout()
        raise self._failure(code)

    def end(self) -> None:
        """See `Child.end`."""
        self._watchdog.cancel()
        super().end()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    @staticmethod
    def _send(process: subprocess.Popen[bytes], line: bytes) -> None:
        assert process.stdin is not None
        process.stdin.write(line)
        process.stdin.flush()


def run_children(
    jobs: Sequence[ChildJob],
    *,
    cores: Sequence[int | None],
    on_done: Callable[[ChildJob], None] = lambda job: None,
    module: str = "serving_compare.worker",
) -> None:
    """Run all jobs, one at a time on each of `cores`, in order; end all of them on any failure.

    Args:
        jobs: What to do.
        cores: One child at a time runs on each; None leaves the choice to the system.
        on_done: Called after each finished job.
        module: What the children run; another one only in tests.

    Raises:
        ChildError: A child failed; the others were ended.
    """
    waiting = list(jobs)
    free = list(cores)
    with contextlib.ExitStack() as stack:
        running: list[Child] = []
        while waiting or running:
            while waiting and free:
                child = Child(waiting.pop(0), core=free.pop(0), module=module)
                running.append(stack.enter_context(child))
            for child in [child for child in running if child.is_done()]:
                running.remove(child)
                free.append(child.core)
                on_done(child.job)
            if running:
                time.sleep(POLL_S)
