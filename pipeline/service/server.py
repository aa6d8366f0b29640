"""A tf.data service on this machine: one dispatcher, N worker processes, all of them watched.

The dispatcher runs in the calling process and each worker in a child of its own. A worker that dies
is named with its exit code and started again at the same address; the passes it took part in have
lost rows, which their clients notice (`pipeline.service.client`).

TensorFlow's servers ask nobody for a password, run the graphs that clients send, listen on every
address of the machine, and share a port with whoever listens there already. The last can be
prevented and is; the others have to be known.
"""

from __future__ import annotations

import errno
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.run_folder import import_tensorflow
from pipeline.service.config import ServiceError, is_listening, parse_address
from pipeline.service.worker import FAILED, READY

Notify = Callable[[str], None]
PROBE_S = 5.0
"""Seconds between two looks at the dispatcher of another machine."""
END_TIMEOUT_S = 5.0
"""A worker whose stdin closed ends within milliseconds; after this it is killed."""
START_TIMEOUT_S = 120.0
"""Importing TensorFlow takes seconds; something that is no dispatcher keeps a worker for ever."""
MAX_RESTARTS = 3
RESTART_WINDOW_S = 60.0
"""Workers that die more often are broken or starved: the service ends and says so."""


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """What to start.

    Attributes:
        workers: N, worker processes on this machine; worker i listens at `port` + i.
        port: Port of the dispatcher.
        host: Name or address by which clients and the dispatcher reach this machine.
        dispatcher: `grpc://host:port` of a dispatcher elsewhere, to which the workers are added
            instead of starting one here.
        remote_workers: `host:port` of workers that other machines will add to this dispatcher.
            File sharding needs to know all of them beforehand.
    """

    workers: int = 2
    port: int = 5050
    host: str = "127.0.0.1"
    dispatcher: str | None = None
    remote_workers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.workers <= 256:
            raise ValueError(f"workers: expected 1 to 256, found {self.workers}.")
        if not 1 <= self.port <= 65_535 - self.workers:
            raise ValueError(
                f"port: expected 1 to {65_535 - self.workers}, since the {self.workers} workers "
                f"take the ports behind it, found {self.port}."
            )
        if self.dispatcher is not None:
            parse_address(self.dispatcher)
            if self.remote_workers:
                raise ValueError(
                    "dispatcher and remote_workers: expected one of them, found both. The "
                    "machine that starts the dispatcher lists the workers of the others."
                )
        for address in (f"{self.host}:{self.port}", *self.remote_workers):
            parse_address(f"grpc://{address}")

    @property
    def dispatcher_address(self) -> str:
        """`host:port` of the dispatcher, here or elsewhere."""
        if self.dispatcher is None:
            return f"{self.host}:{self.port}"
        return self.dispatcher.removeprefix("grpc://")

    @property
    def worker_addresses(self) -> tuple[str, ...]:
        """`host:port` of each worker of this machine."""
        return tuple(f"{self.host}:{self.port + 1 + index}" for index in range(self.workers))


def _reserve_ports(ports: Sequence[int]) -> list[socket.socket]:
    """Check that nobody listens at `ports`, and keep other services away while the result lives.

    TensorFlow binds with SO_REUSEPORT: a second dispatcher at the same port starts without an
    error and gets half of the calls. A plain bind tells whether the port is in use. The UDP ports
    of the same numbers, held as long as the process lives, keep apart two services that start at
    the same moment.
    """
    held = []
    for port in ports:
        guard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        held.append(guard)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            # Connections of a service that just ended may linger; they block nobody.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                guard.bind(("127.0.0.1", port))
                probe.bind(("", port))
            except OSError as err:
                for guard in held:
                    guard.close()
                if err.errno not in (errno.EADDRINUSE, errno.EACCES):
                    raise
                raise ServiceError(
                    f"port {port}: expected a free port, found it "
                    f"{'in use' if err.errno == errno.EADDRINUSE else 'reserved to the system'}. "
                    "End the service that runs there, or choose another --port; the dispatcher "
                    "takes that one and the workers those behind it."
                ) from err
    return held


class _Worker:
    """One child process that serves at a fixed address."""

    def __init__(self, number: int, address: str, dispatcher: str) -> None:
        self.number = number
        self.address = address
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.service.worker", dispatcher, address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin and self.process.stdout
        self.stdin = self.process.stdin
        self.stdout = self.process.stdout

    @property
    def name(self) -> str:
        return f"worker {self.number} ({self.address}, process {self.process.pid})"

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


