"""A body becomes a checked request, or a sentence that says what is wrong with it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from serving_compare.server.config import Limits
from serving_compare.server.errors import InputError
from serving_compare.server.model_slot import LoadedModel, load_model
from serving_compare.server.predict import (
    format_response,
    parse_request,
    rank,
    run_request,
    show,
    timing_header,
)
from tests.serving_compare.server.running import GOLDEN

LIMITS = Limits(max_batch=4)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load_model("lookup", GOLDEN)  # V=96, C=2, 6 tokens


def answer(model: LoadedModel, **fields: Any) -> Any:
    request = parse_request(json.dumps(fields).encode(), model, LIMITS)
    return json.loads(format_response(request, run_request(request, model).probabilities, model))


def test_one_text_is_answered_as_the_runtime_answers_it(model: LoadedModel) -> None:
    assert model.lookup is not None
    found = answer(model, instances="stone dog", k=2)
    assert {key: found[key] for key in ("model", "version", "backend")} == {
        "model": "tiny",
        "version": "1",
        "backend": "lookup",
    }
    expected = model.lookup.predict(["stone dog"], k=2)[0]
    assert [entry["label"] for entry in found["predictions"][0]] == [label for label, _ in expected]
    assert [entry["probability"] for entry in found["predictions"][0]] == pytest.approx(
        [probability for _, probability in expected], abs=1e-6
    )
    assert "tokens" not in found


def test_a_text_a_list_of_it_its_ids_and_a_list_of_them_are_the_same(model: LoadedModel) -> None:
    assert model.lookup is not None
    ids, lengths = model.lookup.encode(["stone dog"])
    row = ids[0, : lengths[0]].tolist()
    first, *others = (
        answer(model, instances=instances)["predictions"]
        for instances in ("stone dog", ["stone dog"], row, [row])
    )
    for other in others:
        assert [entry["label"] for entry in other[0]] == [entry["label"] for entry in first[0]]
        assert [entry["probability"] for entry in other[0]] == pytest.approx(
            [entry["probability"] for entry in first[0]], abs=1e-6
        )


def test_rows_of_different_lengths_are_answered_as_each_alone(model: LoadedModel) -> None:
    rows = [[5], [7, 8, 9, 10, 11], [3, 4]]
    together = answer(model, instances=rows)["predictions"]
    for row, found in zip(rows, together, strict=True):
        alone = answer(model, instances=row)["predictions"][0]
        assert [entry["probability"] for entry in found] == pytest.approx(
            [entry["probability"] for entry in alone], abs=1e-6
        )


def test_tokens_are_the_pieces_the_model_reads_cut_and_never_none(model: LoadedModel) -> None:
    tokens = answer(model, instances=["stone dog", ""], return_tokens=True)["tokens"]
    assert "".join(tokens[0]).replace("▁", " ").strip() == "stone dog"
    assert tokens[1] == [model.tokenizer.id_to_piece(1)]
    long = answer(model, instances="stone dog " * 50, return_tokens=True)["tokens"]
    assert len(long[0]) == model.max_tokens
    assert answer(model, instances=[5, 6], return_tokens=True)["tokens"] == [[5, 6]]
    assert answer(model, instances=[[5], [6, 7]], return_tokens=True)["tokens"] == [[5], [6, 7]]


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (
            b"{",
            "malformed_json",
            "body: expected JSON, found EOF while parsing an object at line 1",
        ),
        (b'{"instances": NaN}', "malformed_json", "body: expected JSON, found expected value"),
        (b"\xff", "malformed_json", "body: expected JSON, found "),
        (b"[" * 1000, "malformed_json", "body: expected JSON, found recursion limit exceeded"),
        (b'{"instances": "\\ud800"}', "malformed_json", "body: expected JSON, found "),
        (b"[]", "wrong_type", 'body: expected an object with "instances", found something else.'),
        (b"{}", "wrong_type", 'body: expected an object with "instances", found something else.'),
        (
            b'{"instances": "a", "kk": 1}',
            "unknown_field",
            "body: expected instances, k and return_tokens, found 'kk'.",
        ),
        (
            b'{"instances": "a", "k": 3}',
            "k_out_of_range",
            "k: expected an integer from 1 to 2, found 3.",
        ),
        (
            b'{"instances": "a", "k": true}',
            "k_out_of_range",
            "k: expected an integer from 1 to 2, found true.",
        ),
        (
            b'{"instances": "a", "return_tokens": 1}',
            "wrong_type",
            "return_tokens: expected true or false, found 1.",
        ),
        (
            b'{"instances": null}',
            "wrong_type",
            "instances: expected a text, a list of texts, a list of ids or a list of lists of "
            "ids, found None.",
        ),
        (b'{"instances": []}', "empty", "instances: expected at least one, found none."),
        (b'{"instances": [[]]}', "empty", "instances: expected 1 to 6 ids, found 0."),
        (
            b'{"instances": ["a", 1]}',
            "wrong_type",
            "instances[1]: expected a text as instances[0] is, found 1.",
        ),
        (
            b'{"instances": [1.5]}',
            "wrong_type",
            "instances: expected a list of integers, found 1.5.",
        ),
        (
            b'{"instances": [[1], "a"]}',
            "wrong_type",
            "instances[1]: expected a list of integers, found 'a'.",
        ),
        (
            b'{"instances": [1, true]}',
            "wrong_type",
            "instances: expected a list of integers, found a list of 2.",
        ),
        (
            b'{"instances": [1, 2, 3, 4, 5, 6, 7]}',
            "too_many_ids",
            "instances: expected 1 to 6 ids, found 7.",
        ),
        (
            b'{"instances": ["a", "b", "c", "d", "e"]}',
            "too_many_instances",
            "instances: expected at most 4, found 5. Send them in several requests.",
        ),
        (
            b'{"instances": [5, 96]}',
            "id_out_of_range",
            "instances: expected ids from 0 to 95, found 96.",
        ),
        (
            b'{"instances": [[5], [-1]]}',
            "id_out_of_range",
            "instances[1]: expected ids from 0 to 95, found -1.",
        ),
        (
            b'{"instances": [1' + b"0" * 300 + b"]}",
            "id_out_of_range",
            "instances: expected ids from 0 to 95, found 1" + "0" * 59 + "....",
        ),
    ],
)
def test_what_is_wrong_with_a_body_is_said(
    model: LoadedModel, body: bytes, code: str, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        parse_request(body, model, LIMITS)
    assert (caught.value.status, caught.value.code) == (400, code)
    assert caught.value.message.startswith(message)


def test_best_labels_come_first_and_ties_in_the_order_of_ids() -> None:
    probabilities = np.array([[0.25, 0.5, 0.25], [0.1, 0.2, 0.7]], np.float32)
    assert [[label for label, _ in row] for row in rank(probabilities, 3)] == [[1, 0, 2], [2, 1, 0]]
    assert rank(probabilities, 1)[0] == [(1, 0.5)]


def test_a_value_is_shown_short() -> None:
    assert show("x" * 100) == repr("x" * 100)[:60] + "..."
    assert (show({}), show([1]), show(False)) == ("an object", "a list of 1", "false")


def test_times_are_told_in_milliseconds() -> None:
    assert timing_header(1_500_000, 42_000) == (
        b"server-timing",
        b"queue;dur=1.500, model;dur=0.042",
    )
