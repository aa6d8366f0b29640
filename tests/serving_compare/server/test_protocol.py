"""Connections are bounded: heads in bytes and time, bodies in time, idleness. On raw sockets."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit

import pytest

from serving_compare.server.config import Limits
from serving_compare.server.errors import RETRY, RequestError
from serving_compare.server.protocol import KEEP_ALIVE_S, BoundedProtocol
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


class Transport:
    """Stands in for a connection; keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.end = ""

    def get_extra_info(self, name: str) -> None:
        return None

    def write(self, content: bytes) -> None:
        self.written += content

    def abort(self) -> None:
        self.end = "aborted"

    def close(self) -> None:
        self.end = self.end or "closed"

    def is_closing(self) -> bool:
        return bool(self.end)


class Loop:
    """Stands in for an event loop; counts tasks, runs none."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.tasks = 0

    def time(self) -> float:
        return self.now_s

    def create_task(self, coroutine: Any) -> Any:
        coroutine.close()
        self.tasks += 1
        return SimpleNamespace(add_done_callback=lambda done: None)


class ClosedGate:
    """Stands in for a gate that refuses everything."""

    coming = 0

    def refuse_early(self) -> RequestError | None:
        return RequestError(429, "queue_full", "queue: full.", RETRY)


Made = tuple[BoundedProtocol, Transport, Loop]


@pytest.fixture
def make_connection() -> Callable[[], Made]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("no task is run")

    loop = Loop()
    config = SimpleNamespace(
        loaded=True,
        loaded_app=app,
        ws_protocol_class=None,
        root_path="",
        asgi_version="3.0",
        limit_concurrency=None,
        timeout_keep_alive=5,
        reset_contextvars=False,
    )
    state = SimpleNamespace(connections=set(), tasks=set(), default_headers=[])

    def make() -> Made:
        transport = Transport()
        protocol = BoundedProtocol(
            config=config, server_state=state, app_state={}, _loop=cast(Any, loop)
        )
        protocol.connection_made(cast(Any, transport))
        return protocol, transport, loop

    return make


def test_connections_beyond_the_limit_are_closed(
    make_connection: Callable[[], Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundedProtocol, "limits", Limits(max_connections=1))
    assert [make_connection()[1].end for _ in range(2)] == ["", "aborted"]


def test_a_refusal_is_written_without_a_task_and_the_connection_stays(
    make_connection: Callable[[], Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundedProtocol, "gate", ClosedGate())
    protocol, transport, loop = make_connection()
    protocol.data_received(REQUEST[:-5])
    assert transport.written == b""  # not before the request is complete
    protocol.data_received(REQUEST[-5:] + REQUEST)
    answer = (
        b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 60\r\n"
        b"content-type: application/json\r\nretry-after: 1\r\n\r\n"
        b'{"error": {"code": "queue_full", "message": "queue: full."}}'
    )
    assert transport.written == 2 * answer
    assert (loop.tasks, transport.end) == (0, "")
    loop.now_s = KEEP_ALIVE_S + 1
    protocol.sweep(loop.now_s)
    assert transport.end == "closed"


def test_a_client_that_wants_to_leave_is_let_go_with_its_refusal(
    make_connection: Callable[[], Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundedProtocol, "gate", ClosedGate())
    protocol, transport, _ = make_connection()
    protocol.data_received(REQUEST.replace(b"Host", b"Connection: close\r\nHost"))
    assert transport.written.startswith(b"HTTP/1.1 429 ")
    assert transport.end == "closed"


@pytest.mark.parametrize(
    "changed",
    [
        REQUEST.replace(b"Host", b"Origin: http://x\r\nHost"),
        REQUEST.replace(b"Host", b"Expect: 100-continue\r\nHost"),
        REQUEST.replace(b"POST", b"GET"),
        REQUEST.replace(b":predict", b":predict?x"),
        REQUEST.replace(PREDICT.encode(), b"/livez"),
    ],
    ids=["page", "expect", "get", "query", "health"],
)
def test_whatever_needs_more_than_that_goes_the_usual_way(
    make_connection: Callable[[], Made], monkeypatch: pytest.MonkeyPatch, changed: bytes
) -> None:
    monkeypatch.setattr(BoundedProtocol, "gate", ClosedGate())
    protocol, transport, loop = make_connection()
    protocol.data_received(changed)
    assert (loop.tasks, transport.written) == (1, b"")
