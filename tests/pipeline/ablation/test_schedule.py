"""The order of the children, and when rounds end."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ablation.schedule import PROFILES, is_training_due, make_round, order_training


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


def test_what_promises_are_about_is_trained_from_first_and_on_every_storage() -> None:
    rungs = ["naive", "prefetch", "default", "service"]
    storages = ["local", "remote"]
    promised = [
        *(("default", "local"), ("naive", "local")),
        *(("default", "remote"), ("naive", "remote")),
    ]
    assert order_training(rungs, storages, is_all=False) == promised
    rest = [("prefetch", "local"), ("service", "local")]
    assert order_training(rungs, storages, is_all=True) == promised + rest
    assert order_training(["naive"], ["remote"], is_all=True) == [("naive", "remote")]


@pytest.mark.parametrize(
    ("rung", "elapsed_s", "longest_s", "expected"),
    [
        ("prefetch", 500.0, 40.0, True),
        ("prefetch", 501.0, 40.0, False),
        ("default", 9999.0, 40.0, True),  # a promise is looked at however late it is
        ("naive", 9999.0, 40.0, True),
    ],
)
def test_a_training_is_begun_only_where_it_likely_ends_in_time(
    rung: str, elapsed_s: float, longest_s: float, expected: bool
) -> None:
    limit_s = PROFILES["full"].limit_s
    assert limit_s == 540.0
    found = is_training_due(rung, elapsed_s=elapsed_s, longest_s=longest_s, limit_s=limit_s)
    assert found is expected
