"""Bodies of infer requests: every right form is read, every wrong one is named."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from serving_compare.server.config import Limits
from serving_compare.server.errors import InputError
from serving_compare.server.infer import format_infer, parse_infer
from serving_compare.server.model_slot import LoadedModel, load_model
from serving_compare.server.predict import run_request
from tests.serving_compare.server.running import GOLDEN

LIMITS = Limits(max_batch=3)
TEXT = {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["stone dog", ""]}
TOKENS = {"name": "tokens", "shape": [2, 3], "datatype": "INT32", "data": [5, 6, 7, 8, 0, 0]}
LENGTHS = {"name": "lengths", "shape": [2], "datatype": "INT32", "data": [3, 1]}


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load_model("lookup", GOLDEN)


def parse(model: LoadedModel, *inputs: Any, **fields: Any) -> Any:
    body = {"inputs": list(inputs)} | fields
    return parse_infer(json.dumps(body).encode(), model, LIMITS)


def test_texts_are_read(model: LoadedModel) -> None:
    request = parse(model, TEXT, id="a")
    assert request.id == "a"
    assert request.outputs == ("probabilities",)
    assert request.question.texts == ["stone dog", ""]


@pytest.mark.parametrize("data", [[5, 6, 7, 8, 0, 0], [[5, 6, 7], [8, 0, 0]]])
def test_ids_are_read_flat_or_nested(model: LoadedModel, data: list[Any]) -> None:
    question = parse(model, LENGTHS, TOKENS | {"data": data}).question
    assert question.ids.dtype == question.lengths.dtype == np.int32
    np.testing.assert_array_equal(question.ids, [[5, 6, 7], [8, 0, 0]])
    np.testing.assert_array_equal(question.lengths, [3, 1])


def test_labels_come_when_k_or_an_output_asks_for_them(model: LoadedModel) -> None:
    assert parse(model, TEXT, parameters={"k": 1}).outputs == ("probabilities", "labels")
    only = parse(model, TEXT, outputs=[{"name": "labels", "parameters": {"binary_data": True}}])
    assert (only.outputs, only.question.k) == (("labels",), 2)  # 3 by default, of C = 2
    assert parse(model, TEXT, outputs=[]).outputs == ("probabilities",)


def test_an_answer_has_the_tensors_that_were_asked_for(model: LoadedModel) -> None:
    request = parse(model, TEXT, parameters={"k": 1}, id="seven")
    probabilities = run_request(request.question, model).probabilities
    answer = json.loads(format_infer(request, probabilities, model))
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("tiny", "1", "seven")
    numbers, labels = answer["outputs"]
    assert (numbers["name"], numbers["datatype"], numbers["shape"]) == (
        "probabilities",
        "FP32",
        [2, 2],
    )
    np.testing.assert_array_equal(
        np.float32(numbers["data"]).reshape(2, 2), model.runtime.run_texts(["stone dog", ""])
    )
    assert (labels["datatype"], labels["shape"]) == ("BYTES", [2, 1])
    best = probabilities.argmax(axis=1)
    assert labels["data"] == [model.labels[number] for number in best]


def test_an_answer_without_an_id_names_none(model: LoadedModel) -> None:
    request = parse(model, TEXT)
    answer = format_infer(request, run_request(request.question, model).probabilities, model)
    assert "id" not in json.loads(answer)


@pytest.mark.parametrize(
    ("inputs", "code", "says"),
    [
        ([], "wrong_inputs", "inputs: expected text, or tokens and lengths, found none."),
        ([TOKENS], "wrong_inputs", "found tokens."),
        ([TEXT, LENGTHS], "wrong_inputs", "found text, lengths."),
        ([TEXT, TEXT], "unknown_input", "inputs[1].name: expected text, tokens, lengths, each"),
        ([7], "wrong_type", "inputs[0]: expected an object, found 7."),
        ([{"name": "text"}], "missing_field", "inputs[0]: expected 'shape', found none."),
        ([TEXT | {"to": 1}], "unknown_field", "found 'to'."),
        ([TEXT | {"datatype": "FP32"}], "wrong_datatype", "expected BYTES, found 'FP32'."),
        ([TEXT | {"shape": [-1]}], "wrong_shape", "expected 1 whole numbers, found [-1]."),
        ([TEXT | {"shape": [3]}], "wrong_shape", "as the shape [3] has, found 2."),
        ([TEXT | {"shape": [0], "data": []}], "empty", "expected a batch of 1 to 3, found 0."),
        (
            [TEXT | {"shape": [4], "data": ["a"] * 4}],
            "too_many_instances",
            "expected a batch of 1 to 3, found 4. Send more in several requests.",
        ),
        ([TEXT | {"data": "ab"}], "wrong_type", "inputs[0].data: expected a list, found 'ab'."),
        ([TEXT | {"data": ["a", 1]}], "wrong_type", "data[1]: expected a text, found 1."),
        (
            [{key: TEXT[key] for key in ("name", "shape", "datatype")}],
            "missing_field",
            "Binary tensors and shared memory are not offered.",
        ),
        ([TOKENS | {"data": [[1], [1, 2, 3]]}, LENGTHS], "wrong_shape", "expected rows as in the"),
        ([TOKENS | {"data": [True] * 6}, LENGTHS], "wrong_type", "expected an integer, found true"),
        (
            [TOKENS | {"data": [1, 2, 3, 4, 5, 96]}, LENGTHS],
            "id_out_of_range",
            "tokens: expected 0 to 95, found 96.",
        ),
        (
            [TOKENS | {"data": [1, 2, 3, 4, 5, 2**70]}, LENGTHS],
            "id_out_of_range",
            f"tokens: expected 0 to 95, found {2**70}.",
        ),
        (
            [TOKENS, LENGTHS | {"data": [3, 4]}],
            "length_out_of_range",
            "lengths: expected 1 to 3, found 4.",
        ),
        ([TOKENS, LENGTHS | {"data": [3, 0]}], "length_out_of_range", "expected 1 to 3, found 0."),
        (
            [TOKENS, LENGTHS | {"shape": [1], "data": [3]}],
            "wrong_shape",
            "lengths: expected 2, one a row, found 1.",
        ),
        (
            [TOKENS | {"shape": [1, 7], "data": [1] * 7}, LENGTHS | {"shape": [1], "data": [7]}],
            "too_many_ids",
            "tokens: expected rows of 1 to 6 ids, found 7.",
        ),
        (
            [TOKENS | {"shape": [2, 0], "data": []}, LENGTHS],
            "empty",
            "tokens: expected rows of 1 to 6 ids, found 0.",
        ),
    ],
)
def test_a_wrong_tensor_is_named(
    model: LoadedModel, inputs: list[Any], code: str, says: str
) -> None:
    with pytest.raises(InputError) as refused:
        parse(model, *inputs)
    assert refused.value.code == code
    assert says in refused.value.message


@pytest.mark.parametrize(
    ("fields", "code", "says"),
    [
        ({"id": 7}, "wrong_type", "id: expected a string, found 7."),
        ({"id": None}, "wrong_type", "id: expected a string, found None."),
        ({"outputs": None}, "wrong_type", "outputs: expected a list, found None."),
        ({"to": 7}, "unknown_field", "body: expected id, inputs, outputs, parameters, found 'to'."),
        ({"parameters": []}, "wrong_type", "parameters: expected an object, found a list of 0."),
        ({"parameters": {"k": 3}}, "k_out_of_range", "an integer from 1 to 2, found 3."),
        ({"parameters": {"k": True}}, "k_out_of_range", "an integer from 1 to 2, found true."),
        ({"outputs": "labels"}, "wrong_type", "outputs: expected a list, found 'labels'."),
        ({"outputs": [{}]}, "missing_field", "outputs[0]: expected 'name', found none."),
        (
            {"outputs": [{"name": "logits"}]},
            "unknown_output",
            "outputs[0].name: expected probabilities or labels, each once, found 'logits'.",
        ),
        (
            {"outputs": [{"name": "labels"}, {"name": "labels"}]},
            "unknown_output",
            "outputs[1].name: expected probabilities or labels, each once, found 'labels'.",
        ),
        ({"outputs": [{"name": []}]}, "unknown_output", "found a list of 0."),
    ],
)
def test_a_wrong_field_is_named(
    model: LoadedModel, fields: dict[str, Any], code: str, says: str
) -> None:
    with pytest.raises(InputError) as refused:
        parse(model, TEXT, **fields)
    assert refused.value.code == code
    assert says in refused.value.message


@pytest.mark.parametrize("body", [b"", b"{", b"[1", b'{"inputs": NaN}', b'{"id": "\xff"}'])
def test_what_is_no_json_is_refused(model: LoadedModel, body: bytes) -> None:
    with pytest.raises(InputError, match="body: expected JSON, found ") as refused:
        parse_infer(body, model, LIMITS)
    assert refused.value.code == "malformed_json"
