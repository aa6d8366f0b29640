"""The parent process: worker processes, their restarts, the ready file, and the end of it all.

It answers no request itself. Workers inherit the listening sockets, so that connections wait in
the kernel while one of them is replaced. A worker talks to it through its three standard streams:
see `serving_compare.server.worker`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from prometheus_client.multiprocess import mark_process_dead

from serving_compare.machine import child_environment
from serving_compare.server.config import WorkerConfig
from serving_compare.server.logs import log
from serving_compare.server.metrics import FOLDER_VARIABLE
from serving_compare.whole_file import write_whole

CHECK_FAILED, BAD_INPUT = 1, 2
MAX_DEATHS = 5
"""In a row before a worker was ready: then the server gives up."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
"""Before a worker that died at once is started again; doubles each time."""
SOON_S = 1.0
"""A worker that dies so soon after it was ready has died at once."""
SPARE_AFTER_S = 1.0
"""After a worker was ready: its first requests have the cores for themselves."""
KILL_AFTER_S = 5.0
"""Beyond the drain's own time."""
TAIL_BYTES = 4096
TAIL_LINES = 15


@dataclass(kw_only=True)
class Group:
    """The workers of one backend.

    Attributes:
        config: What they are told.
        url: Where they answer.
        metrics: Folder of their counters.
        ready: Processes that can answer, by place.
        spare: A process that has imported everything and waits to be told what to do, so that a
            worker which dies is replaced in the time the model takes to load.
    """

    config: WorkerConfig
    url: str
    metrics: Path
    ready: dict[int, int] = field(default_factory=dict)
    spare: asyncio.Task[WorkerProcess] | None = None


class WorkerProcess:
    """One running worker, or a spare that is to become one."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._tail = b""
        self._forwarding = asyncio.create_task(self._forward())
        self.pid = process.pid

    @classmethod
    async def start(cls, socket_fd: int, metrics: Path) -> WorkerProcess:
        """Start a process; it imports everything and waits for `assign`."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "serving_compare.server.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=[socket_fd],
            env=child_environment(os.environ) | {FOLDER_VARIABLE: str(metrics)},
            start_new_session=True,  # Ctrl-C is for the supervisor, which drains
        )
        return cls(process)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    def assign(self, config: WorkerConfig) -> None:
        """Tell it what to do; it is not ready yet."""
        assert self._process.stdin is not None
        self._process.stdin.write(config.to_line())  # and is left open: its end is ours

    async def become_ready(self) -> bool:
        """Wait until it can answer; False where it ended before."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            # Libraries print as they please.
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                if isinstance(message, dict) and "ready" in message:
                    return True
        return False

    async def end(self) -> int:
        """Wait for its end and return the exit code, negative for a signal."""
        code = await self._process.wait()
        await self._forwarding
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal; does nothing where it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def last_lines(self) -> str:
        """Return the last lines it wrote, for a message."""
        lines = self._tail.decode(errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join(f"    {line}" for line in lines) or "    (nothing)"

    async def _forward(self) -> None:
        """Write its log to this process's, and remember the end of it."""
        assert self._process.stderr is not None
        while part := await self._process.stderr.read(65536):
            self._tail = (self._tail + part)[-TAIL_BYTES:]
            with contextlib.suppress(OSError):
                sys.stderr.buffer.write(part)
                sys.stderr.buffer.flush()


