"""Where a tf.data service listens, how a client uses it, and what its failures are called.

Imports no TensorFlow: the command line and the process that watches the servers need none.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import urlsplit

from pipeline.tables.source import DataError

Sharding = Literal["dynamic", "file"]
CONNECT_TIMEOUT_S = 3.0
"""An open port answers within milliseconds; a machine that is not there never does."""


class ServiceError(DataError):
    """A data service that cannot be used, or that did not deliver what it had to."""


def parse_address(address: str) -> tuple[str, int]:
    """Split `grpc://host:port` into host and port.

    Raises:
        ValueError: It is something else.
    """
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if (
        not host
        or not port
        or parts.scheme != "grpc"
        or parts.path
        or parts.query
        or parts.fragment
    ):
        raise ValueError(
            f"data service: expected an address like grpc://127.0.0.1:5050, found {address!r}. "
            "`make data-service` prints the one to pass."
        )
    return host, port


def is_listening(host: str, port: int) -> bool:
    """Say whether something accepts TCP connections there."""
    try:
        socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """A tf.data service that a training reads from.

    Attributes:
        address: `grpc://host:port` of the dispatcher.
        sharding: `dynamic` hands shards to whichever worker is free, `file` deals them out
            beforehand. (TensorFlow's `off` and `data` deliver another multiset: docs.)
        timeout_s: Seconds without any block, while one is waited for, until the service is given
            up. A worker's slowest 8,192 rows must take less.
    """

    address: str
    sharding: Sharding = "dynamic"
    timeout_s: float = 20.0

    def __post_init__(self) -> None:
        parse_address(self.address)
        if self.sharding not in get_args(Sharding):
            raise ValueError(
                f"sharding: expected one of {', '.join(get_args(Sharding))}, "
                f"found {self.sharding!r}."
            )
        if (
            isinstance(self.timeout_s, bool)
            or not isinstance(self.timeout_s, (int, float))
            or not 1 <= self.timeout_s <= 3600
        ):
            raise ValueError(
                f"timeout_s: expected a number of seconds from 1 to 3600, found {self.timeout_s!r}."
            )

    @property
    def is_reachable(self) -> bool:
        """Whether something listens at the dispatcher's address."""
        return is_listening(*parse_address(self.address))
