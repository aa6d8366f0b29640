"""Admission of the requests that need the model, before anything else is done with them.

The order: ready? content type, declared length; queue bound and predicted wait; the body, bounded
in bytes and time; the turn; how long it really waited; then the request is answered. A refusal
costs a look at the head. Whatever else the server answers passes by untouched.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving_compare.server.config import Limits
from serving_compare.server.errors import RETRY, Headers, RequestError, format_error
from serving_compare.server.lifecycle import Lifecycle
from serving_compare.server.logs import LOGGER
from serving_compare.server.metrics import Meters
from serving_compare.server.turnstile import Turnstile

INFERENCE_ENDINGS = (":predict", "/infer")
MAX_HELD_BYTES = 64 * 2**20
"""Of all bodies that are being read or wait for their turn."""
QUEUE_NS = "gatetable.queue_ns"
"""Key of a request's scope: how long it waited for its turn."""
JSON_HEADER = (b"content-type", b"application/json")
CLOSE = (b"connection", b"close")


class Reply(NamedTuple):
    """A whole answer, ready to be sent. `headers` do without the length."""

    status: int
    headers: Headers
    body: bytes


Respond = Callable[[Scope, bytes], Awaitable[Reply]]


class Gate:
    """Outermost ASGI layer of the paths in `INFERENCE_ENDINGS`. Belongs to one event loop.

    Args:
        app: Answers everything that the gate does not.
        respond: Answers `:predict` from its scope and body. It does without the framework's
            routing, which costs more than a short text does in the lookup table.
        limits: See `Limits`.
        lifecycle: Whether requests are accepted.
        meters: Told of every outcome.

    Attributes:
        coming: Requests that `refuse_early` has let pass and that are not here yet.
    """

    def __init__(
        self,
        app: ASGIApp,
        respond: Respond,
        *,
        limits: Limits,
        lifecycle: Lifecycle,
        meters: Meters,
    ) -> None:
        self._app = app
        self._respond = respond
        self._limits = limits
        self._lifecycle = lifecycle
        self._meters = meters
        self._held_bytes = 0
        self.coming = 0
        self._reading: dict[asyncio.Task[None], float] = {}
        self.turnstile = Turnstile(limits.micro_batch)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Admit, refuse, or let pass."""
        if (
            scope["type"] != "http"
            or not scope["path"].endswith(INFERENCE_ENDINGS)
            or scope["method"] != "POST"
        ):
            await self._app(scope, receive, send)
            return
        try:
            reply = await self._admit(scope, receive, send)
        except RequestError as err:
            self._meters.count(err.status, err.code)
            body = format_refusal(err, scope["path"])
            reply = Reply(err.status, (JSON_HEADER, *err.headers), body)
        if reply is not None:
            await send_reply(send, reply)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> Reply | None:
        """Return the answer, or None where it is sent already or nobody waits for it."""
        if self.coming:
            self.coming -= 1
        self._check_accepts()
        self._check_head(dict(scope["headers"]))
        self._check_queue()
        body = await self._read_body(receive)
        if body is None:
            return None
        arrived_ns = time.perf_counter_ns()
        self._check_queue()  # others may have come while the body did
        self._held_bytes += len(body)
        try:
            await self.turnstile.enter()
        finally:
            self._held_bytes -= len(body)
        computed = False
        try:
            waited_ns = time.perf_counter_ns() - arrived_ns
            self._check_waited(waited_ns / 1e6)
            computed = True
            scope[QUEUE_NS] = waited_ns
            self._meters.observe_queue(waited_ns)
            if scope["path"].endswith(":predict"):
                return await self._respond_safely(scope, body)
            await self._app(scope, _replay(body, receive), self._count_status(send))
            return None
        finally:
            self.turnstile.leave(computed=computed)

    def _check_accepts(self) -> None:
        if not self._lifecycle.accepts:
            raise RequestError(
                503,
                "not_ready",
                f"server: expected ready, found {self._lifecycle.state}. Ask again in a second.",
                RETRY,
            )

    def _check_head(self, headers: Mapping[bytes, bytes]) -> None:
        kind = headers.get(b"content-type", b"")
        if kind != b"application/json" and not _is_json(kind):
            raise RequestError(
                415,
                "unsupported_media_type",
                f"content-type: expected application/json, found {kind[:60].decode('latin-1')!r}.",
            )
        encoding = headers.get(b"content-encoding", b"identity")
        if encoding != b"identity":
            raise RequestError(
                415,
                "unsupported_encoding",
                f"content-encoding: expected none, found {encoding[:60].decode('latin-1')!r}. "
                "Send plain JSON.",
            )
        declared = headers.get(b"content-length")
        if declared is None:
            if b"transfer-encoding" not in headers:
                raise RequestError(
                    411,
                    "length_required",
                    "content-length: expected the number of bytes of the body, found none.",
                )
        elif len(declared) > 18 or int(declared) > self._limits.max_body_bytes:
            raise self._too_large(declared[:18].decode("latin-1"))

    def refuse_early(self) -> RequestError | None:
        """Return why a request that comes now would be refused for others' sake, or None.

        For a caller that has not made anything of the request yet; it counts those it lets pass
        in `coming`, as they are not in the queue before the loop has gone round.
        """
        try:
            self._check_accepts()
            self._check_queue(self.coming)
        except RequestError as err:
            self._meters.count(err.status, err.code)
            return err
        return None

    def _check_queue(self, coming: int = 0) -> None:
        waiting = self.turnstile.waiting + coming
        # With a queue of size 0, the turn itself is the one place.
        if waiting and waiting >= self._limits.queue_size:
            raise RequestError(
                429,
                "queue_full",
                f"queue: expected fewer than {self._limits.queue_size} waiting requests, found "
                f"{waiting}. Ask again in a second.",
                RETRY,
            )
        if self._held_bytes > MAX_HELD_BYTES:
            raise RequestError(
                429,
                "queue_full",
                f"queue: expected at most {MAX_HELD_BYTES} bytes of waiting bodies, found "
                f"{self._held_bytes}. Ask again in a second.",
                RETRY,
            )
        wait_ms = waiting * self.turnstile.request_s * 1e3
        if wait_ms > self._limits.max_wait_ms:
            raise self._too_long(f"{wait_ms:.1f} ms ahead")

    def _check_waited(self, waited_ms: float) -> None:
        if waited_ms > self._limits.deadline_ms:
            raise RequestError(
                504,
                "deadline_exceeded",
                f"deadline: expected to begin within {self._limits.deadline_ms:g} ms, found "
                f"{waited_ms:.1f} ms over. Ask again, or ask for less at once.",
            )
        if waited_ms > self._limits.max_wait_ms:
            raise self._too_long(f"{waited_ms:.1f} ms over")

    async def _read_body(self, receive: Receive) -> bytes | None:
        """Return the whole body, or None where the client left before it was complete."""
        parts: list[bytes] = []
        size = 0
        task = asyncio.current_task()
        assert task is not None
        self._reading[task] = time.monotonic()
        try:
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return None
                parts.append(message["body"])
                size += len(message["body"])
                self._held_bytes += len(message["body"])
                if size > self._limits.max_body_bytes:
                    raise self._too_large(f"{size} so far")
                if not message["more_body"]:
                    return parts[0] if len(parts) == 1 else b"".join(parts)
                self._check_queue()
        except asyncio.CancelledError as err:
            if task in self._reading:
                raise
            task.uncancel()  # it was `sweep`, and the client is to have an answer
            raise RequestError(
                408,
                "body_timeout",
                f"body: expected all of it within {self._limits.body_timeout_ms:g} ms, found "
                f"{size} bytes.",
                [CLOSE],
            ) from err
        finally:
            self._reading.pop(task, None)
            self._held_bytes -= size

    def sweep(self, now_s: float) -> None:
        """Answer 408 to those whose body takes too long; `now_s` is of `time.monotonic`.

        To be called now and then: a timer for each request would cost it several µs.
        """
        self.coming = 0  # whoever was on the way has long arrived
        too_early_s = now_s - self._limits.body_timeout_ms / 1e3
        for task, began_s in list(self._reading.items()):
            if began_s < too_early_s:
                del self._reading[task]
                task.cancel()

    async def _respond_safely(self, scope: Scope, body: bytes) -> Reply:
        """Return the answer; whatever fails inside becomes a 500 with an id that is in the log."""
        try:
            reply = await self._respond(scope, body)
        except RequestError:
            raise
        except Exception as err:
            raise log_failure(err) from err
        self._meters.count(reply.status)
        return reply

    def _count_status(self, send: Send) -> Send:
        async def count_and_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._meters.count(message["status"])
            await send(message)

        return count_and_send

    def _too_large(self, found: str) -> RequestError:
        return RequestError(
            413,
            "body_too_large",
            f"body: expected at most {self._limits.max_body_bytes} bytes, found {found}. Send the "
            "instances in several requests.",
            [CLOSE],
        )

    def _too_long(self, found: str) -> RequestError:
        return RequestError(
            429,
            "wait_too_long",
            f"wait: expected at most {self._limits.max_wait_ms:g} ms, found {found}. Ask again in "
            "a second.",
            RETRY,
        )


def log_failure(err: Exception) -> RequestError:
    """Log an error nobody foresaw; return the 500 that names it to the client by its id."""
    request_id = secrets.token_hex(8)
    LOGGER.error("request_failed", exc_info=err, extra={"fields": {"request_id": request_id}})
    return RequestError(
        500,
        "internal_error",
        f"server: expected an answer, found an error of its own. Its log has it as {request_id}.",
        [(b"x-request-id", request_id.encode())],
    )


async def send_reply(send: Send, reply: Reply) -> None:
    """Send a whole answer."""
    headers = [(b"content-length", b"%d" % len(reply.body)), *reply.headers]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


def format_refusal(err: RequestError, path: str) -> bytes:
    """Return the body of an error answer; the Open Inference Protocol wants a plain string."""
    if path.endswith("/infer"):
        return json.dumps({"error": err.message}).encode()
    return format_error(err.code, err.message)


def _is_json(kind: bytes) -> bool:
    """Whether a content type is JSON in UTF-8, whatever its parameters say otherwise."""
    name, *parameters = (part.strip().lower() for part in kind.split(b";"))
    charsets = [part[8:].strip(b'"') for part in parameters if part.startswith(b"charset=")]
    return name == b"application/json" and all(
        charset in (b"utf-8", b"utf8") for charset in charsets
    )


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body that was read, then what comes after it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay
