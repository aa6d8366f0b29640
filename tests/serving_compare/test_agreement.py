from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving_compare.agreement import (
    TOLERANCE,
    AgreementError,
    check_agreement,
    compare_probabilities,
)

GOLDEN = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], np.float32)


def make_answers(**changes: np.ndarray) -> dict[str, np.ndarray]:
    return {"golden_ids": GOLDEN, "golden_texts": GOLDEN, "tokens_1": GOLDEN} | changes


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31 - 1))
def test_answers_agree_with_themselves(seed: int):
    answers = np.random.default_rng(seed).dirichlet(np.ones(4), 5)
    found = compare_probabilities(answers, answers, k=3, tolerance=TOLERANCE)
    assert (found.rows, found.max_abs_probability_diff, found.top_k_disagreements) == (5, 0, 0)


def test_largest_difference_is_found():
    other = GOLDEN.copy()
    other[1, 2] += np.float32(0.25)
    found = compare_probabilities(GOLDEN, other, k=3, tolerance=TOLERANCE)
    assert found.max_abs_probability_diff == pytest.approx(0.25)


def test_swapped_classes_are_a_disagreement_unless_they_are_tied():
    expected = np.array([[0.4, 0.4 - 1e-3, 0.2], [0.4, 0.4 - 1e-6, 0.2]])
    swapped = expected[:, [1, 0, 2]]
    assert compare_probabilities(expected, swapped, k=2, tolerance=1e-5).top_k_disagreements == 1


def test_ranks_beyond_k_may_differ():
    expected = np.array([[0.7, 0.2, 0.1]])
    found = np.array([[0.7, 0.1, 0.2]])
    assert compare_probabilities(expected, found, k=1, tolerance=1e-5).top_k_disagreements == 0


def test_other_shapes_and_non_finite_answers_are_refused():
    with pytest.raises(AgreementError, match=r"expected probabilities of shape \(2, 3\), found"):
        compare_probabilities(GOLDEN, GOLDEN[:1], k=3, tolerance=1e-5)
    with pytest.raises(AgreementError, match="expected finite probabilities, found NaN"):
        compare_probabilities(GOLDEN, GOLDEN * np.nan, k=3, tolerance=1e-5)


def test_agreeing_backends_pass_with_their_differences():
    found = check_agreement(
        {"onnx": make_answers(), "lookup": make_answers()}, GOLDEN, ("tokens_1",), k=3
    )
    assert found["lookup"]["workload"].rows == 2
    assert found["onnx"]["golden_texts"].max_abs_probability_diff == 0


def test_a_backend_may_have_a_tolerance_of_its_own():
    answers = {"lookup": make_answers(tokens_1=GOLDEN + np.float32(0.01)), "onnx": make_answers()}
    answers["lookup"]["golden_ids"] = GOLDEN + np.float32(0.01)
    found = check_agreement(answers, GOLDEN, ("tokens_1",), k=3, tolerances={"lookup": 0.02})
    assert found["lookup"]["golden_ids"].max_abs_probability_diff == pytest.approx(0.01, rel=1e-3)
    assert found["onnx"]["workload"].max_abs_probability_diff == pytest.approx(0.01, rel=1e-3)
    with pytest.raises(AgreementError, match="lookup, golden_ids: expected Keras's .* 0.005 and"):
        check_agreement(answers, GOLDEN, ("tokens_1",), k=3, tolerances={"lookup": 0.005})
    with pytest.raises(AgreementError, match="onnx, golden_ids: expected Keras's .* 1e-05 and"):
        swapped = {"lookup": make_answers(), "onnx": answers["lookup"]}
        check_agreement(swapped, GOLDEN, ("tokens_1",), k=3, tolerances={"lookup": 0.02})


@pytest.mark.parametrize("part", ["golden_ids", "golden_texts"])
def test_a_backend_that_differs_from_keras_stops_the_comparison(part: str):
    wrong = make_answers(**{part: GOLDEN + np.float32(2e-5)})
    with pytest.raises(
        AgreementError,
        match=rf"nothing was timed\. lookup, {part}: expected Keras's probabilities within 1e-05 "
        r"and the same top 3, found a difference of 2e-05 and 0 of 2 rows",
    ):
        check_agreement({"onnx": make_answers(), "lookup": wrong}, GOLDEN, ("tokens_1",), k=3)


def test_a_backend_that_differs_on_the_workload_stops_the_comparison():
    wrong = make_answers(tokens_1=GOLDEN[::-1])
    with pytest.raises(AgreementError, match=r"lookup, workload: expected onnx's probabilities"):
        check_agreement({"onnx": make_answers(), "lookup": wrong}, GOLDEN, ("tokens_1",), k=3)


def test_every_disagreement_is_named_at_once():
    wrong = make_answers(golden_ids=GOLDEN[:1], golden_texts=GOLDEN[::-1])
    with pytest.raises(AgreementError, match=r"onnx, golden_ids: .* onnx, golden_texts: "):
        check_agreement({"onnx": wrong}, GOLDEN, ("tokens_1",), k=3)
