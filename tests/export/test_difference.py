from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from export.difference import (
    TOLERANCE,
    AgreementError,
    Bounds,
    DifferenceTally,
    has_other_ranks,
    rank_top_k,
    round_up,
)


def rows(*values: list[float]) -> np.ndarray:
    return np.array(values, np.float32)


def tally(reference: np.ndarray, found: np.ndarray, k: int = 2) -> DifferenceTally:
    result = DifferenceTally("onnx", k)
    result.add(reference, found, [f"text {row}" for row in range(len(reference))])
    return result


@given(
    arrays(np.float32, (3, 6), elements=st.floats(0, 1, width=32)),
    st.integers(1, 6),
)
def test_ranking_is_a_stable_descending_sort(probabilities: np.ndarray, k: int) -> None:
    ranked = rank_top_k(probabilities, k)
    values = np.take_along_axis(probabilities, ranked, axis=1)
    expected = np.sort(probabilities, axis=1)[:, ::-1][:, :k]
    np.testing.assert_array_equal(values, expected)


def test_equal_probabilities_rank_by_lower_id() -> None:
    assert rank_top_k(rows([0.2, 0.4, 0.4]), 3).tolist() == [[1, 2, 0]]


def test_swapped_classes_are_no_disagreement_within_the_tolerance() -> None:
    near, far = 0.4 + TOLERANCE / 2, 0.4 + TOLERANCE * 3
    assert has_other_ranks(rows([near, 0.4, 0.2]), rows([0.4, near, 0.2]), 2).tolist() == [False]
    assert has_other_ranks(rows([far, 0.4, 0.2]), rows([0.4, far, 0.2]), 2).tolist() == [True]


def test_classes_beyond_k_do_not_count() -> None:
    reference, found = rows([0.5, 0.3, 0.2]), rows([0.5, 0.2, 0.3])
    assert has_other_ranks(reference, found, 1).tolist() == [False]
    assert has_other_ranks(reference, found, 2).tolist() == [True]


def test_a_tally_keeps_the_worst_text() -> None:
    reference = rows([0.5, 0.5], [0.5, 0.5], [0.5, 0.5])
    found = rows([0.5, 0.5], [0.503, 0.497], [0.501, 0.499])
    result = tally(reference, found).summarise()
    assert result.worst_text == "text 1"
    assert result.max_abs_probability_diff == pytest.approx(0.003, rel=1e-3)
    assert result.rows == 3
    assert result.problems[0] == (
        "onnx: expected probabilities within 1e-05 of Keras's, found a difference of 0.003 on "
        "'text 1'."
    )


def test_not_a_number_is_the_worst_difference() -> None:
    result = tally(rows([0.5, 0.5], [0.5, 0.5]), rows([0.6, 0.4], [np.nan, 0.5])).summarise()
    assert result.max_abs_probability_diff == np.inf
    assert result.worst_text == "text 1"


def test_other_first_classes_are_counted_and_named() -> None:
    result = tally(rows([0.6, 0.4], [0.6, 0.4]), rows([0.6, 0.4], [0.4, 0.6])).summarise()
    assert result.top_k_disagreements == 1
    assert result.problems[1] == (
        "onnx: expected Keras's first classes on every text, found others on 1, first on 'text 1'."
    )


def test_agreeing_rows_are_no_problem() -> None:
    result = tally(rows([0.6, 0.4]), rows([0.6 + 1e-6, 0.4 - 1e-6])).summarise()
    assert result.problems == ()


def test_logits_are_measured_against_the_largest_of_their_row() -> None:
    result = DifferenceTally("lookup", 1)
    result.add_logits(rows([100.0, 0.0]), rows([100.0, 5e-4]))
    assert result.summarise().max_relative_logit_diff == pytest.approx(5e-6)
    assert result.summarise().problems == ()
    result.add_logits(rows([0.1, 0.0]), rows([0.1, 5e-4]))
    assert result.summarise().problems == (
        "lookup: expected logits within 1e-05 x max(1, largest |logit|) of Keras's, found a "
        "difference of 0.0005.",
    )


def test_another_shape_is_refused() -> None:
    with pytest.raises(AgreementError, match=r"onnx: expected probabilities of shape \(1, 2\)"):
        tally(rows([0.6, 0.4]), rows([0.6, 0.4, 0.0]))


@given(st.floats(0, 1e9))
def test_rounding_up_gives_a_bound_of_two_digits(value: float) -> None:
    bound = round_up(value)
    assert value <= bound <= value * 1.1 + 1e-300
    assert bound == float(f"{bound:.1e}")
    assert round_up(bound) == bound


@pytest.mark.parametrize(("value", "bound"), [(1e-5, 1e-5), (0.0, 0.0), (np.inf, np.inf)])
def test_rounding_up_leaves_round_numbers_alone(value: float, bound: float) -> None:
    assert round_up(value) == bound


def test_a_compressed_form_is_held_to_its_own_bounds_and_its_ranks_are_only_counted() -> None:
    bounds = Bounds(probability=0.21, logit=0.01, same_ranks=False)
    result = DifferenceTally("lookup", 2, bounds)
    result.add(rows([0.6, 0.4]), rows([0.4, 0.6]), ["text"])
    result.add_logits(rows([1.0, 0.0]), rows([1.0, 0.009]))
    found = result.summarise()
    assert (found.top_k_disagreements, found.problems) == (1, ())
    result.add(rows([0.6, 0.4]), rows([0.36, 0.64]), ["worse"])
    result.add_logits(rows([1.0, 0.0]), rows([1.0, 0.02]))
    assert result.summarise().problems == (
        "lookup: expected probabilities within 0.21 of Keras's, found a difference of 0.24 on "
        "'worse'.",
        "lookup: expected logits within 0.01 x max(1, largest |logit|) of Keras's, found a "
        "difference of 0.02.",
    )
