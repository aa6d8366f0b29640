"""The document says what the server does: every example it allows is taken, others are not."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from serving_compare.server.config import Limits
from serving_compare.server.errors import InputError
from serving_compare.server.model_slot import ModelSlot
from serving_compare.server.openapi import make_predict_schema
from serving_compare.server.predict import parse_request
from tests.serving_compare.server.running import GOLDEN
from tests.serving_compare.server.test_app import ask, make_parts

LIMITS = Limits(max_batch=2)


@pytest.fixture(scope="module")
def slot() -> ModelSlot:
    slot = ModelSlot("lookup", GOLDEN, follow=False)
    slot.exchange(slot.load())
    return slot


BODIES: list[Any] = [
    *({"instances": value} for value in ("a", "", ["a"], [1], [[1], [2, 3]], [95], ["", "b"])),
    *({"instances": value} for value in ([], [[]], [["a"]], ["a", 1], [1.5], None, {}, 3, [True])),
    *({"instances": value} for value in ([96], [-1], [[1], [96]], [1] * 7, ["a"] * 3, [[1]] * 3)),
    *({"instances": "a", "k": k} for k in (1, 2, 0, 3, "1", None, True)),
    *({"instances": "a", "return_tokens": flag} for flag in (True, False, 1, None, "yes")),
    *({"instances": "a", "more": 1}, {}, [], "a", 1, None, {"k": 1}),
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: json.dumps(body)[:50])
def test_the_schema_allows_what_the_parser_takes(slot: ModelSlot, body: Any) -> None:
    schema = make_predict_schema(slot, LIMITS)
    jsonschema.Draft202012Validator.check_schema(schema)
    is_allowed = jsonschema.Draft202012Validator(schema).is_valid(body)
    try:
        parse_request(json.dumps(body).encode(), slot.current, LIMITS)
        is_taken = True
    except InputError:
        is_taken = False
    assert is_taken == is_allowed


def test_the_schema_does_without_a_model_while_it_is_loading() -> None:
    schema = make_predict_schema(ModelSlot("lookup", GOLDEN, follow=False), LIMITS)
    assert "maximum" not in schema["properties"]["k"]


def test_the_document_lists_every_route_and_refusal() -> None:
    document = ask(make_parts()[0], "GET", "/openapi.json").json()
    assert set(document["paths"]) >= {
        *("/livez", "/readyz", "/metrics", "/v1/servers", "/v1/models/{name}"),
        *("/v1/models/{name}:predict", "/v2", "/v2/models/{name}/infer"),
    }
    predict = document["paths"]["/v1/models/{name}:predict"]["post"]
    assert set(predict["responses"]) >= {
        *("200", "400", "404", "408", "411", "413", "415", "429", "503", "504")
    }
    example = predict["requestBody"]["content"]["application/json"]["example"]
    schema = predict["requestBody"]["content"]["application/json"]["schema"]
    jsonschema.validate(example | {"k": 2}, schema)
    assert schema["properties"]["k"]["maximum"] == 2


def test_the_answer_is_as_documented() -> None:
    application = make_parts()[0]
    document = ask(application, "GET", "/openapi.json").json()
    predict = document["paths"]["/v1/models/{name}:predict"]["post"]
    schema = predict["responses"]["200"]["content"]["application/json"]["schema"]
    body = {"instances": ["stone"], "k": 2, "return_tokens": True}
    answer = ask(application, "POST", "/v1/models/tiny:predict", json=body)
    jsonschema.validate(answer.json(), schema)
    errors = predict["responses"]["400"]["content"]["application/json"]["schema"]
    jsonschema.validate(ask(application, "POST", "/v1/models/tiny:predict", json={}).json(), errors)
