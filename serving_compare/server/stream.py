"""`WS /v1/models/{name}:stream`: an answer to every letter of a text that is being typed.

The client sends `{"text": "...so far", "k": 3}` as often as the text changes; each message is
answered by one, in order: predictions, tokens, GRU steps taken and spared. The answer is
the one that `:predict` gives to the same text. A text that cannot be answered is answered with the
error, and the stream goes on.

Bounded: bytes of a message, messages a second (further ones wait), time without a message, streams
of a worker. Only the lookup runtime has streams; elsewhere the path is not found.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, NamedTuple

import pydantic_core
from fastapi import APIRouter, WebSocket
from fastapi.responses import Response
from starlette.websockets import WebSocketDisconnect

from serving_compare.server.errors import InputError, RequestError, format_error
from serving_compare.server.lifecycle import Lifecycle
from serving_compare.server.model_slot import LoadedModel, ModelSlot
from serving_compare.server.predict import DEFAULT_K, rank, show
from serving_compare.server.typeahead import Typeahead

_KEYS = frozenset({"text", "k"})


def _is_the_servers_affair(record: logging.LogRecord) -> bool:
    # uvicorn logs a stack for every message that is no UTF-8; closing the stream is enough.
    return not record.getMessage().startswith("Invalid UTF-8 sequence received")


class StreamLimits(NamedTuple):
    """What streams may ask of a worker.

    Attributes:
        max_message_bytes: Longer messages end the stream.
        messages_per_s: Of one stream, over time; more wait for their turn, so the client's own
            writes wait as well. Nobody types so fast.
        burst: Messages that need not wait after a pause.
        idle_s: A stream without a message for so long is ended.
        max_streams: Open streams; more are refused with 429.
    """

    max_message_bytes: int = 16_384
    messages_per_s: float = 60.0
    burst: int = 30
    idle_s: float = 120.0
    max_streams: int = 64


class Question(NamedTuple):
    """One checked message: the text so far, and how many labels are wanted."""

    text: str
    k: int


def parse_question(message: str, model: LoadedModel) -> Question:
    """Return the checked message.

    Raises:
        InputError: It is not JSON, or not of the documented form.
    """
    try:
        fields = pydantic_core.from_json(message, allow_inf_nan=False)
    except ValueError as err:
        raise InputError("malformed_json", f"message: expected JSON, found {err}.") from err
    if type(fields) is not dict or type(fields.get("text")) is not str:
        raise InputError(
            "wrong_type", 'message: expected {"text": "...", "k": 3}, found no text in it.'
        )
    if unknown := fields.keys() - _KEYS:
        raise InputError(
            "unknown_field", f"message: expected text and k, found {min(unknown)[:40]!r}."
        )
    k = fields.get("k", min(DEFAULT_K, len(model.labels)))
    if type(k) is not int or not 1 <= k <= len(model.labels):
        raise InputError(
            "k_out_of_range",
            f"k: expected an integer from 1 to {len(model.labels)}, found {show(k)}.",
        )
    return Question(fields["text"], k)


class TypedText:
    """One client's text, answered by whatever version of the model is in use.

    Args:
        model: The version in use when the client came.
    """

    def __init__(self, model: LoadedModel) -> None:
        self._begin(model)

    def _begin(self, model: LoadedModel) -> None:
        assert model.lookup is not None
        shape = model.artifact.manifest["model"]
        self._model = model
        self._typeahead = Typeahead(
            model.lookup, layers=shape["layers"], bidirectional=shape["bidirectional"]
        )

    def answer(self, message: str, model: LoadedModel) -> bytes:
        """Return the answer to one message, or the error: JSON in UTF-8."""
        if model is not self._model:
            self._begin(model)
        try:
            question = parse_question(message, model)
        except InputError as err:
            return format_error(err.code, err.message)
        began_ns = time.perf_counter_ns()
        found = self._typeahead.answer(question.text)
        model_ns = time.perf_counter_ns() - began_ns
        answer: dict[str, Any] = {
            "version": str(model.version),
            "predictions": [
                {"label": model.labels[label], "probability": probability}
                for label, probability in rank(found.probabilities[None], question.k)[0]
            ],
            "tokens": model.tokenize([question.text])[0],
            "tokens_reused": found.tokens_reused,
            "steps_computed": found.steps_computed,
            "steps_reused": found.steps_reused,
            "model_us": model_ns / 1000,
        }
        return pydantic_core.to_json(answer)


class Pace:
    """Tells how long a stream's next message has to wait: a bucket that refills with time.

    Args:
        per_s: Messages a second.
        burst: How many the bucket holds.
    """

    def __init__(self, per_s: float, burst: int) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._held = float(burst)
        self._at_s = time.monotonic()

    def take(self, now_s: float) -> float:
        """Count one message at `now_s` and return the seconds it has to wait, mostly 0."""
        refilled = self._held + (now_s - self._at_s) * self._per_s
        self._at_s = now_s
        self._held = min(self._burst, refilled) - 1
        return max(0.0, -self._held / self._per_s)


def router_for(
    slot: ModelSlot, lifecycle: Lifecycle, limits: StreamLimits | None = None
) -> APIRouter:
    """Return the route of the stream."""
    router = APIRouter()
    bounds = limits or StreamLimits()
    open_streams: set[WebSocket] = set()
    logging.getLogger("uvicorn.error").addFilter(_is_the_servers_affair)

    def admit(name: str) -> LoadedModel:
        model = slot.find(name)
        if model.lookup is None:
            raise RequestError(
                404,
                "no_stream",
                f"backend {model.backend}: expected lookup, the one that has streams. POST the "
                "text to :predict.",
            )
        retry = [(b"retry-after", b"1")]
        if not lifecycle.is_ready:
            raise RequestError(
                503,
                "not_ready",
                f"server: expected ready, found {lifecycle.state}. Ask again in a second.",
                retry,
            )
        if len(open_streams) >= bounds.max_streams:
            raise RequestError(
                429,
                "too_many_streams",
                f"streams: expected at most {bounds.max_streams} open ones. POST the text to "
                ":predict, or try again.",
                retry,
            )
        return model

    @router.websocket("/v1/models/{name}:stream")
    async def stream(websocket: WebSocket, name: str) -> None:
        try:
            model = admit(name)
        except RequestError as err:
            refusal = Response(
                format_error(err.code, err.message), err.status, media_type="application/json"
            )
            refusal.raw_headers += err.headers
            await websocket.send_denial_response(refusal)
            return
        open_streams.add(websocket)
        try:
            await websocket.accept()
            await converse(websocket, TypedText(model), name)
        except WebSocketDisconnect:
            pass  # the client left
        finally:
            open_streams.discard(websocket)

    async def converse(websocket: WebSocket, text: TypedText, name: str) -> None:
        pace = Pace(bounds.messages_per_s, bounds.burst)
        while True:
            try:
                message = await asyncio.wait_for(websocket.receive(), bounds.idle_s)
            except TimeoutError:
                await websocket.close(1001, "No message for a while.")
                return
            if message["type"] == "websocket.disconnect":
                return
            written = message.get("text")
            if written is None:
                await websocket.close(1003, "Expected text, found bytes.")
                return
            if len(written.encode()) > bounds.max_message_bytes:
                await websocket.close(1009, f"Expected {bounds.max_message_bytes} bytes at most.")
                return
            if wait_s := pace.take(time.monotonic()):
                await asyncio.sleep(wait_s)
            await websocket.send_text(text.answer(written, slot.find(name)).decode())

    return router