def run_service(config: ServerConfig, notify: Notify) -> None:
    """Serve until interrupted; then no child process is left.

    Args:
        config: What to start.
        notify: Gets a line for whatever a person should know.

    Raises:
        ServiceError: A port is taken, the dispatcher elsewhere is not reachable, a worker could
            not begin, or workers died again and again.
        KeyboardInterrupt: Ctrl-C.
    """
    ports = range(config.port + (config.dispatcher is not None), config.port + config.workers + 1)
    guards = _reserve_ports(ports)
    workers: list[_Worker] = []
    server = None
    try:
        if config.dispatcher is None:
            server = _start_dispatcher(config)
            notify(f"dispatcher ({config.dispatcher_address}, process {os.getpid()}) is ready")
        _check_dispatcher(config)
        for number, address in enumerate(config.worker_addresses, 1):
            workers.append(_Worker(number, address, config.dispatcher_address))
        _watch(workers, config, notify)
    finally:
        for worker in workers:
            worker.stdin.close()  # all at once: none waits for another's end
        for worker in workers:
            worker.end()
        if server is not None:
            server.stop()
        for guard in guards:
            guard.close()


def _start_dispatcher(config: ServerConfig) -> Any:
    service = import_tensorflow().data.experimental.service
    return service.DispatchServer(
        service.DispatcherConfig(
            port=config.port,
            # File sharding deals the shards out to a list of workers, known beforehand.
            worker_addresses=[*config.worker_addresses, *config.remote_workers],
        )
    )


def _check_dispatcher(config: ServerConfig) -> None:
    if not is_listening(*parse_address(f"grpc://{config.dispatcher_address}")):
        raise ServiceError(
            f"dispatcher {config.dispatcher_address}: expected a data service there, found nothing "
            "that accepts a connection. Start it first with `make data-service`, and check host, "
            "port and firewall."
        )


def _watch(workers: list[_Worker], config: ServerConfig, notify: Notify) -> None:
    """Tell what the workers tell, and start those again that died, for ever."""
    selector = selectors.DefaultSelector()
    for worker in workers:
        selector.register(worker.stdout, selectors.EVENT_READ, worker)
    ready: set[int] = set()
    deaths: list[float] = []
    while True:
        events = selector.select(PROBE_S)
        if not events and config.dispatcher is not None:
            _check_dispatcher(config)
        for worker in workers:
            if worker.number not in ready and time.monotonic() - worker.started > START_TIMEOUT_S:
                raise ServiceError(
                    f"{worker.name}: expected it to serve within {START_TIMEOUT_S:g} s, found it "
                    f"still starting. Is {config.dispatcher_address} a tf.data dispatcher?"
                )
        for key, _ in events:
            worker = key.data
            line = worker.stdout.readline().rstrip("\n")
            if line == READY:
                ready.add(worker.number)
                notify(f"{worker.name} is ready")
                if len(ready) == len(workers):
                    notify(f"All ready: train --data-service grpc://{config.dispatcher_address}")
                continue
            selector.unregister(worker.stdout)
            death = f"{worker.name} died with {_describe_code(worker.end())}"
            if worker.number not in ready:
                raise ServiceError(_explain_start(death, worker, line, config))
            now = time.monotonic()
            deaths = [*(died for died in deaths if now - died < RESTART_WINDOW_S), now]
            if len(deaths) > MAX_RESTARTS:
                raise ServiceError(
                    f"{death}: expected workers that live, found {len(deaths)} deaths within "
                    f"{RESTART_WINDOW_S:g} s. Look for a lack of memory, or for a training whose "
                    "shards crash the reader, and start the service anew."
                )
            notify(
                f"{death}. It is started anew. Passes it worked for have lost rows: their "
                "trainings end with an error, and go on when they are started again."
            )
            ready.remove(worker.number)
            anew = _Worker(worker.number, worker.address, config.dispatcher_address)
            workers[workers.index(worker)] = anew
            selector.register(anew.stdout, selectors.EVENT_READ, anew)


def _explain_start(death: str, worker: _Worker, line: str, config: ServerConfig) -> str:
    reason = line.removeprefix(FAILED) if line.startswith(FAILED) else "see its output above."
    advice = (
        "Start the service anew."
        if config.dispatcher is None
        else "Where the dispatcher runs, name each worker of this machine: "
        f"--remote-worker {worker.address}"
    )
    return f"{death} before it served: {reason} {advice}"


def _describe_code(code: int) -> str:
    name = f" ({signal.Signals(-code).name})" if code < 0 else ""
    return f"exit code {code}{name}"
