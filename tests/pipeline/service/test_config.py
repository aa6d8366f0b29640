"""Addresses and settings of a data service, checked before any work is done."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.service.config import ServiceConfig, is_listening, parse_address
from pipeline.tables.source import DataError


@given(
    host=st.sampled_from(["127.0.0.1", "localhost", "data-7.example.org", "10.0.0.2"]),
    port=st.integers(1, 65_535),
)
def test_an_address_gives_its_host_and_port(host: str, port: int) -> None:
    assert parse_address(f"grpc://{host}:{port}") == (host, port)


def test_an_ipv6_address_stands_in_brackets() -> None:
    assert parse_address("grpc://[::1]:5050") == ("::1", 5050)


@pytest.mark.parametrize(
    "address",
    [
        *("", "127.0.0.1:5050", "http://127.0.0.1:5050", "grpc://127.0.0.1", "grpc://:5050"),
        *("grpc://127.0.0.1:0", "grpc://127.0.0.1:70000", "grpc://127.0.0.1:x"),
        *("grpc://127.0.0.1:5050/path", "grpc://[::1:5050", "grpc://::1:5050"),
    ],
)
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(ValueError, match="expected an address like grpc://127.0.0.1:5050, found"):
        ServiceConfig(address=address)


@pytest.mark.parametrize("timeout_s", [0, 0.5, -1, 3601, float("nan"), True, "20"])
def test_timeouts_out_of_range_are_refused(timeout_s: Any) -> None:
    with pytest.raises(ValueError, match="timeout_s: expected a number of seconds from 1 to 3600"):
        ServiceConfig(address="grpc://127.0.0.1:5050", timeout_s=timeout_s)


@pytest.mark.parametrize("sharding", ["off", "data", ""])
def test_shardings_that_deliver_another_multiset_are_refused(sharding: Any) -> None:
    with pytest.raises(ValueError, match="sharding: expected one of dynamic, file, found"):
        ServiceConfig(address="grpc://127.0.0.1:5050", sharding=sharding)


def test_a_service_is_reachable_while_something_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        assert ServiceConfig(address=f"grpc://{host}:{port}").is_reachable
    assert not is_listening(host, port)


def test_a_service_error_is_a_data_error_so_that_the_command_line_prints_it() -> None:
    from pipeline.service.config import ServiceError

    assert issubclass(ServiceError, DataError)
