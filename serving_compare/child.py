"""Child processes of the comparison: start, bound, end. None outlives its block.

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
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

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
        fields = {
            **job.fields,
            "core": core,
            "timeout_s": job.timeout_s,
            "output": str(job.output),
            "spawned_ns": 0,
        }
        stdin_path = job.output.with_suffix(".job")
        environment = child_environment(os.environ)
        self._started = time.monotonic()
        with self._stderr_path.open("wb") as stderr:
            fields["spawned_ns"] = time.perf_counter_ns()
            stdin_path.write_text(json.dumps(fields), encoding="utf-8")
            with stdin_path.open("rb") as stdin:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", module],
                    stdin=stdin,
                    stdout=subprocess.DEVNULL,
                    stderr=stderr,
                    env=environment,
                    start_new_session=True,
                )

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
            raise ChildError(
                f"{self.job.name}: expected its results within {self.job.timeout_s:.0f} s, found "
                "it still running. Close other programs, or compare fewer --backends."
            )
        if code == 0 and self.job.output.with_suffix(".json").is_file():
            return True
        cause = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        raise ChildError(
            f"{self.job.name}: expected results, found the process ended with {cause}. "
            f"The last lines it wrote:\n{self._stderr_tail()}"
        )

    def _stderr_tail(self) -> str:
        lines = self._stderr_path.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-STDERR_TAIL_LINES:]) or "    (nothing)"


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
