"""One search by several processes: a chief that gives out trials, workers that run them.

The chief is KerasTuner's own, a gRPC server around the oracle, and lives in the calling process.
`serve_search` waits for workers of other machines; `search_with_workers` starts its own on the
loopback, each a child process with its share of the cores. A worker that dies is started again
under the same tuner id and gets its trial back; one that dies again and again is given up, and its
trial goes to the next worker that asks. However this process ends, no child is left.

KerasTuner's chief looks every 20 s whether it may end and waits for ever for a lost worker, so its
loop is not used, only its servicer. It asks nobody for a password: keep it on a trusted network.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from keras_tuner.src import protos
from keras_tuner.src.distribute.oracle_chief import OracleServicer

from pipeline.config import TrainConfig
from pipeline.data_folder import PreparedData
from pipeline.oracles import DurableOracle
from pipeline.run_folder import RunError
from pipeline.search import SearchConfig, SearchResult, open_search
from pipeline.tune_progress import SearchProgress
from pipeline.tune_workers_command import SUPERVISED

MAX_RESTARTS = 3
"""Of one worker. A fourth death is no accident: what it holds or where it runs is to blame."""
EXIT_BAD_INPUT = 2
END_TIMEOUT_S = 5.0
"""A worker whose stdin closed ends within milliseconds; after this it is killed."""
POLL_S = 0.5
NOTICE_S = 120.0
"""How long the chief waits for the last workers before it says for whom."""


@contextmanager
def _serve_oracle(oracle: DurableOracle, address: str) -> Iterator[tuple[Any, int]]:
    """Serve `oracle` at `address`, `host:port` with port 0 for a free one; yields the port too."""
    # gRPC shares ports by default: two chiefs at one would get half of the calls each.
    server = grpc.server(ThreadPoolExecutor(max_workers=1), options=[("grpc.so_reuseport", 0)])
    servicer = OracleServicer(oracle)
    protos.get_service_grpc().add_OracleServicer_to_server(servicer, server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as err:
        raise RunError(
            f"chief {address}: expected an address of this machine with a free port, found one "
            "that cannot be listened at. Set KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT."
        ) from err
    server.start()
    try:
        yield servicer, port
    finally:
        server.stop(0).wait()


def serve_search(
    data: PreparedData,
    training: TrainConfig,
    tuners: Path,
    config: SearchConfig,
    *,
    address: str,
    console: Any,
) -> SearchResult:
    """Give out the trials of a search to the workers that ask, until all are done.

    Args:
        data: See `search`.
        training: See `search`.
        tuners: See `search`.
        config: See `search`.
        address: Where to listen, `host:port`.
        console: Where progress goes.

    Raises:
        RunError: See `search`; or nothing can listen at `address`.
    """
    with open_search(data, training, tuners, config) as opened:
        oracle = opened.oracle
        with (
            SearchProgress(console, total=oracle.total_trials) as progress,
            _serve_oracle(oracle, address) as (servicer, _),
        ):
            opened.report_to(progress)
            progress.tell(f"chief {address} is ready: start the workers.")
            notice_at = float("inf")
            while not (
                servicer.stop_triggered and not oracle.ongoing_trials and not oracle.tuner_ids
            ):
                time.sleep(POLL_S)
                if servicer.stop_triggered and notice_at == float("inf"):
                    notice_at = time.monotonic() + NOTICE_S
                if time.monotonic() > notice_at:
                    notice_at = time.monotonic() + NOTICE_S
                    waiting = ", ".join(sorted({*oracle.tuner_ids, *oracle.ongoing_trials}))
                    progress.tell(
                        f"Still waiting for {waiting}. If that is gone for good, press Ctrl-C and "
                        "call the same command again: finished trials are kept."
                    )
        return opened.finish()


class _Worker:
    """One child process that runs trials, and those that replaced it."""

    def __init__(self, number: int, start: Callable[[str, Path], subprocess.Popen[str]]) -> None:
        self.tuner_id = f"worker{number}"
        self.restarts = 0
        self._start = start
        self._log: Path | None = None

    def start(self, folder: Path) -> None:
        """Start the process; what it says on stderr goes to a file in `folder`."""
        self._log = folder / f"{self.tuner_id}.log"
        self.process = self._start(self.tuner_id, self._log)
        assert self.process.stdin and self.process.stdout
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    @property
    def last_words(self) -> str:
        """The last line it wrote to stderr."""
        assert self._log
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing."

    def end(self) -> int:
        """Let the process end, or make it, and return its exit code."""
        self.stdin.close()
        try:
            code = self.process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.stdout.close()
        return code


def share_cores(workers: int) -> list[set[int]]:
    """Return each worker's cores: as many apiece as there are, one in common where too few."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if not cores:
        return [set()] * workers
    if workers >= len(cores):
        return [{cores[number % len(cores)]} for number in range(workers)]
    return [set(cores[number::workers]) for number in range(workers)]


