"""Several workers of one training on this machine: started together, ended together.

Each is a process with a `TF_CONFIG` of its own and its share of the cores. The chief's output is
the launcher's; lines of the others are passed on with their number. When one of them fails all are
ended, and the caller learns which it was; none is left over when the launcher itself goes.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from pipeline.distributed.cluster import VARIABLE, format_cluster
from pipeline.run_folder import RunError

Notify = Callable[[str], None]
END_TIMEOUT_S = 5.0
"""A worker whose stdin closed ends within milliseconds; after this it is killed."""
FAREWELL_S = 15.0
"""Workers notice a lost one too: who was lost first is told by who ended first, so what the others
say within this time is still passed on."""
MAX_WORKERS = 64
POLL_S = 0.1
_DEFAULT_COMMAND = (sys.executable, "-m", "pipeline.distributed.worker")


class _Worker:
    """One child process."""

    def __init__(
        self, index: int, addresses: Sequence[str], command: Sequence[str], cores: Sequence[int]
    ) -> None:
        self.index = index
        self.process = subprocess.Popen(
            list(command),
            env={**os.environ, VARIABLE: format_cluster(addresses, index)},
            stdin=subprocess.PIPE,
            stdout=None if index == 0 else subprocess.PIPE,
            stderr=None if index == 0 else subprocess.STDOUT,
        )
        if cores:
            # TensorFlow is not imported yet, and its threads inherit this.
            with contextlib.suppress(OSError):
                os.sched_setaffinity(self.process.pid, cores)
        assert self.process.stdin
        self.stdin = self.process.stdin

    @property
    def name(self) -> str:
        return f"worker {self.index + 1} (process {self.process.pid})"

    def end(self) -> None:
        """Let the process end, or make it."""
        with contextlib.suppress(OSError):
            self.stdin.close()
        try:
            self.process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


def check_count(count: int) -> None:
    """Refuse a number of workers out of range.

    Raises:
        ValueError: It is not from 2 to 64.
    """
    if not 2 <= count <= MAX_WORKERS:
        raise ValueError(
            f"workers: expected 2 to {MAX_WORKERS}, found {count}. One process is plain "
            "`python -m pipeline train`."
        )


def find_addresses(count: int) -> list[str]:
    """Return so many `127.0.0.1:port` at which nothing listens at the moment."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]


def share_cores(count: int) -> list[list[int]]:
    """Deal out this process's cores to `count` workers; none where there are fewer than workers."""
    if not hasattr(os, "sched_getaffinity"):
        return [[] for _ in range(count)]
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < count:
        return [[] for _ in range(count)]
    return [
        cores[index * len(cores) // count : (index + 1) * len(cores) // count]
        for index in range(count)
    ]


def run_workers(
    count: int,
    options: Sequence[str],
    notify: Notify,
    *,
    command: Sequence[str] = _DEFAULT_COMMAND,
) -> None:
    """Train with `count` workers until they are done; then no child process is left.

    Args:
        count: Workers, 2 to 64; the first is the chief.
        options: Of `train`, passed to every worker.
        notify: Gets a line for whatever a person should know.
        command: Program and arguments before `options`; another one only in tests.

    Raises:
        RunError: A worker failed; the others were ended.
        ValueError: `count` is out of range.
        KeyboardInterrupt: Ctrl-C; all were ended.
    """
    check_count(count)
    addresses = find_addresses(count)
    workers: list[_Worker] = []
    try:
        for index, cores in enumerate(share_cores(count)):
            workers.append(_Worker(index, addresses, [*command, *options], cores))
        for worker in workers:
            notify(f"{worker.name} is started" + (", the chief" if worker.index == 0 else ""))
        _watch(workers, notify)
    finally:
        for worker in workers:
            with contextlib.suppress(OSError):
                worker.stdin.close()  # all at once: none waits for another's end
        for worker in workers:
            worker.end()


def _watch(workers: Sequence[_Worker], notify: Notify) -> None:
    """Pass lines on until all workers are done, or one has failed."""
    selector = selectors.DefaultSelector()
    for worker in workers:
        if worker.process.stdout:
            selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
    failed: _Worker | None = None
    give_up_at = float("inf")
    while True:
        if selector.get_map():
            for key, _ in selector.select(POLL_S):
                line = key.fileobj.readline()  # type: ignore[union-attr]
                if not line:
                    selector.unregister(key.fileobj)
                    continue
                notify(f"worker {key.data.index + 1}: {line.decode(errors='replace').rstrip()}")
        else:
            time.sleep(POLL_S)
        codes = [worker.process.poll() for worker in workers]
        if failed is None:
            failed = next((each for each in workers if each.process.returncode), None)
            give_up_at = time.monotonic() + FAREWELL_S
        running = any(code is None for code in codes)
        if not running and not selector.get_map():
            break
        if failed is not None and time.monotonic() > give_up_at:
            break
    if failed is not None:
        raise RunError(
            f"{failed.name} of {len(workers)}: expected it to train to the end, found it ended "
            f"with {_describe_code(failed.process.returncode)}; the others were ended too. Its own "
            "lines above tell why, or the system's log where there are none. The same command goes "
            "on after the last finished epoch."
        )


def _describe_code(code: int) -> str:
    name = f" ({signal.Signals(-code).name})" if code < 0 else ""
    return f"exit code {code}{name}"
