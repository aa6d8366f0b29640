"""The Open Inference Protocol (V2, REST) over the same models, for clients that speak it already.

Metadata, readiness and inference as in the protocol's `inference_rest` document, tensors as JSON.
Its errors are `{"error": "<sentence>"}`, a plain string, and so they are on these paths. Not
offered: tensors in binary form, shared memory, statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute

from serving_compare.server.app import queue_ns
from serving_compare.server.config import Limits
from serving_compare.server.errors import RequestError
from serving_compare.server.infer import AXES, DATATYPES, OUTPUTS, format_infer, parse_infer
from serving_compare.server.lifecycle import Lifecycle
from serving_compare.server.model_slot import LoadedModel, ModelSlot
from serving_compare.server.predict import run_request, timing_header

PLATFORMS = {"saved_model": "tensorflow_savedmodel", "onnx": "onnxruntime_onnx"}
"""Names other servers use for the same runtime; further ones are `gatetable_<backend>`."""
REASONS = {
    400: "The body says something wrong",
    404: "No such model or version",
    408: "The body did not come in time",
    411: "No length",
    413: "The body is too large",
    415: "The body is not JSON",
    429: "The queue is full",
    503: "Loading or draining",
    504: "It waited too long",
}
"""What an infer request can be refused with."""


def _schema(properties: dict[str, Any], *optional: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
    }


_STRING = {"type": "string"}
_SHAPE = {"type": "array", "items": {"type": "integer"}}
_ERROR = _schema({"error": _STRING})
_TENSOR = _schema(
    {
        "name": {"enum": list(AXES)},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}, "maxItems": 2},
        "datatype": {"enum": ["BYTES", "INT32"]},
        "parameters": {"type": "object"},
        "data": {"type": "array", "items": {}},
    },
    "parameters",
)
_INFER = _schema(
    {
        "id": _STRING,
        "parameters": _schema({"k": {"type": "integer", "minimum": 1}}, "k"),
        "inputs": {"type": "array", "items": _TENSOR, "minItems": 1, "maxItems": 2},
        "outputs": {
            "type": "array",
            "items": _schema(
                {"name": {"enum": list(OUTPUTS)}, "parameters": {"type": "object"}}, "parameters"
            ),
            "maxItems": 2,
        },
    },
    *("id", "parameters", "outputs"),
)

_EXAMPLE = {
    "inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a small cat"]}],
    "parameters": {"k": 1},
}
_TENSORS_OUT = {
    "type": "array",
    "items": _schema(
        {
            "name": {"enum": list(OUTPUTS)},
            "datatype": {"enum": ["FP32", "BYTES"]},
            "shape": _SHAPE,
            "data": {"type": "array", "items": {"type": ["number", "string"]}},
        }
    ),
}
_ANSWER = _schema(
    {"model_name": _STRING, "model_version": _STRING, "id": _STRING, "outputs": _TENSORS_OUT}, "id"
)
_METADATA_TENSORS = {
    "type": "array",
    "items": _schema({"name": _STRING, "datatype": _STRING, "shape": _SHAPE}),
}
_METADATA = _schema(
    {
        "name": _STRING,
        "versions": {"type": "array", "items": _STRING},
        "platform": _STRING,
        "inputs": _METADATA_TENSORS,
        "outputs": _METADATA_TENSORS,
        "parameters": {"type": "object"},
    }
)
_LIVE = _schema({"live": {"type": "boolean"}})
_READY = _schema({"ready": {"type": "boolean"}})
_MODEL_READY = _schema({"name": _STRING, "ready": {"type": "boolean"}})
_SERVER = _schema(
    {"name": _STRING, "version": _STRING, "extensions": {"type": "array", "items": _STRING}}
)


def _responses(schema: dict[str, Any], *statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what a route may answer, for `/openapi.json`."""
    errors: dict[int | str, Any] = {
        status: _content(_ERROR, REASONS[status]) for status in statuses
    }
    return {200: _content(schema, "As the protocol says"), **errors}


def _content(schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


_FINDING = (404, 503)
_INFER_ROUTE: dict[str, Any] = {
    "responses": _responses(_ANSWER, *REASONS),
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _INFER, "example": _EXAMPLE}},
        }
    },
}


