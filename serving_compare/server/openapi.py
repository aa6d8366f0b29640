"""What `/openapi.json` says of the routes in `app`: bodies, answers, refusals.

Written by hand, as bodies are checked by hand. Numbers that belong to the model (classes,
vocabulary, tokens) are put in when the document is asked for: the model may be exchanged.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from serving_compare.server.config import Limits
from serving_compare.server.model_slot import ModelSlot
from serving_compare.server.predict import DEFAULT_K

REASONS = {
    400: "The body says something wrong",
    404: "No such model",
    408: "The body did not come in time",
    411: "No content-length",
    413: "The body is too large",
    415: "The body is not JSON",
    429: "The queue is full, or the wait would be too long",
    503: "Loading, or draining",
    504: "It waited too long",
}
_STRING = {"type": "string"}
_INTEGER = {"type": "integer"}
_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {"code": _STRING, "message": _STRING},
            "required": ["code", "message"],
        }
    },
    "required": ["error"],
}


def _object(properties: dict[str, Any], *optional: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
    }


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _content(schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    refusals: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        refusals[status] = _content(_ERROR, REASONS[status])
        if status in (429, 503):
            refusals[status]["headers"] = {"Retry-After": {"schema": _INTEGER}}
    return refusals


_ANSWER = _object(
    {
        "model": _STRING,
        "version": _STRING,
        "backend": _STRING,
        "predictions": _array(
            _array(_object({"label": _STRING, "probability": {"type": "number"}}))
        ),
        "tokens": _array(_array({"type": ["string", "integer"]})),
    },
    "tokens",
)
PREDICT_ROUTE: dict[str, Any] = {
    "responses": {
        200: {
            **_content(_ANSWER, "The best labels of each instance, best first"),
            "headers": {
                "Server-Timing": {"schema": _STRING},
                "X-Model-Version": {"schema": _INTEGER},
            },
        },
        **_refusals(*REASONS),
    }
}
"""Keyword arguments of the predict route."""
READY_RESPONSES = _refusals(503)
SERVERS_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: _content(_array(_object({"backend": _STRING, "url": _STRING})), "All backends")
}
DESCRIBE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: _content(
        _object(
            {
                "name": _STRING,
                "version": _STRING,
                "backend": _STRING,
                "labels": _array(_STRING),
                "max_tokens": _INTEGER,
                "vocab_size": _INTEGER,
                "limits": {"type": "object"},
            }
        ),
        "The model in use",
    ),
    **_refusals(404, 503),
}


def make_predict_schema(slot: ModelSlot, limits: Limits) -> dict[str, Any]:
    """Return the JSON schema of a predict body, with the numbers of the model in use."""
    token, ids, best = dict[str, Any](_INTEGER), _array({}), dict[str, Any](_INTEGER)
    token["minimum"], ids["minItems"], best["minimum"] = 0, 1, 1
    best["default"] = DEFAULT_K
    if slot.is_loaded:
        model = slot.current
        token["maximum"] = model.vocab_size - 1
        ids["maxItems"] = model.max_ids
        best["maximum"] = len(model.labels)
    ids["items"] = token
    many = {"minItems": 1, "maxItems": limits.max_batch}
    schema = _object(
        {
            "instances": {
                "anyOf": [
                    {"type": "string", "description": "One text"},
                    {**_array(_STRING), **many, "description": "Texts"},
                    {**ids, "description": "Ids of one sequence"},
                    {**_array(ids), **many, "description": "Ids of several sequences"},
                ]
            },
            "k": best,
            "return_tokens": {"type": "boolean", "default": False},
        },
        *("k", "return_tokens"),
    )
    return {**schema, "additionalProperties": False}


def make_openapi(app: FastAPI, slot: ModelSlot, limits: Limits) -> dict[str, Any]:
    """Return the OpenAPI document of the application as it stands."""
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    schema = make_predict_schema(slot, limits)
    body = {
        "required": True,
        "content": {
            "application/json": {
                "schema": schema,
                "example": {"instances": ["a small domesticated feline"], "k": 3},
            }
        },
    }
    document["paths"]["/v1/models/{name}:predict"]["post"]["requestBody"] = body
    return document
