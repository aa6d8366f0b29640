"""The load generator: an open loop that keeps its schedule, and a closed one.

One thread turns round without sleeping: send what is due, read what has come. A timer of the event
loop would wake up to a millisecond late, which is several times what is measured. So the process
wants a core of its own, and it tells how late it was itself (`Recording.lag_ns`).

The open loop sends when a request is due, whatever is outstanding. When every connection is busy,
another is opened; at `max_connections` the request waits for a free one, and the wait counts into
its latency, since that runs from the time it was due.
"""

from __future__ import annotations

import gc
import select
import socket
import time
from array import array
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from serving_compare.load.connection import Connection
from serving_compare.load.errors import ConnectError
from serving_compare.load.recording import Failure, Recording

if TYPE_CHECKING:
    from serving_compare.load.recording import Times

LEAD_NS = 20_000_000
"""From opening the connections to the first request."""
CHECK_EVERY_NS = 20_000_000
"""How often answers are looked for that are overdue: an error of 20 ms in seconds."""
OPEN_TIMEOUT_S = 5.0


class Limits(NamedTuple):
    """Bounds of a run.

    Attributes:
        connections: Opened before the first request. In a closed loop: how many there are.
        max_connections: Most that are open at once.
        timeout_s: A request unanswered for so long has failed, and its connection is closed.
    """

    connections: int = 64
    max_connections: int = 1024
    timeout_s: float = 5.0


DEFAULT_LIMITS = Limits()


def run_open_loop(
    host: str,
    port: int,
    requests: Sequence[bytes],
    arrivals_ns: Times,
    *,
    limits: Limits,
    on_start: Callable[[int], None] = lambda start_ns: None,
) -> Recording:
    """Send a request at each arrival and record what became of it.

    Args:
        host: Of the server.
        port: Of the server.
        requests: Whole requests, sent in turn.
        arrivals_ns: (N,) int64, from the start, ascending.
        limits: Bounds.
        on_start: Told the `perf_counter_ns` of time 0 shortly before it.

    Raises:
        ConnectError: No connection could be opened.
    """
    engine = _Engine(host, port, requests, limits)
    clock = time.perf_counter_ns
    with engine:
        engine.open_connections()
        start_ns = clock() + LEAD_NS
        on_start(start_ns)
        due_ns = (arrivals_ns + start_ns).tolist()
        total, position = len(due_ns), 0
        check_ns = start_ns
        while position < total or engine.outstanding:
            now_ns = clock()
            while position < total and due_ns[position] <= now_ns:
                if not engine.send(due_ns[position]):
                    break
                position += 1
            engine.receive()
            if now_ns > check_ns:
                engine.give_up_overdue(now_ns)
                check_ns = now_ns + CHECK_EVERY_NS
    return engine.record(start_ns)


def run_closed_loop(
    host: str,
    port: int,
    requests: Sequence[bytes],
    duration_s: float,
    *,
    limits: Limits,
    max_requests: int | None = None,
    on_start: Callable[[int], None] = lambda start_ns: None,
) -> Recording:
    """Keep `limits.connections` requests outstanding, as many patient users would.

    It ends early where the server can no longer be reached.

    Args:
        host: Of the server.
        port: Of the server.
        requests: Whole requests, sent in turn.
        duration_s: No request is sent behind it.
        limits: Bounds.
        max_requests: Most requests to send, or None.
        on_start: Told the `perf_counter_ns` of time 0.

    Raises:
        ConnectError: No connection could be opened.
    """
    engine = _Engine(host, port, requests, limits)
    clock = time.perf_counter_ns
    with engine:
        engine.open_connections()
        start_ns = clock()
        on_start(start_ns)
        end_ns = start_ns + int(duration_s * 1e9)
        left = max_requests if max_requests is not None else 2**62
        check_ns = start_ns
        while True:
            now_ns = clock()
            while (
                left
                and now_ns < end_ns
                and engine.outstanding < limits.connections
                and not engine.is_unreachable  # or it would fail as fast as it can
                and engine.send(0)
            ):
                left -= 1
            if not engine.outstanding:
                break
            engine.receive()
            if now_ns > check_ns:
                engine.give_up_overdue(now_ns)
                check_ns = now_ns + CHECK_EVERY_NS
    return engine.record(start_ns)


