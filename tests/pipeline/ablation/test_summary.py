"""Figures from measurements: ratios by round, what is said of them, promises."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ablation.summary import Ratio, check_promises, compare, summarise

RATES = st.lists(st.floats(1.0, 1e6), min_size=1, max_size=5)


def make_measurement(
    rung: str,
    *,
    number: int = 0,
    storage: str = "local",
    first_s: float = 1.0,
    later_s: float = 1.0,
) -> dict[str, Any]:
    return {
        "round": number,
        "rung": rung,
        "storage": storage,
        "rows": 1000,
        "first_batch_s": 0.1,
        "first_epoch_s": first_s,
        "later_epochs_s": [later_s, 9 * later_s, later_s],
        "memory_bytes": 5_000_000,
        "padded_tokens": 20_000,
        "waiting": None,
    }


@given(st.lists(st.tuples(st.floats(1.0, 1e6), st.floats(1.0, 1e6)), min_size=1, max_size=5))
def test_a_ratio_lies_between_its_rounds_and_swaps_with_its_parts(
    rounds: list[tuple[float, float]],
) -> None:
    found, naive = zip(*rounds, strict=True)
    ratio = compare(found, naive)
    assert ratio.low <= ratio.median <= ratio.high
    assert ratio.rounds == len(rounds)
    swapped = compare(naive, found)
    assert swapped.low == pytest.approx(1 / ratio.high)
    assert swapped.high == pytest.approx(1 / ratio.low)


@given(RATES)
def test_a_rung_like_naive_makes_no_difference(rates: list[float]) -> None:
    ratio = compare(rates, rates)
    assert (ratio.low, ratio.median, ratio.high) == (1, 1, 1)
    assert ratio.verdict == ("no difference" if len(rates) > 1 else "one round, no claim")


@pytest.mark.parametrize(
    ("low", "high", "rounds", "verdict"),
    [
        (1.2, 3.0, 3, "faster than naive"),
        (0.7, 0.9, 3, "slower than naive here"),
        (0.97, 1.04, 3, "no difference"),
        (0.9, 1.3, 3, "no clear difference"),
        (1.01, 1.3, 3, "no clear difference"),
        (5.0, 5.0, 1, "one round, no claim"),
    ],
)
def test_a_verdict_is_what_all_rounds_agree_on(
    low: float, high: float, rounds: int, verdict: str
) -> None:
    assert Ratio(median=(low + high) / 2, low=low, high=high, rounds=rounds).verdict == verdict


def test_ratios_are_taken_within_a_round_and_a_storage() -> None:
    measurements = [
        make_measurement("default", number=1, first_s=1.0, later_s=0.1),
        make_measurement("naive", number=0, first_s=2.0, later_s=2.0),
        make_measurement("naive", number=1, first_s=8.0, later_s=4.0),  # a slow moment
        make_measurement("default", number=0, first_s=0.5, later_s=0.1),
        make_measurement("naive", storage="remote", first_s=40.0),
        make_measurement("default", storage="remote", first_s=4.0),
    ]
    entries = {(entry["rung"], entry["storage"]): entry for entry in summarise(measurements)}
    local = entries["default", "local"]
    assert local["first_ratio"] == {
        "median": 6.0,
        "low": 4.0,
        "high": 8.0,
        "rounds": 2,
        "verdict": "faster than naive",
    }
    assert local["later_ratio"]["low"] == pytest.approx(20)
    assert local["later_ratio"]["high"] == pytest.approx(40)
    assert local["later_per_s"] == pytest.approx(10_000)  # the median of later epochs
    assert local["padded_tokens"] == 20
    assert entries["default", "remote"]["first_ratio"]["median"] == 10
    assert entries["naive", "local"]["first_ratio"]["verdict"] == "no difference"


def test_promises_are_held_by_the_default_pipeline_alone() -> None:
    measurements = [
        make_measurement("naive", first_s=3.0, later_s=3.0),
        {
            **make_measurement("default", first_s=1.0, later_s=0.2),
            "waiting": {
                "steps": 9,
                "wait_share": 0.031,
                "step_ms": 50.0,
                "preloaded_step_ms": 49.0,
            },
        },
        make_measurement("vectorised_map", first_s=1e-3, later_s=1e-3),
    ]
    found = [
        (promise["what"], promise["found"], promise["is_held"])
        for promise in check_promises(summarise(measurements))
    ]
    assert found == [
        ("first epoch against naive", "3.0x", True),
        ("later epochs against naive", "15.0x", False),
        ("wait for input in a fit", "3.10%", False),
    ]


def test_nothing_is_promised_of_what_was_not_measured() -> None:
    assert check_promises(summarise([make_measurement("naive")])) == []