class _Route(APIRoute):
    """A route whose errors have the protocol's form."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestError as err:
                response = JSONResponse({"error": err.message}, err.status)
                response.raw_headers += err.headers
                return response

        return answer


def describe_model(model: LoadedModel) -> dict[str, Any]:
    """Return the protocol's metadata of a model; -1 is any size."""
    return {
        "name": model.name,
        "versions": [str(model.version)],
        "platform": PLATFORMS.get(model.backend, f"gatetable_{model.backend}"),
        "inputs": [
            {"name": name, "datatype": DATATYPES[name], "shape": [-1] * axes}
            for name, axes in AXES.items()
        ],
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, len(model.labels)]},
            {"name": "labels", "datatype": "BYTES", "shape": [-1, -1]},
        ],
        "parameters": {"inputs": "text, or tokens with lengths", "max_tokens": model.max_tokens},
    }


def find_model(slot: ModelSlot, name: str, version: str | None = None) -> LoadedModel:
    """Return the model of a path.

    Raises:
        RequestError: 404 where it has another name or version, 503 while it is loading.
    """
    model = slot.find(name)
    if version is not None and version != str(model.version):
        raise RequestError(
            404,
            "unknown_version",
            f"version {version[:20]!r} of model {name}: expected {model.version}, the one in use.",
        )
    return model


def router_for(slot: ModelSlot, lifecycle: Lifecycle, limits: Limits) -> APIRouter:
    """Return the routes below `/v2`."""
    router = APIRouter(prefix="/v2", route_class=_Route, tags=["Open Inference Protocol"])

    @router.get("", responses=_responses(_SERVER))
    async def server_metadata() -> Response:
        """Name and version of the server."""
        return JSONResponse({"name": "gatetable", "version": "1", "extensions": []})

    @router.get("/health/live", responses=_responses(_LIVE))
    async def live() -> Response:
        """The process answers."""
        return JSONResponse({"live": True})

    @router.get(
        "/health/ready",
        responses={**_responses(_READY), 503: _content(_READY, "Loading or draining")},
    )
    async def ready() -> Response:
        """Whether requests are welcome."""
        is_ready = lifecycle.is_ready
        return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)

    @router.get("/models/{name}", responses=_responses(_METADATA, *_FINDING))
    async def model_metadata(name: str) -> Response:
        """Inputs and outputs of the model."""
        return JSONResponse(describe_model(find_model(slot, name)))

    @router.get("/models/{name}/versions/{version}", responses=_responses(_METADATA, *_FINDING))
    async def version_metadata(name: str, version: str) -> Response:
        """Inputs and outputs of one version of the model."""
        return JSONResponse(describe_model(find_model(slot, name, version)))

    @router.get("/models/{name}/ready", responses=_responses(_MODEL_READY, *_FINDING))
    async def model_ready(name: str) -> Response:
        """Whether the model answers."""
        return say_ready(find_model(slot, name))

    @router.get(
        "/models/{name}/versions/{version}/ready", responses=_responses(_MODEL_READY, *_FINDING)
    )
    async def version_ready(name: str, version: str) -> Response:
        """Whether this version of the model answers."""
        return say_ready(find_model(slot, name, version))

    @router.post("/models/{name}/infer", **_INFER_ROUTE)
    async def infer(name: str, request: Request) -> Response:
        """Probabilities, and labels if `parameters.k` or `outputs` ask for them."""
        return await answer(find_model(slot, name), request)

    @router.post("/models/{name}/versions/{version}/infer", **_INFER_ROUTE)
    async def version_infer(name: str, version: str, request: Request) -> Response:
        """The same, refused with 404 when another version is in use by now."""
        return await answer(find_model(slot, name, version), request)

    def say_ready(model: LoadedModel) -> Response:
        if not lifecycle.is_ready:
            raise RequestError(
                503,
                "not_ready",
                f"model {model.name}: expected ready, found {lifecycle.state}. Ask again in a "
                "second.",
                [(b"retry-after", b"1")],
            )
        return JSONResponse({"name": model.name, "ready": True})

    async def answer(model: LoadedModel, request: Request) -> Response:
        checked = parse_infer(await request.body(), model, limits)
        found = run_request(checked.question, model)
        response = Response(
            format_infer(checked, found.probabilities, model), media_type="application/json"
        )
        response.raw_headers += [
            timing_header(queue_ns(request.scope), found.model_ns),
            (b"x-model-version", b"%d" % model.version),
        ]
        return response

    return router
