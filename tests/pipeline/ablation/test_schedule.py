"""The order of the children, and when rounds end."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ablation.schedule import PROFILES, is_round_due, make_round


@given(
    st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1),
    st.integers(0, 5),
    st.integers(0, 99),
)
def test_a_round_is_every_rung_on_every_storage_once(
    rungs: list[str], number: int, seed: int
) -> None:
    tasks = make_round(rungs, ["local", "remote"], number=number, seed=seed)
    assert Counter((task.rung, task.storage) for task in tasks) == Counter(
        (rung, storage) for rung in rungs for storage in ("local", "remote")
    )
    assert tasks == make_round(rungs, ["local", "remote"], number=number, seed=seed)


def test_rounds_and_seeds_differ_in_order() -> None:
    rungs = list("abcdefgh")
    orders = {
        tuple(task.rung for task in make_round(rungs, ["local"], number=number, seed=seed))
        for number, seed in ((0, 1), (1, 1), (0, 2))
    }
    assert len(orders) == 3


@pytest.mark.parametrize(
    ("elapsed_s", "rounds_s", "expected"),
    [
        (9999.0, [], True),
        (9999.0, [5000.0], True),  # a verdict needs two rounds
        (300.0, [150.0, 100.0], True),
        (480.0, [150.0, 100.0], False),
        (50.0, [10.0] * 5, False),
    ],
)
def test_a_further_round_is_begun_only_where_it_likely_ends_in_time(
    elapsed_s: float, rounds_s: list[float], expected: bool
) -> None:
    found = is_round_due(PROFILES["full"], elapsed_s=elapsed_s, rounds_s=rounds_s)
    assert found is expected
