"""The Open Inference Protocol's paths, asked of a real server."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pytest

from serving_compare.server.config import Limits
from serving_compare.server.infer import parse_infer
from serving_compare.server.model_slot import load_model
from serving_compare.server.open_inference import describe_model
from tests.serving_compare.server.running import GOLDEN, INFER, PREDICT, ROOT, Running

TEXTS = ["stone dog", "river of cat", ""]
INPUT = {"name": "text", "shape": [3], "datatype": "BYTES", "data": TEXTS}


@pytest.fixture
def server(golden_server: Running) -> Running:
    return golden_server


def get(server: Running, path: str, backend: str = "lookup") -> tuple[int, Any]:
    try:
        with urlopen(server.urls[backend] + path, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except HTTPError as err:
        with err:
            return err.code, json.loads(err.read())


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2", {"name": "gatetable", "version": "1", "extensions": []}),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/tiny/ready", {"name": "tiny", "ready": True}),
        ("/v2/models/tiny/versions/1/ready", {"name": "tiny", "ready": True}),
    ],
)
def test_server_and_model_say_that_they_are_there(
    server: Running, path: str, expected: dict[str, Any]
) -> None:
    assert get(server, path) == (200, expected)


@pytest.mark.parametrize("path", ["/v2/models/tiny", "/v2/models/tiny/versions/1"])
def test_metadata_names_every_tensor(server: Running, path: str) -> None:
    status, metadata = get(server, path, "onnx")
    assert status == 200
    assert metadata == {
        "name": "tiny",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": "text", "datatype": "BYTES", "shape": [-1]},
            {"name": "tokens", "datatype": "INT32", "shape": [-1, -1]},
            {"name": "lengths", "datatype": "INT32", "shape": [-1]},
        ],
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]},
            {"name": "labels", "datatype": "BYTES", "shape": [-1, -1]},
        ],
        "parameters": {"inputs": "text, or tokens with lengths", "max_tokens": 6},
    }


def test_a_backend_that_others_do_not_name_gets_a_platform_of_its_own() -> None:
    assert describe_model(load_model("lookup", GOLDEN))["platform"] == "gatetable_lookup"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/v2/models/absent", "model 'absent': expected 'tiny', the one this server holds."),
        ("/v2/models/absent/ready", "model 'absent': expected 'tiny'"),
        ("/v2/models/tiny/versions/2", "version '2' of model tiny: expected 1, the one in use."),
        ("/v2/models/tiny/versions/2/ready", "version '2' of model tiny: expected 1"),
    ],
)
def test_what_is_not_there_is_404_with_the_protocols_error(
    server: Running, path: str, says: str
) -> None:
    status, answer = get(server, path)
    assert status == 404
    assert says in answer["error"]


@pytest.mark.parametrize("path", [INFER, "/v2/models/tiny/versions/1/infer"])
@pytest.mark.parametrize("backend", ["lookup", "onnx"])
def test_infer_says_what_predict_says(server: Running, backend: str, path: str) -> None:
    predicted = server.post(backend, PREDICT, {"instances": TEXTS, "k": 2})["predictions"]
    answer = server.post(backend, path, {"inputs": [INPUT], "parameters": {"k": 2}})
    probabilities, labels = (output["data"] for output in answer["outputs"])
    assert labels == [best["label"] for row in predicted for best in row]
    ordered = np.sort(np.reshape(probabilities, (3, 2)))[:, ::-1]
    np.testing.assert_array_equal(
        ordered.ravel(), [best["probability"] for row in predicted for best in row]
    )


def test_ids_and_the_texts_they_come_from_are_answered_alike(server: Running) -> None:
    rows = load_model("lookup", GOLDEN).lookup.encode(TEXTS)  # type: ignore[union-attr]
    ids, lengths = rows[0].tolist(), rows[1].tolist()
    tensors = [
        {
            "name": "tokens",
            "shape": [3, len(ids[0])],
            "datatype": "INT32",
            "data": ids,
        },
        {"name": "lengths", "shape": [3], "datatype": "INT32", "data": lengths},
    ]
    for backend in ("lookup", "onnx"):
        from_ids = server.post(backend, INFER, {"inputs": tensors})["outputs"][0]["data"]
        from_text = server.post(backend, INFER, {"inputs": [INPUT]})["outputs"][0]["data"]
        np.testing.assert_allclose(from_ids, from_text, atol=2e-6)


def test_a_refused_infer_has_the_protocols_error(server: Running) -> None:
    with pytest.raises(HTTPError) as refused:
        server.post("lookup", INFER, {"inputs": []})
    with refused.value as answer:
        assert answer.code == 400
        assert json.loads(answer.read()) == {
            "error": "inputs: expected text, or tokens and lengths, found none."
        }


def test_the_request_in_the_documentation_is_a_right_one() -> None:
    document = (ROOT / "docs/open_inference.md").read_text(encoding="utf-8")
    body = re.search(r"-d '(.*?)'", document, flags=re.S)
    assert body
    request = parse_infer(body[1].encode(), load_model("lookup", GOLDEN), Limits())
    assert (request.question.texts, request.question.k) == (["a small cat"], 2)
    assert request.outputs == ("labels",)
