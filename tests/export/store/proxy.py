"""A TCP proxy that counts HTTP requests and can do harm: hold them up, or tell a test of each."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType

_HEAD = re.compile(rb"(?:GET|PUT|POST|HEAD|DELETE) [^ ]+ HTTP/1\.1\r\n")


class Proxy:
    """Forwards 127.0.0.1:`port` to another port.

    Args:
        target: The other port.

    Attributes:
        requests: First lines of what was asked, in order.
        on_request: Called with the number of a request, from 1, before it is forwarded.
        drip_s: Seconds between two bytes of every answer; 0 for at once.
        cut_at: Bytes of answers on one connection after which it is closed, once; None for never.
    """

    def __init__(self, target: int) -> None:
        self.requests: list[str] = []
        self.on_request: Callable[[int], None] = lambda number: None
        self.drip_s = 0.0
        self.cut_at: int | None = None
        self._target = target
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                inner, _ = self._listener.accept()
            except OSError:
                return
            outer = socket.create_connection(("127.0.0.1", self._target))
            for work, pair in ((self._ask, (inner, outer)), (self._answer, (outer, inner))):
                threading.Thread(target=work, args=pair, daemon=True).start()

    def _note(self, data: bytes) -> None:
        found = _HEAD.match(data)
        if found:
            with self._lock:
                self.requests.append(found[0].decode().split(" HTTP")[0])
                number = len(self.requests)
            self.on_request(number)

    def _ask(self, source: socket.socket, sink: socket.socket) -> None:
        self._pump(source, sink, self._note, lambda: 0.0)

    def _answer(self, source: socket.socket, sink: socket.socket) -> None:
        passed = 0

        def note(data: bytes) -> None:
            nonlocal passed
            passed += len(data)
            with self._lock:
                if self.cut_at is not None and passed > self.cut_at:
                    self.cut_at = None
                    raise ConnectionError("cut, as a test asked")

        self._pump(source, sink, note, lambda: self.drip_s)

    def _pump(
        self,
        source: socket.socket,
        sink: socket.socket,
        note: Callable[[bytes], None],
        drip: Callable[[], float],
    ) -> None:
        try:
            while data := source.recv(65536):
                note(data)
                if drip():
                    for at in range(len(data)):
                        sink.sendall(data[at : at + 1])
                        time.sleep(drip())
                else:
                    sink.sendall(data)
        except OSError:
            pass
        finally:
            for each in (source, sink):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
