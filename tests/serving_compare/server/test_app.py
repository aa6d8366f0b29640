"""The routes of a worker, its error answers and what it logs; in process."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import httpx
import pytest

from serving_compare.server.app import Application, make_app, make_application
from serving_compare.server.config import Limits, Sibling
from serving_compare.server.lifecycle import Lifecycle
from serving_compare.server.metrics import Meters
from serving_compare.server.model_slot import ModelSlot
from tests.serving_compare.server.running import GOLDEN, PREDICT

SIBLINGS = (Sibling("lookup", "http://127.0.0.1:8000"), Sibling("onnx", "http://127.0.0.1:8001"))


def make_parts(
    *, loaded: bool = True, page: bool = True, access_log: bool = False
) -> tuple[Application, Lifecycle, Meters]:
    slot, meters = ModelSlot("lookup", GOLDEN, follow=False), Meters()
    slot.observe = meters.observe_model
    lifecycle = Lifecycle(slot)
    if loaded:
        slot.exchange(slot.load())
    application = make_application(
        slot,
        lifecycle,
        Limits(max_batch=4),
        SIBLINGS,
        page=page,
        meters=meters,
        access_log=access_log,
    )
    return application, lifecycle, meters


def ask(application: Application, method: str, path: str, **options: Any) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(application.asgi, raise_app_exceptions=False)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1:8000"
        ) as client:
            return await client.request(method, path, **options)

    return asyncio.run(send())


def test_predict_says_model_version_and_times() -> None:
    application, _, meters = make_parts()
    response = ask(application, "POST", PREDICT, json={"instances": ["stone", "dog"]})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-model-version"] == "1"
    queue, model = response.headers["server-timing"].split(", ")
    assert queue.startswith("queue;dur=") and float(model.removeprefix("model;dur=")) > 0
    assert len(response.json()["predictions"]) == 2
    meters.flush()
    assert meters.registry.get_sample_value("gatetable_sequences_total") == 2


def test_health_follows_the_lifecycle() -> None:
    application, lifecycle, _ = make_parts(loaded=False)
    assert ask(application, "GET", "/livez").json() == {"status": "alive"}
    loading = ask(application, "GET", "/readyz")
    assert (loading.status_code, loading.headers["retry-after"]) == (503, "1")
    assert "found loading" in loading.json()["error"]["message"]
    assert ask(application, "POST", PREDICT, json={"instances": "a"}).status_code == 503
    assert ask(application, "GET", "/v1/models/tiny").status_code == 503
    application, lifecycle, _ = make_parts()
    assert ask(application, "GET", "/readyz").json() == {"status": "ready"}
    lifecycle.is_draining = True
    assert ask(application, "GET", "/readyz").status_code == 503


def test_a_model_is_described_with_its_limits() -> None:
    application, _, _ = make_parts()
    found = ask(application, "GET", "/v1/models/tiny").json()
    limits = found.pop("limits")
    assert found == {
        "name": "tiny",
        "version": "1",
        "backend": "lookup",
        "labels": found["labels"],
        "max_tokens": 6,
        "vocab_size": 96,
    }
    assert len(found["labels"]) == 2
    assert (limits["max_batch"], limits["max_tokens"], limits["max_body_bytes"]) == (4, 6, 2**20)


def test_siblings_are_listed() -> None:
    application, _, _ = make_parts()
    assert ask(application, "GET", "/v1/servers").json() == [
        {"backend": "lookup", "url": "http://127.0.0.1:8000"},
        {"backend": "onnx", "url": "http://127.0.0.1:8001"},
    ]


def test_metrics_are_prometheus_text() -> None:
    application, _, meters = make_parts()
    ask(application, "POST", PREDICT, json={"instances": "stone"})
    meters.flush()
    response = ask(application, "GET", "/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'gatetable_requests_total{reason="",status="200"} 1.0' in response.text


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "message"),
    [
        (
            "GET",
            "/nowhere",
            404,
            "not_found",
            "GET /nowhere: Not Found. See /docs for what there is.",
        ),
        (
            "GET",
            PREDICT,
            405,
            "method_not_allowed",
            f"GET {PREDICT}: Method Not Allowed. See /docs for what there is.",
        ),
        (
            "POST",
            "/livez",
            405,
            "method_not_allowed",
            "POST /livez: Method Not Allowed. See /docs for what there is.",
        ),
        (
            "GET",
            "/v1/models/other",
            404,
            "unknown_model",
            "model 'other': expected 'tiny', the one this server holds.",
        ),
    ],
)
def test_every_error_has_one_form(
    method: str, path: str, status: int, code: str, message: str
) -> None:
    application, _, _ = make_parts()
    response = ask(application, method, path)
    assert response.status_code == status
    assert response.json() == {"error": {"code": code, "message": message}}
    assert (status == 405) == ("allow" in response.headers)


def test_an_unknown_model_is_not_found_behind_the_gate() -> None:
    application, _, _ = make_parts()
    response = ask(application, "POST", "/v1/models/other:predict", json={"instances": "a"})
    assert (response.status_code, response.json()["error"]["code"]) == (404, "unknown_model")


def test_a_mistake_outside_the_gate_is_a_500_with_an_id(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    application, _, meters = make_parts()
    monkeypatch.setattr(meters, "format", lambda: 1 / 0)
    with caplog.at_level(logging.ERROR, "gatetable.server"):
        response = ask(application, "GET", "/metrics")
    assert response.status_code == 500
    assert response.headers["x-request-id"] in response.json()["error"]["message"]
    assert caplog.records[0].__dict__["fields"] == {"request_id": response.headers["x-request-id"]}


def test_the_page_is_left_out_when_nobody_wants_it() -> None:
    with_page, without = make_parts()[0], make_parts(page=False)[0]
    assert ask(with_page, "GET", "/").status_code == 200
    assert ask(without, "GET", "/").status_code == 404


def test_the_access_log_names_requests_and_not_their_texts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    application, _, _ = make_parts(access_log=True)
    with caplog.at_level(logging.INFO, "gatetable.server"):
        ask(application, "POST", PREDICT, json={"instances": "stone"})
    fields = caplog.records[-1].__dict__["fields"]
    assert fields.pop("elapsed_ms") > 0
    assert fields == {"method": "POST", "path": PREDICT, "status": 200}


def test_the_documented_route_answers_as_the_gate_does() -> None:
    application, _, _ = make_parts()
    slot = ModelSlot("lookup", GOLDEN, follow=False)
    slot.exchange(slot.load())
    app = make_app(slot, Lifecycle(slot), Limits(), SIBLINGS, page=False)
    inner = app._app  # type: ignore[attr-defined]
    body = {"instances": ["stone"], "k": 2, "return_tokens": True}
    through = ask(application, "POST", PREDICT, json=body)
    direct = ask(Application(inner, application.gate), "POST", PREDICT, json=body)
    assert json.loads(direct.content) == json.loads(through.content)
    assert direct.headers["x-model-version"] == "1"
