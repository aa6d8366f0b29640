from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from export.compression import (
    EXACT_OPTION,
    NAMED_OPTIONS,
    AccuracyLossError,
    CompressionResult,
    Option,
    OptionCost,
    check_accuracy_loss,
    list_options,
)
from export.difference import EXACT, AgreementError

INT8 = Option("int8", "float32")
BOTH = Option("int16", "int8")


def make_cost(option: Option = EXACT_OPTION, **changes: Any) -> OptionCost:
    fields: dict[str, Any] = {
        "array_bytes": 4096,
        "max_abs_logit_diff": 0.0,
        "max_relative_logit_diff": 0.0,
        "max_abs_probability_diff": 0.0,
        "top_1_changes": 0,
        "top_k_changes": 0,
        "top_1_hits": 800,
        "top_k_hits": 900,
        "latency_us": 12.345,
    }
    return OptionCost(option=option, **(fields | changes))


def make_result(*costs: OptionCost) -> CompressionResult:
    return CompressionResult(rows=1000, k=3, engine="numpy", costs=(make_cost(), *costs))


LOSSY = make_cost(
    INT8,
    array_bytes=1024,
    max_abs_logit_diff=0.1234,
    max_relative_logit_diff=0.0101,
    max_abs_probability_diff=0.01,
    top_1_changes=5,
    top_k_changes=17,
    top_1_hits=797,
    top_k_hits=901,
)


@pytest.mark.parametrize(
    ("option", "label"),
    [
        (EXACT_OPTION, "exact (float32)"),
        (INT8, "table int8"),
        (Option("float32", "int16"), "recurrent int16"),
        (BOTH, "table int16, recurrent int8"),
    ],
)
def test_options_have_names_for_people(option: Option, label: str) -> None:
    assert option.label == label


def test_every_type_is_measured_on_its_own_and_exact_comes_first() -> None:
    assert NAMED_OPTIONS[0] == EXACT_OPTION
    assert {option.table_dtype for option in NAMED_OPTIONS} == {
        "float32",
        "float16",
        "int16",
        "int8",
    }
    assert {option.recurrent_dtype for option in NAMED_OPTIONS} == {"float32", "int16", "int8"}


def test_bounds_are_twice_what_was_measured_rounded_up() -> None:
    assert make_cost().bounds == EXACT
    bounds = LOSSY.bounds
    assert (bounds.probability, bounds.logit, bounds.same_ranks) == (0.021, 0.021, False)
    assert make_cost(INT8).bounds.probability == 1e-5
    assert make_cost(INT8, max_abs_probability_diff=0.9).bounds.probability == 1


@pytest.mark.parametrize(("budget", "is_within"), [(0.002, False), (0.003, True), (0.0029, False)])
def test_the_budget_counts_texts(budget: float, is_within: bool) -> None:
    result = make_result(LOSSY)
    assert result.is_within(INT8, budget) is is_within
    assert result.is_within(EXACT_OPTION, 0.0)


def test_both_accuracies_count() -> None:
    result = make_result(dataclasses.replace(LOSSY, top_1_hits=820, top_k_hits=896))
    assert result.lost_hits(INT8) == (-20, 4)
    assert not result.is_within(INT8, 0.003)


def test_an_option_that_costs_too_much_is_refused_with_what_would_not() -> None:
    result = make_result(
        LOSSY, make_cost(Option("float16", "float32")), make_cost(Option("float32", "int16"))
    )
    check_accuracy_loss(result, Option("float16", "float32"), 0.0)
    message = (
        "lookup with table int8: expected accuracy on the test split to fall by at most 0.002, "
        "found top-1 from 80.00% to 79.70% (3 of 1000 texts). Nothing was published. Within the "
        "budget: table float16; recurrent int16. Choose --lookup-table and --lookup-recurrent "
        "from these, or raise --max-accuracy-loss."
    )
    with pytest.raises(AccuracyLossError, match=f"^{re.escape(message)}$"):
        check_accuracy_loss(result, INT8, 0.002)
    assert issubclass(AccuracyLossError, AgreementError)


def test_a_refusal_names_every_accuracy_that_falls() -> None:
    result = make_result(dataclasses.replace(LOSSY, top_k_hits=890))
    message = (
        "found top-1 from 80.00% to 79.70% (3 of 1000 texts) and top-3 from 90.00% to 89.00% (10 "
        "of 1000 texts). Nothing was published. Within the budget: no compressed option."
    )
    with pytest.raises(AccuracyLossError, match=re.escape(message)):
        check_accuracy_loss(result, INT8, 0.002)


def test_the_manifest_entry_holds_no_time_and_rounds_differences_up() -> None:
    entry = make_result(LOSSY).to_json(INT8, 0.01)
    assert {name: value for name, value in entry.items() if name != "options"} == {
        "table_dtype": "int8",
        "recurrent_dtype": "float32",
        "tolerance": 0.021,
        "max_accuracy_loss": 0.01,
        "rows": 1000,
        "k": 3,
        "engine": "numpy",
    }
    assert entry["options"][1] == {
        "table_dtype": "int8",
        "recurrent_dtype": "float32",
        "array_bytes": 1024,
        "max_abs_logit_diff": 0.13,
        "max_abs_probability_diff": 0.01,
        "top_1": 0.797,
        "top_k": 0.901,
        "top_1_changes": 5,
        "top_k_changes": 17,
    }
    assert make_result().to_json(EXACT_OPTION, 0.01)["tolerance"] == 1e-5


def test_the_table_for_people_shows_times_only_when_there_are_any() -> None:
    entry = make_result(LOSSY).to_json(INT8, 0.01)
    assert list_options(entry) == [
        ("table / kernel", "arrays", "Δlogit", "top-1", "top-3", "changed"),
        ("float32 / float32", "4.0 KiB", "0.0e+00", "80.00%", "90.00%", "0 / 0"),
        ("int8 / float32", "1.0 KiB", "1.3e-01", "79.70%", "90.10%", "5 / 17"),
    ]
    timed = list_options(entry, {EXACT_OPTION: 12.345, INT8: 9.0})
    assert [row[-1] for row in timed] == ["us", "12.3", "9.0"]
