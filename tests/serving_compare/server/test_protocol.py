"""Connections are bounded: heads in bytes and time, bodies in time, idleness. On raw sockets."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.serving_compare.server.running import PREDICT, Running, run_server

HEAD = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()
BODY = b'{"instances": "stone"}'
REQUEST = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    options = ("--head-timeout-ms", "400", "--body-timeout-ms", "400", "--max-wait-ms", "10000")
    with run_server(tmp_path_factory.mktemp("protocol"), *options) as running:
        yield running


def connect(server: Running) -> socket.socket:
    address = urlsplit(server.urls["lookup"])
    return socket.create_connection((address.hostname, address.port), timeout=10)


def read_all(connection: socket.socket) -> bytes:
    content = b""
    while part := connection.recv(65536):
        content += part
    return content


def read_error(connection: socket.socket) -> tuple[int, str]:
    """Return status and code of the answer that ends the connection."""
    head, _, body = read_all(connection).partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(body)["error"]["code"]


def test_a_head_that_never_ends_is_cut_off(server: Running) -> None:
    with connect(server) as connection:
        connection.sendall(HEAD)
        assert read_error(connection) == (408, "head_timeout")


def test_letters_that_drip_in_do_not_help(server: Running) -> None:
    with connect(server) as connection:
        connection.sendall(REQUEST)
        connection.recv(65536)
        until = time.monotonic() + 10
        try:
            for letter in HEAD * 100:
                connection.sendall(bytes([letter]))
                time.sleep(0.05)
                assert time.monotonic() < until
        except OSError:
            return  # cut off
        pytest.fail("it was never cut off")


@pytest.mark.parametrize("size", [40_000, 400_000])
def test_a_head_that_is_too_large_is_refused(server: Running, size: int) -> None:
    with connect(server) as connection:
        connection.sendall(HEAD + b"X-Large: " + b"x" * size)
        try:
            connection.sendall(b"\r\nContent-Length: 2\r\n\r\n{}")
            assert read_error(connection) == (431, "head_too_large")
        except ConnectionError:
            pass  # closed before we had read why


def test_many_headers_that_come_at_once_are_measured(server: Running) -> None:
    with connect(server) as connection:
        connection.sendall(HEAD + b"X: y\r\n" * 20_000 + b"Content-Length: 2\r\n\r\n{}")
        assert read_error(connection) == (431, "head_too_large")


def test_a_body_that_stops_is_cut_off(server: Running) -> None:
    with connect(server) as connection:
        connection.sendall(HEAD + b'Content-Length: 100\r\n\r\n{"inst')
        assert read_error(connection) == (408, "body_timeout")


def test_a_body_that_stops_after_its_refusal_is_cut_off(server: Running) -> None:
    with connect(server) as connection:
        connection.sendall(HEAD.replace(b"json", b"text") + b"Content-Length: 100\r\n\r\n{")
        first = connection.recv(65536)
        assert first.startswith(b"HTTP/1.1 415 ")
        connection.sendall(b"{")
        read_all(connection)


def test_what_is_no_http_is_told_so(server: Running) -> None:
    with connect(server) as connection:
        connection.sendall(b"GIVE ME\x00\r\n\r\n")
        assert read_error(connection) == (400, "malformed_http")


def test_requests_in_a_row_on_one_connection_are_answered_in_order(server: Running) -> None:
    with connect(server) as connection:
        connection.sendall(REQUEST + REQUEST.replace(b"stone", b"river").replace(b": 22", b": 22"))
        content = b""
        while content.count(b'"predictions"') < 2:
            content += connection.recv(65536)
    assert content.count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize("first", [b"\x16\x03\x01\x02", b"\xff\xfe", b" ", b"\x00" * 50])
def test_bytes_of_another_protocol_are_told_so(server: Running, first: bytes) -> None:
    with connect(server) as connection:
        connection.sendall(first + b"\r\n\r\n")
        assert read_error(connection) == (400, "malformed_http")


@pytest.mark.parametrize(
    "line",
    [
        b"POST /?x=:predict HTTP/1.1\r\n",
        b"POST /nowhere#:predict HTTP/1.1\r\n",
        b"POST http://[:predict HTTP/1.1\r\n",
        HEAD.split(b"\r\n")[0] + b"\r\nX: " + b"x" * 40_000 + b"\r\n",
        HEAD.split(b"\r\n")[0] + b"\r\nConnection: upgrade\r\nUpgrade: websocket\r\n",
    ],
    ids=["query", "fragment", "no url", "large head", "upgrade"],
)
def test_what_never_reaches_the_queue_takes_no_place_in_it(server: Running, line: bytes) -> None:
    for _ in range(80):  # the queue holds 64
        with connect(server) as connection:
            connection.sendall(line + b"Content-Length: 0\r\nConnection: close\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
            try:
                read_all(connection)
            except ConnectionError:
                continue
    with connect(server) as connection:
        connection.sendall(REQUEST)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")


def test_the_server_answers_as_before(server: Running) -> None:
    answer = server.post("lookup", PREDICT, {"instances": "stone"})
    assert len(answer["predictions"][0]) == 2
    assert "traceback" not in server.log.read_text()


def test_connections_beyond_the_limit_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    # In process: a server has no option for it.
    from types import SimpleNamespace
    from typing import Any, cast

    from serving_compare.server.config import Limits
    from serving_compare.server.protocol import BoundedProtocol

    aborted = []

    class Transport:
        def get_extra_info(self, name: str) -> Any:
            return None

        def abort(self) -> None:
            aborted.append(self)

        def is_closing(self) -> bool:
            return False

    monkeypatch.setattr(BoundedProtocol, "limits", Limits(max_connections=1))
    config = SimpleNamespace(
        loaded=True,
        loaded_app=None,
        ws_protocol_class=None,
        root_path="",
        asgi_version="3.0",
        limit_concurrency=None,
        timeout_keep_alive=5,
    )
    state = SimpleNamespace(connections=set(), tasks=set(), default_headers=[])
    loop = SimpleNamespace(time=lambda: 0.0)
    first, second = (
        BoundedProtocol(config=config, server_state=state, app_state={}, _loop=loop)
        for _ in range(2)
    )
    first.connection_made(cast(Any, Transport()))
    assert aborted == []
    second.connection_made(cast(Any, Transport()))
    assert len(aborted) == 1
