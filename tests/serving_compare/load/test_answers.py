from __future__ import annotations

import pytest

from serving_compare.agreement import AgreementError
from serving_compare.load.answers import ask_texts, check_answers
from serving_compare.load.errors import ServerError
from serving_compare.load.request import Target

OURS = {"animal": 0.6, "plant": 0.3, "food": 0.01}


def check(theirs: dict[str, float]) -> None:
    check_answers({"onnx": [OURS], "lookup": [theirs]}, ["a cat"], tolerance=1e-4)


def test_probabilities_within_the_tolerance_agree() -> None:
    check({"animal": 0.60005, "plant": 0.29995, "food": 0.01})


def test_another_label_in_the_last_place_agrees_where_it_is_a_tie() -> None:
    check({"animal": 0.6, "plant": 0.3, "act": 0.01001})


@pytest.mark.parametrize(
    "theirs",
    [
        {"animal": 0.601, "plant": 0.3, "food": 0.01},
        {"animal": 0.6, "plant": 0.3, "act": 0.02},
        {"animal": 0.6, "food": 0.01, "act": 0.005},
        {"x": 0.6, "y": 0.3, "z": 0.01},
    ],
)
def test_other_probabilities_or_labels_are_refused(theirs: dict[str, float]) -> None:
    with pytest.raises(
        AgreementError,
        match="lookup over HTTP, text 'a cat': expected the probabilities of onnx within 0.0001",
    ):
        check(theirs)


def test_what_is_no_prediction_is_told(toy_port: int) -> None:
    target = Target(host="127.0.0.1", port=toy_port, path="/ok:predict")
    with pytest.raises(ServerError, match="expected one list of labels and probabilities"):
        ask_texts(target, ["a"], k=1)


def test_a_server_that_refuses_is_told(toy_port: int) -> None:
    # /status/404 with the ending that makes a body of ours.
    target = Target(host="127.0.0.1", port=toy_port, path="/status/404/:predict")
    with pytest.raises(ServerError, match="expected an answer, found status 404"):
        ask_texts(target, ["a"], k=1)


def test_a_server_that_hangs_up_is_told(toy_port: int) -> None:
    target = Target(host="127.0.0.1", port=toy_port, path="/swallow/0/:predict")
    with pytest.raises(ServerError, match="expected an answer, found RemoteDisconnected"):
        ask_texts(target, ["a"], k=1)
