"""Bounds on connections, which uvicorn's HTTP protocol leaves open: heads, idleness, their number.

uvicorn arms a timer only behind an answer. A client that sends its head letter by letter, or
nothing at all, or stops in the middle of a body whose refusal it has, would hold its connection
for ever.
`sweep` ends those; it is called now and then, which costs a request no timer.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving_compare.server.config import Limits
from serving_compare.server.errors import RequestError, format_error
from serving_compare.server.gate import (
    CLOSE,
    INFERENCE_ENDINGS,
    JSON_HEADER,
    Gate,
    Reply,
    format_refusal,
    send_reply,
)

MAX_HEAD_BYTES = 32_768
KEEP_ALIVE_S = 60
_ENDINGS = tuple(ending.encode() for ending in INFERENCE_ENDINGS)


class BoundedProtocol(HttpToolsProtocol):
    """One connection. The class attributes are set once a process, before the first one comes.

    Attributes:
        limits: Of heads and connections.
        gate: Asked about a request as soon as its head is there. A refusal is then written at
            once: no task, no scope, no ASGI message is made, which together cost as much as
            answering a short text. Twice the load a server can bear would otherwise be spent
            on refusing it. None: the gate is met further in.
    """

    limits: ClassVar[Limits] = Limits()
    gate: ClassVar[Gate | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._usual_app = self.app
        self.url = b""  # for refusals of what is no HTTP at all
        self._opened_s = 0.0
        self._reading_since_s = 0.0  # 0 where no message has begun
        self._partial_bytes = 0
        self._was_closing = False
        self._refusal = b""  # to be written when the request it answers is complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or close it where there are too many."""
        super().connection_made(transport)
        self._opened_s = self.loop.time()
        if len(self.connections) > self.limits.max_connections:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Feed the parser; a head that does not end is refused while it grows."""
        super().data_received(data)
        if self._reading_since_s and self._partial_bytes >= 0:
            self._partial_bytes += len(data)
            if self._partial_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self._refuse(431, "head_too_large", _HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Note when the client began to send a request."""
        super().on_message_begin()
        self._reading_since_s = self.loop.time()
        self._partial_bytes = 0

    def on_headers_complete(self) -> None:
        """Start answering; heads that came at once are measured here."""
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        self.app = self._usual_app if size <= MAX_HEAD_BYTES else _refuse_head
        self._partial_bytes = -1
        gate = type(self).gate
        if gate is not None and self._is_plain_inference():
            refusal = gate.refuse_early()
            if refusal is not None:
                self._refusal = self._format(refusal)
                return
            super().on_headers_complete()
            # Only what is sure to reach the gate, whatever the URL looked like.
            if self.scope["path"].endswith(INFERENCE_ENDINGS) and self.app is self._usual_app:
                gate.coming += 1
            return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass the body on, or over."""
        if not self._refusal:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the client owes nothing more; answer it where it is refused."""
        self._reading_since_s = 0.0
        if not self._refusal:
            super().on_message_complete()
            return
        self.transport.write(self._refusal)
        self._refusal = b""
        self._opened_s = self.loop.time()  # idle from here on
        if not self.parser.should_keep_alive() or CLOSE in self.server_state.default_headers:
            self.transport.close()

    def _is_plain_inference(self) -> bool:
        """Whether this is an inference request that needs nothing but an answer of its own."""
        return (
            self.url.endswith(_ENDINGS)
            and b"?" not in self.url  # behind which it would be no path's ending
            and not self.parser.should_upgrade()
            and self.parser.get_method() == b"POST"
            and (self.cycle is None or self.cycle.response_complete)  # its turn on the connection
            and not self.expect_100_continue
            and all(name != b"origin" for name, _ in self.headers)  # a page, to be let read it
        )

    def _format(self, refusal: RequestError) -> bytes:
        """Return a whole answer, as bytes."""
        body = format_refusal(refusal, self.url.decode("latin-1"))
        headers = [
            *self.server_state.default_headers,
            (b"content-length", b"%d" % len(body)),
            JSON_HEADER,
            *refusal.headers,
        ]
        lines = [b"%b: %b\r\n" % header for header in headers]
        return b"".join((STATUS_LINE[refusal.status], *lines, b"\r\n", body))

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, in the form of every other error."""
        self._refuse(
            400, "malformed_http", "request: expected HTTP/1.1, found something else. Send it anew."
        )

    def _refuse(self, status: int, code: str, message: str) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.close()  # an answer between an earlier request and its own would lie
            return
        self.transport.write(self._format(RequestError(status, code, message, [CLOSE])))
        self.transport.close()

    def sweep(self, now_s: float) -> None:
        """End this connection where its client owes the rest of something for too long."""
        if self.transport.is_closing():
            if self._was_closing:  # since the last sweep: it does not read its answer
                self.transport.abort()
            self._was_closing = True
            return
        if self.cycle is not None and not self.cycle.response_complete:
            return  # the gate bounds what a request may take
        if self._reading_since_s:
            if now_s - self._reading_since_s > self.limits.head_timeout_ms / 1e3:
                self._refuse(408, "head_timeout", _HEAD_TIMEOUT)
        elif self.timeout_keep_alive_task is None and now_s - self._opened_s > KEEP_ALIVE_S:
            self.transport.close()

    def shutdown(self) -> None:
        """Let go of an idle client; let one that is sending or waiting finish first.

        The worker has put `Connection: close` into all answers by then.
        """
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
        elif not self._reading_since_s:
            self.transport.close()


_HEAD_TOO_LARGE = f"head: expected at most {MAX_HEAD_BYTES} bytes, found more. Send fewer headers."
_HEAD_TIMEOUT = "head: expected all of it within a few seconds, found part of it. Send it anew."


async def _refuse_head(scope: Scope, receive: Receive, send: Send) -> None:
    body = format_error("head_too_large", _HEAD_TOO_LARGE)
    await send_reply(send, Reply(431, (JSON_HEADER, CLOSE), body))