def search_with_workers(
    data: PreparedData,
    training: TrainConfig,
    tuners: Path,
    config: SearchConfig,
    *,
    workers: int,
    command: Sequence[str],
    console: Any,
) -> SearchResult:
    """Search with worker processes of this machine.

    Args:
        data: See `search`.
        training: See `search`.
        tuners: See `search`.
        config: See `search`.
        workers: How many processes.
        command: What starts one; it finds the chief in KerasTuner's variables.
        console: Where progress goes.

    Returns:
        All ended trials, as of `search`.

    Raises:
        RunError: See `search`; or a worker cannot begin, or all were given up.
    """
    with open_search(data, training, tuners, config) as opened:
        with (
            SearchProgress(console, total=opened.oracle.total_trials, tuners=workers) as progress,
            _serve_oracle(opened.oracle, "127.0.0.1:0") as (_, port),
        ):
            opened.report_to(progress)
            crew = [
                _Worker(number, _make_starter(command, port, cores))
                for number, cores in enumerate(share_cores(workers), 1)
            ]
            try:
                for worker in crew:
                    worker.start(opened.setup.folder)
                _supervise(crew, opened.oracle, opened.setup.folder, progress)
            finally:
                begun = [worker for worker in crew if hasattr(worker, "process")]
                for worker in begun:
                    worker.stdin.close()  # all at once: none waits for another's end
                for worker in begun:
                    worker.end()
        result = opened.finish()
        if unfinished := opened.oracle.unfinished:
            raise RunError(
                f"{result.folder}: expected every trial to end, found {', '.join(unfinished)} "
                "unfinished: its workers died. Call the same command again to finish; what ended "
                "so far is in trials.json."
            )
        return result


def _make_starter(
    command: Sequence[str], port: int, cores: set[int]
) -> Callable[[str, Path], subprocess.Popen[str]]:
    def start(tuner_id: str, log: Path) -> subprocess.Popen[str]:
        with log.open("ab") as stderr:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,  # Ctrl-C in a terminal is for this process to handle
                env={
                    **os.environ,
                    "KERASTUNER_TUNER_ID": tuner_id,
                    "KERASTUNER_ORACLE_IP": "127.0.0.1",
                    "KERASTUNER_ORACLE_PORT": str(port),
                    SUPERVISED: "1",
                },
            )
        if cores:
            os.sched_setaffinity(process.pid, cores)  # before it starts a thread
        return process

    return start


def _supervise(
    crew: list[_Worker], oracle: DurableOracle, folder: Path, progress: SearchProgress
) -> None:
    """Read what the workers tell, and start those again that died, until all have ended."""
    selector = selectors.DefaultSelector()
    for worker in crew:
        selector.register(worker.stdout, selectors.EVENT_READ, worker)
    while selector.get_map():
        for key, _ in selector.select():
            worker = key.data
            if line := worker.stdout.readline():
                progress.read_line(worker.tuner_id, line)
                continue
            selector.unregister(worker.stdout)
            progress.close(worker.tuner_id)
            code = worker.end()
            if code == 0:
                continue  # it asked for a trial, and there was none left
            death = f"{worker.tuner_id} (process {worker.process.pid}) {_describe_code(code)}"
            if code == EXIT_BAD_INPUT:
                raise RunError(f"{death}: {worker.last_words.removeprefix('error: ')}")
            if worker.restarts == MAX_RESTARTS:
                oracle.lose_tuner(worker.tuner_id)
                progress.tell(
                    f"{death} for the {worker.restarts + 1}th time and is given up; the others "
                    f"take its trial. Its last words: {worker.last_words}"
                )
                continue
            worker.restarts += 1
            progress.tell(f"{death}. It is started again and gets its trial back.")
            worker.start(folder)
            selector.register(worker.stdout, selectors.EVENT_READ, worker)


def _describe_code(code: int) -> str:
    name = f" ({signal.Signals(-code).name})" if code < 0 else ""
    return f"died with exit code {code}{name}"


def make_worker_command(arguments: Sequence[str]) -> list[str]:
    """Return what starts a worker with the arguments that `tune-workers` was given."""
    return [sys.executable, "-m", "pipeline", "tune-workers", *arguments]