class Supervisor:
    """Starts the workers, keeps them, and ends them.

    Args:
        groups: One for each backend, their sockets listening.
        workers: Processes of each.
        ready_file: Written once all can answer, and again whenever one was replaced.
    """

    def __init__(self, groups: Sequence[Group], *, workers: int, ready_file: Path | None) -> None:
        self._groups = groups
        self._workers = workers
        self._ready_file = ready_file
        self._running: set[WorkerProcess] = set()
        self._is_stopping = False
        self._code: asyncio.Future[int] | None = None

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; return the exit code."""
        loop = asyncio.get_running_loop()
        self._code = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, 0)
        if self._ready_file is not None:
            self._ready_file.unlink(missing_ok=True)
        keepers = [
            asyncio.create_task(self._keep(group, place))
            for group in self._groups
            for place in range(self._workers)
        ]
        code = await self._code
        drain_s = max(group.config.drain_seconds for group in self._groups) + KILL_AFTER_S
        await self._end_spares()
        _, late = await asyncio.wait(keepers, timeout=drain_s)
        if late:
            log("workers_killed", level=logging.ERROR, count=len(self._running))
            for worker in self._running:
                worker.send_signal(signal.SIGKILL)
            await asyncio.wait(late)
            code = code or CHECK_FAILED
        if self._ready_file is not None:
            self._ready_file.unlink(missing_ok=True)
        for keeper in keepers:
            keeper.result()  # a mistake of ours is no clean end
        log("stopped", code=code)
        return code

    def _stop(self, code: int) -> None:
        """Drain all workers; called again, end them now."""
        self._is_stopping = True
        assert self._code is not None
        if not self._code.done():
            self._code.set_result(code)
        for worker in self._running:
            worker.send_signal(signal.SIGTERM)

    async def _keep(self, group: Group, place: int) -> None:
        """Have a worker in this place until the server stops."""
        deaths, pause_s, was_ready = 0, FIRST_PAUSE_S, False
        while not self._is_stopping:
            worker = await self._start(group)
            is_ready = await worker.become_ready()
            ready_s = time.monotonic()
            if is_ready:
                was_ready, deaths = True, 0
                group.ready[place] = worker.pid
                self._write_ready_file()
                asyncio.get_running_loop().call_later(SPARE_AFTER_S, self._lay_in_spare, group)
            code = await worker.end()
            self._running.discard(worker)
            group.ready.pop(place, None)
            mark_process_dead(worker.pid, str(group.metrics))  # type: ignore[no-untyped-call]
            if self._is_stopping:
                return
            fields = {"backend": group.config.backend, "worker": worker.pid, "code": code}
            log("worker_died", level=logging.ERROR, was_ready=is_ready, **fields)
            if is_ready and time.monotonic() - ready_s > SOON_S:
                pause_s = FIRST_PAUSE_S
                continue
            deaths += not is_ready
            if deaths >= MAX_DEATHS or (code == BAD_INPUT and not was_ready):
                log(
                    "giving_up",
                    level=logging.ERROR,
                    deaths=deaths,
                    last_lines=worker.last_lines(),
                    **fields,
                )
                self._stop(BAD_INPUT if code == BAD_INPUT and not was_ready else CHECK_FAILED)
                return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _start(self, group: Group) -> WorkerProcess:
        # A worker among others keeps out until it can answer: what it accepted meanwhile would be
        # refused, where the others could have answered.
        config = replace(group.config, accept_while_loading=not group.ready)
        spare, group.spare = group.spare, None
        worker = await spare if spare is not None else None
        if worker is None or not worker.is_running:
            worker = await WorkerProcess.start(config.socket_fd, group.metrics)
        self._running.add(worker)
        worker.assign(config)
        if self._is_stopping:  # the signal came while it was being started
            worker.send_signal(signal.SIGTERM)
        return worker

    def _lay_in_spare(self, group: Group) -> None:
        """Start a spare, if all workers are ready: otherwise it would take their time."""
        if group.spare is None and len(group.ready) == self._workers and not self._is_stopping:
            start = WorkerProcess.start(group.config.socket_fd, group.metrics)
            group.spare = asyncio.create_task(start)

    async def _end_spares(self) -> None:
        for group in self._groups:
            if group.spare is not None:
                spare = await group.spare
                spare.send_signal(signal.SIGKILL)  # it has nothing to finish
                await spare.end()

    def _write_ready_file(self) -> None:
        if self._ready_file is None or self._is_stopping:
            return
        if any(len(group.ready) < self._workers for group in self._groups):
            return
        servers = [
            {
                "backend": group.config.backend,
                "url": group.url,
                "workers": [group.ready[place] for place in range(self._workers)],
            }
            for group in self._groups
        ]
        content = json.dumps({"pid": os.getpid(), "servers": servers}) + "\n"
        write_whole(self._ready_file, content)
        log("all_ready", servers=servers)
