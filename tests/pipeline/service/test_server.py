"""Starting servers: what is refused, and what becomes of a worker that dies."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.service import server as service
from pipeline.service.config import ServiceError
from pipeline.service.server import ServerConfig, run_service


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"workers": 0}, "workers: expected 1 to 256, found 0"),
        ({"workers": 257}, "workers: expected 1 to 256, found 257"),
        ({"port": 0}, "port: expected 1 to 65533, since the 2 workers take the ports behind it"),
        ({"port": 65_534}, "port: expected 1 to 65533"),
        ({"host": "a b/c"}, "expected an address like grpc://127.0.0.1:5050"),
        ({"dispatcher": "10.0.0.1:5050"}, "expected an address like grpc://127.0.0.1:5050"),
        ({"remote_workers": ("10.0.0.2",)}, "expected an address like grpc://127.0.0.1:5050"),
        (
            {"dispatcher": "grpc://10.0.0.1:5050", "remote_workers": ("10.0.0.2:5051",)},
            "dispatcher and remote_workers: expected one of them, found both",
        ),
    ],
)
def test_settings_that_cannot_be_served_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ServerConfig(**changes)


def test_workers_stand_behind_the_dispatcher_or_at_the_one_elsewhere() -> None:
    here = ServerConfig(host="10.0.0.2", port=7000)
    assert here.dispatcher_address == "10.0.0.2:7000"
    assert here.worker_addresses == ("10.0.0.2:7001", "10.0.0.2:7002")
    there = ServerConfig(dispatcher="grpc://10.0.0.1:5050", host="10.0.0.2", port=7000)
    assert there.dispatcher_address == "10.0.0.1:5050"
    assert there.worker_addresses == here.worker_addresses


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("offset", [0, 2])
def test_a_port_in_use_is_refused_before_anything_starts(
    free_ports: Callable[[int], int], kind: socket.SocketKind, offset: int
) -> None:
    """A service holds the UDP ports of its numbers, so that two never start at once."""
    port = free_ports(3)
    with socket.socket(socket.AF_INET, kind) as taken:
        # As TensorFlow's own servers do, which would let a second one in.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", port + offset))
        if kind is socket.SOCK_STREAM:
            taken.listen()
        with pytest.raises(ServiceError, match=f"port {port + offset}: expected a free port"):
            run_service(ServerConfig(port=port), print)


def test_a_dispatcher_that_is_not_there_is_refused(free_ports: Callable[[int], int]) -> None:
    port = free_ports(3)
    config = ServerConfig(port=port, dispatcher=f"grpc://127.0.0.1:{port}")
    with pytest.raises(ServiceError, match="expected a data service there, found nothing that"):
        run_service(config, print)


def test_what_is_no_dispatcher_is_given_up(
    free_ports: Callable[[int], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "START_TIMEOUT_S", 0.5)
    monkeypatch.setattr(service, "PROBE_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        dispatcher = f"grpc://127.0.0.1:{server.getsockname()[1]}"
        config = ServerConfig(workers=1, port=free_ports(2), dispatcher=dispatcher)
        with pytest.raises(ServiceError, match="expected it to serve within 0.5 s, found it still"):
            run_service(config, print)


@pytest.mark.slow
def test_workers_that_die_again_and_again_end_the_service(
    free_ports: Callable[[int], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "MAX_RESTARTS", 0)

    def kill_whatever_is_ready(line: str) -> None:
        if found := re.match(r"worker 1 \(.*, process (\d+)\) is ready", line):
            os.kill(int(found[1]), signal.SIGKILL)

    with pytest.raises(ServiceError, match=r"\(SIGKILL\): .* found 1 deaths within 60 s"):
        run_service(ServerConfig(workers=1, port=free_ports(2)), kill_whatever_is_ready)


@pytest.mark.slow
def test_a_worker_the_dispatcher_does_not_expect_is_refused(
    free_ports: Callable[[int], int], service_of_two: Any
) -> None:
    config = ServerConfig(workers=1, port=free_ports(2), dispatcher=service_of_two.address)
    worker = re.escape(config.worker_addresses[0])
    with pytest.raises(ServiceError, match=f"before it served.*--remote-worker {worker}"):
        run_service(config, print)
