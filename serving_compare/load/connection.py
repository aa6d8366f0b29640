"""One keep-alive connection: sends a request's bytes, reads one answer, says what became of it.

Non-blocking throughout; the caller watches the sockets. Answers are parsed by httptools (llhttp,
the parser of Node), which is strict and, being C, costs a few µs an answer.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

import httptools

from serving_compare.load.recording import Failure

READ_BYTES = 2**18


class Connection:
    """A socket and the state of the one request on it. Used by one thread.

    Args:
        number: Told in the recording.
        family: Of the address.
        address: As `socket.connect` wants it.
    """

    __slots__ = (
        *("number", "fd", "request", "unsent", "is_connecting", "is_reusable"),
        *("was_reset", "got_bytes", "_socket", "_parser", "_status"),
    )

    def __init__(self, number: int, family: int, address: tuple[object, ...]) -> None:
        self.number = number
        self.request = -1  # index of the request on it; -1: idle
        self.unsent: memoryview | None = None
        self.is_reusable = True
        self.was_reset = False
        self.got_bytes = False
        self._status = 0
        self._parser: Any = httptools.HttpResponseParser(self)
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.fd = self._socket.fileno()
        code = self._socket.connect_ex(address)
        self.is_connecting = code == errno.EINPROGRESS
        if code not in (0, errno.EINPROGRESS):
            self.close()
            raise OSError(code, errno.errorcode.get(code, str(code)))

    def send(self, request: int, data: bytes) -> None:
        """Hand over what the system takes of `data`; `flush` does the rest."""
        self.request = request
        self.got_bytes = False
        self._status = 0
        if self.is_connecting:
            self.unsent = memoryview(data)
            return
        try:
            count = self._socket.send(data)
        except BlockingIOError:
            count = 0
        except OSError:
            self.was_reset = True  # this call took the error: `judge_end` would find none
            return
        if count < len(data):
            self.unsent = memoryview(data)[count:]

    def flush(self) -> int:
        """Go on sending, once the socket can be written.

        Returns:
            0, or `Failure.NOT_CONNECTED`.
        """
        if self.is_connecting:
            if self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                return Failure.NOT_CONNECTED
            self.is_connecting = False
        if self.unsent is not None:
            try:
                count = self._socket.send(self.unsent)
            except BlockingIOError:
                return 0
            except OSError:
                self.was_reset = True
                count = len(self.unsent)
            self.unsent = self.unsent[count:] or None
        return 0

    def receive(self) -> bytes | None:
        """Return what has come, b"" at the end of the connection or a reset, None for nothing."""
        try:
            return self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            self.was_reset = True
            return b""

    def feed(self, data: bytes) -> int:
        """Parse what came.

        Returns:
            The status of the answer if it is complete, 0 if not, or `Failure.MALFORMED`.
        """
        self.got_bytes = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            return Failure.MALFORMED
        return self._status

    def judge_end(self) -> Failure:
        """Say what became of a request whose connection ended before its answer.

        A reset means that the bytes were never read: the system sends one when a program closes
        a socket with unread bytes in it, and when bytes come for a socket that is closed. An end
        without a reset means that a program had read them all, and then closed.
        """
        if self.got_bytes:
            return Failure.CUT_OFF
        # Behind the other side's end of data a reset shows in SO_ERROR alone.
        error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if self.was_reset or error or self.unsent is not None:
            return Failure.NOT_READ
        return Failure.UNANSWERED

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        self._parser = None  # it refers to this object: no circle is left to a resting collector

    def on_message_complete(self) -> None:
        """Take the status; httptools calls this. An interim answer (1xx) is none."""
        status = self._parser.get_status_code()
        if status >= 200:
            self._status = status
            # An answer that overtakes its request leaves the rest of the request unsent.
            self.is_reusable = self._parser.should_keep_alive() and self.unsent is None