class _Engine:
    """Connections, the requests on them, and the growing record. A context manager."""

    def __init__(self, host: str, port: int, requests: Sequence[bytes], limits: Limits) -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as err:
            raise ConnectError(f"{host}: expected the name of a machine, found {err}.") from err
        self._family: int = found[0][0]
        self._address: tuple[object, ...] = found[0][4]
        self._where = f"{host}:{port}"
        self._requests = list(requests)
        self._limits = limits
        self._timeout_ns = int(limits.timeout_s * 1e9)
        self._poller = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._opened = 0
        self._idle: list[Connection] = []  # used from the end: those at the front may go stale
        self._is_exhausted = False
        self._free_ns = 0  # when a connection last became free after all were busy
        self.outstanding = 0
        self.is_unreachable = False
        self.due = array("q")
        self.available = array("q")
        self.sent = array("q")
        self.first = array("q")
        self.last = array("q")
        self.status = array("q")
        self.connection = array("q")

    def __enter__(self) -> None:
        gc.collect()
        gc.disable()  # a pause of the collector would be a lag of the generator

    def __exit__(self, *error: object) -> None:
        for connection in list(self._connections.values()):
            self._close(connection)
        self._poller.close()
        gc.enable()

    def open_connections(self) -> None:
        """Open the first connections, patiently.

        Raises:
            ConnectError: One cannot be opened in time.
        """
        try:
            for _ in range(self._limits.connections):
                self._idle.append(self._open())
            deadline = time.monotonic() + OPEN_TIMEOUT_S
            while any(connection.is_connecting for connection in self._idle):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no answer within {OPEN_TIMEOUT_S:.0f} s")
                self.receive()
                if len(self._idle) < self._limits.connections:
                    raise ConnectionRefusedError("connection refused")
        except OSError as err:
            raise ConnectError(
                f"{self._where}: expected a server that takes {self._limits.connections} "
                f"connections, found {err}. Start it, or ask for fewer connections."
            ) from err

    def send(self, due_ns: int) -> bool:
        """Send the next request, due at `due_ns` (0: now); False where no connection is free."""
        now_ns = time.perf_counter_ns()
        if self._idle:
            connection = self._idle.pop()
        elif len(self._connections) < self._limits.max_connections:
            try:
                connection = self._open()
            except OSError:
                index = self._begin(due_ns, now_ns, self._opened)
                self._opened += 1
                self.last[index] = time.perf_counter_ns()
                self.status[index] = Failure.NOT_CONNECTED
                self.is_unreachable = True
                return True
        else:
            self._is_exhausted = True
            return False
        index = self._begin(due_ns, now_ns, connection.number)
        self.outstanding += 1
        connection.send(index, self._requests[index % len(self._requests)])
        if connection.unsent is not None:
            self._poller.modify(connection.fd, select.EPOLLIN | select.EPOLLOUT)
        return True

    def receive(self) -> None:
        """Read whatever has come, on all connections."""
        for fd, events in self._poller.poll(0):
            connection = self._connections[fd]
            if events & select.EPOLLOUT:
                self._flush(connection)
            if events & ~select.EPOLLOUT and fd in self._connections:
                self._read(connection)

    def give_up_overdue(self, now_ns: int) -> None:
        """Fail the requests that are unanswered for too long."""
        limit_ns = now_ns - self._timeout_ns
        for connection in list(self._connections.values()):
            if connection.request >= 0 and self.sent[connection.request] < limit_ns:
                self._end(connection, Failure.TIMEOUT, now_ns)

    def record(self, start_ns: int) -> Recording:
        """Return what happened, in ns from `start_ns`."""

        def times(values: array[int]) -> Times:
            absolute = np.array(values, np.int64)
            return np.where(absolute == 0, 0, absolute - start_ns)

        return Recording(
            start_ns=start_ns,
            scheduled_ns=times(self.due),
            available_ns=times(self.available),
            sent_ns=times(self.sent),
            first_ns=times(self.first),
            last_ns=times(self.last),
            status=np.array(self.status, np.int64),
            connection=np.array(self.connection, np.int64),
        )

    def _begin(self, due_ns: int, now_ns: int, number: int) -> int:
        due_ns = due_ns or now_ns
        self.due.append(due_ns)
        self.available.append(max(due_ns, self._free_ns))
        self.sent.append(now_ns)
        self.first.append(0)
        self.last.append(0)
        self.status.append(0)
        self.connection.append(number)
        return len(self.sent) - 1

    def _open(self) -> Connection:
        connection = Connection(self._opened, self._family, self._address)
        self._opened += 1
        self._connections[connection.fd] = connection
        self._poller.register(
            connection.fd,
            select.EPOLLIN | (select.EPOLLOUT if connection.is_connecting else 0),
        )
        return connection

    def _flush(self, connection: Connection) -> None:
        failure = connection.flush()
        if failure:
            self.is_unreachable = True
            self._end(connection, failure, time.perf_counter_ns())
        elif connection.unsent is None:
            self._poller.modify(connection.fd, select.EPOLLIN)

    def _read(self, connection: Connection) -> None:
        data = connection.receive()
        now_ns = time.perf_counter_ns()
        if data is None:
            return
        index = connection.request
        if index < 0:  # the server left, or sent what nobody asked for
            self._end(connection, Failure.MALFORMED, now_ns)
            return
        if not data:
            is_refused = connection.is_connecting
            failure = Failure.NOT_CONNECTED if is_refused else connection.judge_end()
            self._end(connection, failure, now_ns)
            return
        if not self.first[index]:
            self.first[index] = now_ns
        status = connection.feed(data)
        if status == Failure.MALFORMED or (status and not connection.is_reusable):
            self._end(connection, status, now_ns)
        elif status:
            self._finish(connection, status, now_ns)
            self._idle.append(connection)

    def _finish(self, connection: Connection, status: int, now_ns: int) -> None:
        index = connection.request
        if index >= 0:
            self.last[index] = now_ns
            self.status[index] = status
            connection.request = -1
            self.outstanding -= 1
        if self._is_exhausted:
            self._is_exhausted = False
            self._free_ns = now_ns

    def _end(self, connection: Connection, status: int, now_ns: int) -> None:
        if connection.request < 0:
            self._idle.remove(connection)
        self._finish(connection, status, now_ns)
        self._close(connection)

    def _close(self, connection: Connection) -> None:
        del self._connections[connection.fd]
        self._poller.unregister(connection.fd)
        connection.close()
