"""The application of one worker: routes, error answers, OpenAPI. `make_app` puts it together.

Further routers are added in `make_app`, one line each. What they are given:

    slot        `ModelSlot`: `slot.current` (or `slot.find(name)`) once a request; the `LoadedModel`
                has name, version, labels, max_tokens, max_ids, vocab_size, `lookup` (a
                `LookupModel`, or None: no streams), `run_texts`, `run_ids`, `check_ids`, `tokenize`
    limits      `Limits`: max_batch, ...
    lifecycle   `Lifecycle`: `is_ready`, `is_draining`

    open_inference.router_for(slot, lifecycle, limits) -> APIRouter
    page.router_for(slot, siblings) -> APIRouter           (GET /; asks /v1/servers, which is here)
    page.SiblingOrigins(app, siblings): around all else, so that the page can read refusals too
    stream.router_for(slot, lifecycle) -> APIRouter

They raise `RequestError` or `InputError`; the handlers here turn them into the error answer. Paths
that end in `:predict` or `/infer` have passed the gate when a router sees them: the body is read
and bounded, nothing else is computed meanwhile, and `queue_ns(request.scope)` says how long it waited.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Scope

from serving_compare.server.config import Limits, Sibling
from serving_compare.server.errors import RequestError, format_error
from serving_compare.server.lifecycle import Lifecycle
from serving_compare.server.model_slot import ModelSlot
from serving_compare.server.page import SiblingOrigins
from serving_compare.server.predict import (
    format_response,
    parse_request,
    run_request,
    timing_header,
)


def queue_ns(scope: Scope) -> int:
    """Return how long a request waited for its turn."""
    waited: int = scope.get("gatetable.queue_ns", 0)
    return waited


def make_app(
    slot: ModelSlot,
    lifecycle: Lifecycle,
    limits: Limits,
    siblings: Sequence[Sibling],
    *,
    page: bool,
) -> ASGIApp:
    """Return the worker's application."""
    app = FastAPI(title="gatetable", version="1", redirect_slashes=False)
    app.add_exception_handler(RequestError, _answer_request_error)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.include_router(_health_router(slot, lifecycle, siblings))
    app.include_router(_predict_router(slot, limits))
    for name, arguments in (
        ("open_inference", (slot, lifecycle, limits)),
        ("stream", (slot, lifecycle)),
        *([("page", (slot, siblings))] if page else []),
    ):
        module = f"serving_compare.server.{name}"
        if importlib.util.find_spec(module):
            app.include_router(importlib.import_module(module).router_for(*arguments))
    return SiblingOrigins(app, siblings) if page else app


def _health_router(slot: ModelSlot, lifecycle: Lifecycle, siblings: Sequence[Sibling]) -> APIRouter:
    router = APIRouter()

    @router.get("/livez")
    async def livez() -> dict[str, str]:
        """The process answers."""
        return {"status": "alive"}

    @router.get("/readyz")
    async def readyz() -> dict[str, str]:
        """New requests are welcome."""
        if not lifecycle.is_ready:
            raise RequestError(
                503,
                "not_ready",
                f"server: expected ready, found {lifecycle.state}. Ask again in a second.",
                [(b"retry-after", b"1")],
            )
        return {"status": "ready"}

    @router.get("/v1/servers")
    async def servers() -> list[dict[str, str]]:
        """The backends of this server and where each answers."""
        return [sibling._asdict() for sibling in siblings]

    return router


def _predict_router(slot: ModelSlot, limits: Limits) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/models/{name}:predict")
    async def predict(name: str, request: Request) -> Response:
        """Return the best labels of texts or of ids."""
        model = slot.find(name)
        checked = parse_request(await request.body(), model, limits)
        answer = run_request(checked, model)
        response = Response(
            format_response(checked, answer.probabilities, model), media_type="application/json"
        )
        response.raw_headers += [
            timing_header(queue_ns(request.scope), answer.model_ns),
            (b"x-model-version", b"%d" % model.version),
        ]
        return response

    @router.get("/v1/models/{name}")
    async def describe(name: str) -> dict[str, Any]:
        """Describe the model and the limits of requests."""
        model = slot.find(name)
        return {
            "name": model.name,
            "version": str(model.version),
            "backend": model.backend,
            "labels": model.labels,
            "max_tokens": model.max_tokens,
            "vocab_size": model.vocab_size,
            "limits": limits.__dict__,
        }

    return router


async def _answer_request_error(request: Request, err: Exception) -> Response:
    assert isinstance(err, RequestError)
    response = Response(format_error(err.code, err.message), err.status)
    response.raw_headers += [(b"content-type", b"application/json"), *err.headers]
    return response


async def _answer_http_exception(request: Request, err: Exception) -> Response:
    assert isinstance(err, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(err.status_code, "bad_request")
    return JSONResponse(
        {"error": {"code": code, "message": f"{request.scope['path'][:80]}: {err.detail}."}},
        err.status_code,
        err.headers,
    )


async def _answer_validation_error(request: Request, err: Exception) -> Response:
    assert isinstance(err, RequestValidationError)
    first = err.errors()[0]
    place = ".".join(map(str, first["loc"]))
    return Response(
        format_error("wrong_type", f"{place}: {first['msg']}."),
        400,
        media_type="application/json",
    )
