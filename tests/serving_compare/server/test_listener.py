"""Listening sockets: had or refused, and closed without losing who waits."""

from __future__ import annotations

import socket
import sys

import pytest

from serving_compare.server.errors import ServerError
from serving_compare.server.listener import (
    bind_socket,
    format_url,
    has_waiting_connection,
    refuse_connections,
)


def test_a_port_that_is_taken_is_named() -> None:
    with bind_socket("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(
            ServerError,
            match=rf"^127.0.0.1:{port}: expected an address to listen on, found: Address already "
            r"in use\. Stop what listens there, or choose another --host or --port\.$",
        ):
            bind_socket("127.0.0.1", port)


def test_an_address_that_is_not_ours_is_named() -> None:
    with pytest.raises(ServerError, match=r"^256.0.0.1:0: expected an address to listen on, found"):
        bind_socket("256.0.0.1", 0)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
        ("localhost", "http://localhost:80"),
    ],
)
def test_a_url_reaches_the_listener(host: str, url: str) -> None:
    assert format_url(host, 80) == url


@pytest.mark.skipif(sys.platform != "linux", reason="the filter is Linux's")
def test_who_waits_in_the_queue_is_still_accepted_and_nobody_joins() -> None:
    with bind_socket("127.0.0.1", 0) as listener:
        assert not has_waiting_connection(listener)
        early = socket.create_connection(listener.getsockname(), timeout=5)
        early.sendall(b"request")
        refuse_connections(listener)
        with pytest.raises(TimeoutError):
            socket.create_connection(listener.getsockname(), timeout=0.2)
        assert has_waiting_connection(listener)
        accepted, _ = listener.accept()
        assert accepted.recv(100) == b"request"
        early.sendall(b" more")  # the filter is not handed down to connections
        assert accepted.recv(100) == b" more"
        assert not has_waiting_connection(listener)
        early.close()
        accepted.close()
