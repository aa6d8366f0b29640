"""One worker process: `python -m serving_compare.server.worker`, started by the supervisor.

stdin brings one line, a `WorkerConfig`, and then stays open: its end means that the supervisor is
gone. stdout tells the supervisor, one JSON line, when this worker is ready. stderr is the log.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import uvicorn

from serving_compare.server.app import make_app
from serving_compare.server.config import WorkerConfig
from serving_compare.server.lifecycle import Lifecycle
from serving_compare.server.model_slot import ModelSlot


class Server(uvicorn.Server):
    """uvicorn's server, whose signals are the worker's own."""

    def capture_signals(self) -> Any:
        """Leave the signals alone: see `serve`."""
        return nullcontext()


async def serve(config: WorkerConfig) -> None:
    """Load the model and answer until SIGTERM."""
    loop = asyncio.get_running_loop()
    slot = ModelSlot(
        config.backend,
        Path(config.artifact),
        follow=config.follow,
        max_ids=config.limits.max_tokens,
    )
    lifecycle = Lifecycle(slot)
    app = make_app(slot, lifecycle, config.limits, config.siblings, page=config.page)
    server = Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            http="httptools",
            ws="websockets-sansio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=int(config.drain_seconds),
        )
    )

    def drain() -> None:
        lifecycle.is_draining = True
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, drain)
    slot.exchange(await asyncio.to_thread(slot.load))
    print(json.dumps({"ready": slot.current.version}), flush=True)  # noqa: T201
    await server.serve([socket.socket(fileno=config.socket_fd)])


def main() -> None:
    """Read the settings from stdin and serve."""
    config = WorkerConfig.from_line(sys.stdin.buffer.readline())
    if config.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, config.cores)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(config))


if __name__ == "__main__":
    main()
