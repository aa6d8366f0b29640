"""One worker process: `python -m serving_compare.server.worker`, started by the supervisor.

stdin brings one line, a `WorkerConfig`, and then stays open: its end means that the supervisor is
gone. stdout tells the supervisor, in one JSON line, that this worker is ready. stderr is the log.
Exit code 0 after a drain, 2 where the model cannot be loaded.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Coroutine
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from export.bundle import BundleError
from export.lookup import ArtifactError
from serving_compare.server.app import make_application
from serving_compare.server.config import WorkerConfig
from serving_compare.server.errors import ServerError
from serving_compare.server.lifecycle import Lifecycle
from serving_compare.server.listener import has_waiting_connection, refuse_connections
from serving_compare.server.logs import log, set_up_logs
from serving_compare.server.metrics import Meters
from serving_compare.server.model_slot import ModelSlot
from serving_compare.server.protocol import KEEP_ALIVE_S, BoundedProtocol
from serving_compare.server.swap import Follower

BAD_INPUT = 2
LEAVE_S = 0.5
"""Between the signal and the last connection accepted: keep-alive clients get an answer that asks
them to leave, and whoever watches /readyz sends no new ones."""
LOOK_AFTER_S = 0.5
SETTLE_S = 0.05
"""For the first bytes of the last connections."""
SWITCH_INTERVAL_S = 0.0002
"""How long a thread that loads a new version may hold the interpreter while requests wait. Python's
5 ms would be added to each of them."""


class Server(uvicorn.Server):
    """uvicorn's server with a drain that loses nothing. Signals are the worker's affair.

    Args:
        config: uvicorn's.
        listener: The socket whose connections it accepts.
        drain_s: Time to finish in.
    """

    def __init__(self, config: uvicorn.Config, listener: socket.socket, drain_s: float) -> None:
        super().__init__(config)
        self.listener = listener
        self._drain_s = drain_s

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Leave the signals alone."""
        return nullcontext()

    def ask_to_leave(self) -> None:
        """Put `Connection: close` into every answer from now on, those being made included."""
        close = (b"connection", b"close")
        self.server_state.default_headers.append(close)
        self.config.encoded_headers.append(close)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept what has come, then nobody; finish every request; close."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._drain_s
        refuse_connections(self.listener)
        while has_waiting_connection(self.listener) and loop.time() < deadline_s:
            await asyncio.sleep(0.005)
        await asyncio.sleep(SETTLE_S)
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        while (self.server_state.connections or self.server_state.tasks) and not self.force_exit:
            if loop.time() >= deadline_s:
                break
            await asyncio.sleep(0.02)


class Worker:
    """One backend behind one socket, from loading to the end of its drain."""

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        self._slot = ModelSlot(
            config.backend,
            Path(config.artifact),
            follow=config.follow,
            max_ids=config.limits.max_tokens,
            threads=config.threads,
        )
        self._lifecycle = Lifecycle(self._slot)
        self._meters = Meters()
        self._slot.observe = self._meters.observe_model
        self._follower = Follower(self._slot, self._meters)
        BoundedProtocol.limits = config.limits
        self._application = make_application(
            self._slot,
            self._lifecycle,
            config.limits,
            config.siblings,
            page=config.page,
            meters=self._meters,
            access_log=config.access_log,
        )
        if not config.access_log:  # which is to have every request
            BoundedProtocol.gate = self._application.gate
        self._server = Server(
            uvicorn.Config(
                self._application.asgi,
                http=BoundedProtocol,
                ws="websockets-sansio",
                ws_max_size=2**16,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_S,
            ),
            socket.socket(fileno=config.socket_fd),
            config.drain_seconds,
        )
        self._background: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Load, say so, answer until SIGTERM; return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._begin_drain)
        loop.add_reader(sys.stdin.fileno(), self._watch_supervisor)
        serving = self._start_serving() if self._config.accept_while_loading else None
        try:
            model = await asyncio.to_thread(self._slot.load)
        except (BundleError, ArtifactError, ServerError, ImportError, OSError) as err:
            log("load_failed", level=logging.ERROR, error=str(err))
            return BAD_INPUT
        self._slot.exchange(model)
        self._meters.note_version(model.version, is_swap=False)
        log("ready", version=model.version)
        print(json.dumps({"ready": model.version}), flush=True)  # noqa: T201  (the supervisor reads it)
        # The libraries' objects live as long as the process. Walking through them in every full
        # collection held requests up for 60 to 100 ms, every five seconds under load.
        gc.collect()
        gc.freeze()
        self._keep(self._look_after())
        await (serving or self._start_serving())
        log("drained", connections_left=len(self._server.server_state.connections))
        return 0

    def _start_serving(self) -> asyncio.Task[None]:
        return asyncio.create_task(self._server.serve([self._server.listener]))

    def _keep(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _watch_supervisor(self) -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            self._begin_drain()

    def _begin_drain(self) -> None:
        if self._lifecycle.is_draining:
            self._lifecycle.is_over = True
            self._server.force_exit = True
            return
        self._lifecycle.is_draining = True
        log("drain_begins", connections=len(self._server.server_state.connections))
        self._server.ask_to_leave()
        self._keep(self._drain())

    async def _drain(self) -> None:
        if self._slot.is_loaded:
            await asyncio.sleep(min(LEAVE_S, self._config.drain_seconds / 4))
        else:
            os._exit(0)  # nobody has been promised anything, and loading cannot be interrupted
        self._server.should_exit = True

    async def _look_after(self) -> None:
        """Once in a while: ends stalled connections, sums up refusals, follows `latest`."""
        swap: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_AFTER_S)
            now_s = loop.time()
            for connection in list(self._server.server_state.connections):
                if isinstance(connection, BoundedProtocol):
                    connection.sweep(now_s)
            self._meters.set_waiting(self._application.gate.turnstile.waiting)
            self._application.gate.sweep(now_s)
            if refusals := self._meters.flush():
                log("refused", level=logging.WARNING, **refusals)
            if self._config.follow and (swap is None or swap.done()):
                swap = asyncio.create_task(self._follower.look())


def main() -> None:
    """Read the settings from stdin and serve."""
    # Unbuffered: what lies behind the line is for the loop to see.
    config = WorkerConfig.from_line(_read_line(sys.stdin.fileno()))
    set_up_logs(config.log_level, backend=config.backend, pid=os.getpid())
    if config.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, config.cores)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(Worker(config).run())
        sys.stderr.flush()
        # Nothing is left to be written, and some runtimes take seconds to take themselves apart.
        os._exit(code)


def _read_line(handle: int) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(handle, 65536)
        if not part:
            sys.exit(BAD_INPUT)
        line += part
    return line


if __name__ == "__main__":
    main()
