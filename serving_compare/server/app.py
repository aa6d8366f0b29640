"""The application of one worker: routes, error answers, OpenAPI. `make_app` puts it together.

From the outside in: `SiblingOrigins`, an access log if wanted, the gate, then FastAPI. Further
routers are added in `_include_routers`, one line each. What they are given:

    slot        `ModelSlot`: `slot.current` (or `slot.find(name)`) once a request; the `LoadedModel`
                has name, version, labels, max_tokens, max_ids, vocab_size, `lookup` (a
                `LookupModel`, or None: no streams), `run_texts`, `run_ids`, `check_ids`, `tokenize`
    limits      `Limits`: max_batch, ...
    lifecycle   `Lifecycle`: `is_ready`, `is_draining`

They raise `RequestError` or `InputError`; the handlers here turn them into the error answer. Paths
that end in `:predict` or `/infer` have passed the gate when a router sees them: the body is read
and bounded, nothing else is computed meanwhile, `queue_ns(request.scope)` says how long it waited.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving_compare.server.batching import Batcher
from serving_compare.server.config import Limits, Sibling
from serving_compare.server.errors import RETRY, RequestError, format_error
from serving_compare.server.gate import JSON_HEADER, QUEUE_NS, Gate, Reply, Respond, log_failure
from serving_compare.server.lifecycle import Lifecycle
from serving_compare.server.logs import log
from serving_compare.server.metrics import Meters
from serving_compare.server.model_slot import ModelSlot
from serving_compare.server.openapi import (
    DESCRIBE_RESPONSES,
    PREDICT_ROUTE,
    READY_RESPONSES,
    SERVERS_RESPONSES,
    make_openapi,
)
from serving_compare.server.predict import (
    format_response,
    parse_request,
    run_request,
    timing_header,
)

_PREFIX, _ENDING = "/v1/models/", ":predict"


class Application(NamedTuple):
    """What a worker runs: the outermost ASGI layer, and the gate within it."""

    asgi: ASGIApp
    gate: Gate


def queue_ns(scope: Scope) -> int:
    """Return how long a request waited for its turn."""
    waited: int = scope.get(QUEUE_NS, 0)
    return waited


def make_app(
    slot: ModelSlot,
    lifecycle: Lifecycle,
    limits: Limits,
    siblings: Sequence[Sibling],
    *,
    page: bool,
) -> ASGIApp:
    """Return a worker's application with counters of its own; see `make_application`."""
    return make_application(
        slot, lifecycle, limits, siblings, page=page, meters=Meters(), access_log=False
    ).asgi


def make_application(
    slot: ModelSlot,
    lifecycle: Lifecycle,
    limits: Limits,
    siblings: Sequence[Sibling],
    *,
    page: bool,
    meters: Meters,
    access_log: bool,
) -> Application:
    """Return a worker's application.

    Args:
        slot: The model; may still be loading.
        lifecycle: Of the worker.
        limits: What requests may ask for.
        siblings: All backends of the server.
        page: Whether `GET /` shows the page.
        meters: What is counted.
        access_log: Whether each request is logged.
    """
    respond = make_respond(slot, limits)
    app = FastAPI(
        title="gatetable",
        version="1",
        description="GRU text classifiers: one model, one backend, one port.",
        redirect_slashes=False,
        redoc_url=None,
    )
    app.add_exception_handler(RequestError, _answer_request_error)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_exception_handler(Exception, _answer_failure)
    # First: another method there is told `Allow: POST`, not what /v1/models/{name} allows.
    app.include_router(_predict_router(respond))
    app.include_router(_operations_router(slot, lifecycle, limits, siblings, meters))
    _include_routers(app, slot, lifecycle, limits, siblings, page=page)
    app.openapi = lambda: make_openapi(app, slot, limits)  # type: ignore[method-assign]
    gate = Gate(app, respond, limits=limits, lifecycle=lifecycle, meters=meters)
    outside: ASGIApp = AccessLog(gate) if access_log else gate
    if page:
        from serving_compare.server.page import SiblingOrigins

        outside = SiblingOrigins(outside, siblings)
    return Application(outside, gate)


def _include_routers(
    app: FastAPI,
    slot: ModelSlot,
    lifecycle: Lifecycle,
    limits: Limits,
    siblings: Sequence[Sibling],
    *,
    page: bool,
) -> None:
    # Here, as they import `queue_ns` from this module.
    from serving_compare.server import open_inference, stream
    from serving_compare.server import page as page_module

    app.include_router(open_inference.router_for(slot, lifecycle, limits))
    app.include_router(stream.router_for(slot, lifecycle))
    if page:
        app.include_router(page_module.router_for(slot, siblings))


