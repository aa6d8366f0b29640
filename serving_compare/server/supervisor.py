"""The parent process: listening sockets, worker processes, their restarts, and their end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serving_compare.machine import child_environment
from serving_compare.server.config import WorkerConfig
from serving_compare.server.errors import ServerError

BACKLOG = 1024


def bind_socket(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes any that is free.

    Raises:
        ServerError: The address cannot be had.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as err:
        raise ServerError(
            f"{host}:{port}: expected an address to listen on, found {err.strerror or err}. Stop "
            "what listens there, or choose another --port."
        ) from err
    return listener


def write_ready_file(path: Path, servers: Sequence[dict[str, Any]]) -> None:
    """Write who listens where, so that readers see the old or the new content."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps({"pid": os.getpid(), "servers": list(servers)}) + "\n")
    partial.replace(path)


class Supervisor:
    """Starts the workers and keeps them."""

    def __init__(
        self, groups: Sequence[tuple[WorkerConfig, str]], workers: int, ready_file: Path | None
    ) -> None:
        self._groups = groups
        self._workers = workers
        self._ready_file = ready_file

    async def run(self) -> int:
        """Serve until SIGTERM; return the exit code."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        processes: list[list[asyncio.subprocess.Process]] = []
        for config, _ in self._groups:
            processes.append([await self._start(config) for _ in range(self._workers)])
        for group in processes:
            for process in group:
                assert process.stdout is not None
                if not await process.stdout.readline():
                    return 1
        if self._ready_file is not None:
            write_ready_file(
                self._ready_file,
                [
                    {"backend": config.backend, "url": url, "workers": [p.pid for p in group]}
                    for (config, url), group in zip(self._groups, processes, strict=True)
                ],
            )
        await stop.wait()
        for group in processes:
            for process in group:
                process.send_signal(signal.SIGTERM)
        for group in processes:
            for process in group:
                await process.wait()
        return 0

    async def _start(self, config: WorkerConfig) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "serving_compare.server.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=[config.socket_fd],
            env=child_environment(os.environ),
            start_new_session=True,
        )
        assert process.stdin is not None
        process.stdin.write(config.to_line())
        return process