def make_respond(slot: ModelSlot, limits: Limits) -> Respond:
    """Return what answers `:predict` behind the gate, given the scope and the body."""
    batcher = Batcher() if limits.micro_batch > 1 else None

    async def respond(scope: Scope, body: bytes) -> Reply:
        model = slot.find(scope["path"].removeprefix(_PREFIX).removesuffix(_ENDING))
        request = parse_request(body, model, limits)
        if batcher is None:
            answer = run_request(request, model)
        else:
            answer = await batcher.run(request, model)
        return Reply(
            200,
            (
                JSON_HEADER,
                timing_header(queue_ns(scope), answer.model_ns),
                (b"x-model-version", b"%d" % model.version),
            ),
            format_response(request, answer.probabilities, model),
        )

    return respond


def _predict_router(respond: Respond) -> APIRouter:
    """Return the route for `/openapi.json` and for other methods; the gate answers POST itself."""
    router = APIRouter(tags=["predict"])

    @router.post("/v1/models/{name}:predict", **PREDICT_ROUTE)
    async def predict(name: str, request: Request) -> Response:
        """Return the k best labels of texts, or of ids, and their probabilities."""
        return _to_response(await respond(request.scope, await request.body()))

    return router


def _operations_router(
    slot: ModelSlot,
    lifecycle: Lifecycle,
    limits: Limits,
    siblings: Sequence[Sibling],
    meters: Meters,
) -> APIRouter:
    router = APIRouter(tags=["operations"])

    @router.get("/livez")
    async def livez() -> dict[str, str]:
        """The process answers."""
        return {"status": "alive"}

    @router.get("/readyz", responses=READY_RESPONSES)
    async def readyz() -> dict[str, str]:
        """New requests are welcome."""
        if not lifecycle.is_ready:
            raise RequestError(
                503,
                "not_ready",
                f"server: expected ready, found {lifecycle.state}. Ask again in a second.",
                RETRY,
            )
        return {"status": "ready"}

    @router.get(
        "/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}}
    )
    def metrics() -> Response:  # not a coroutine: it runs in a thread, as it takes milliseconds
        """Counters of all workers of this backend, for Prometheus."""
        return Response(meters.format(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @router.get("/v1/servers", responses=SERVERS_RESPONSES)
    async def servers() -> list[dict[str, str]]:
        """The backends of this server and where each answers."""
        return [sibling._asdict() for sibling in siblings]

    @router.get("/v1/models/{name}", responses=DESCRIBE_RESPONSES)
    async def describe(name: str) -> dict[str, Any]:
        """Describe the model, and the limits of requests."""
        if name.endswith(":predict"):
            raise HTTPException(405, "Method Not Allowed", {"allow": "POST"})
        model = slot.find(name)
        return {
            "name": model.name,
            "version": str(model.version),
            "backend": model.backend,
            "labels": list(model.labels),
            "max_tokens": model.max_tokens,
            "vocab_size": model.vocab_size,
            "limits": asdict(limits) | {"max_tokens": model.max_ids},
        }

    return router


class AccessLog:
    """ASGI layer that logs each request: method, path, status, milliseconds. Never its body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and log the outcome."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_s = time.perf_counter()
        status = 0

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note_status)
        finally:
            log(
                "request",
                method=scope["method"],
                path=scope["path"][:200],
                status=status,
                elapsed_ms=round((time.perf_counter() - began_s) * 1e3, 3),
            )


def _to_response(reply: Reply) -> Response:
    response = Response(reply.body, reply.status)
    response.raw_headers += reply.headers
    return response


async def _answer_request_error(request: Request, err: Exception) -> Response:
    assert isinstance(err, RequestError)
    body = format_error(err.code, err.message)
    return _to_response(Reply(err.status, (JSON_HEADER, *err.headers), body))


async def _answer_http_exception(request: Request, err: Exception) -> Response:
    assert isinstance(err, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(err.status_code, "bad_request")
    place = f"{request.scope['method'][:20]} {request.scope['path'][:80]}"
    message = f"{place}: {err.detail}. See /docs for what there is."
    headers = [(k.lower().encode(), v.encode()) for k, v in (err.headers or {}).items()]
    return _to_response(
        Reply(err.status_code, (JSON_HEADER, *headers), format_error(code, message))
    )


async def _answer_validation_error(request: Request, err: Exception) -> Response:
    assert isinstance(err, RequestValidationError)
    first = err.errors()[0]
    message = f"{'.'.join(map(str, first['loc']))}: {first['msg']}."
    return _to_response(Reply(400, (JSON_HEADER,), format_error("wrong_type", message)))


async def _answer_failure(request: Request, err: Exception) -> Response:
    return await _answer_request_error(request, log_failure(err))
