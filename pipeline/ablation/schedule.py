"""In which order the children run, and how thorough an ablation is.

A round is every (rung, storage) once, in seeded random order: what slows the machine for a while
slows neighbours of a random kind, not always the same rung, and ratios are taken within a round.
Behind the rounds some steps are trained from one rung after the other, the most telling first, as
long as the profile's time lasts.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

YARDSTICK = "naive"
"""The rung that all others are compared with; it is always measured."""
PRODUCT = "default"
"""The rung that has to keep the promises, and trains longer."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How thorough an ablation is.

    Attributes:
        name: What the report calls it.
        max_rows: Most rows that the rungs on batches read.
        element_rows: Most rows that the rungs on single rows read, in whole shards.
        rounds: Rounds; a verdict needs two.
        limit_s: No training is begun that would likely end behind it, but those of promises.
        later_s: Later epochs are repeated for so long.
        max_later: Most later epochs in one process.
        warm_steps: Training steps before those that count.
        steps: Training steps that count.
        product_steps: The same for the default pipeline, whose promise rests on them.
        is_training_all: Whether every rung trains, or only the two that a promise is about.
        timeout_s: A child that takes longer is ended and the ablation fails.
    """

    name: str
    max_rows: int
    element_rows: int
    rounds: int
    limit_s: float
    later_s: float
    max_later: int
    warm_steps: int
    steps: int
    product_steps: int
    is_training_all: bool
    timeout_s: float


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="full",
            max_rows=32_000,
            element_rows=8_000,  # four shards, as many as are read at once
            rounds=2,
            limit_s=540.0,
            later_s=1.0,
            max_later=5,
            warm_steps=3,
            steps=8,
            product_steps=150,  # more than one epoch, so a change of windows too
            is_training_all=True,
            timeout_s=300.0,
        ),
        # Shows that everything works, and rough figures. Too few rows for the promises.
        Profile(
            name="quick",
            max_rows=24_000,
            element_rows=3_000,
            rounds=1,
            limit_s=80.0,
            later_s=0.2,
            max_later=3,
            warm_steps=3,
            steps=8,
            product_steps=30,
            is_training_all=False,
            timeout_s=300.0,
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class Task:
    """One child's job.

    Attributes:
        round: From 0.
        rung: Name.
        storage: `local` or `remote`.
    """

    round: int
    rung: str
    storage: str


def make_round(
    rungs: Sequence[str], storages: Sequence[str], *, number: int, seed: int
) -> list[Task]:
    """Return every rung on every storage once, in an order drawn from (seed, number)."""
    tasks = [
        Task(round=number, rung=rung, storage=storage) for storage in storages for rung in rungs
    ]
    random.Random(f"{seed}/{number}").shuffle(tasks)
    return tasks


def order_training(
    rungs: Sequence[str], storages: Sequence[str], *, is_all: bool
) -> list[tuple[str, str]]:
    """Return the (rung, storage) pairs to train from, the most telling first.

    Args:
        rungs: Names, in the order of the ladder.
        storages: Names.
        is_all: Whether the other rungs follow on the first storage.

    Returns:
        What promises are about on every storage, then the rest.
    """
    promised = [rung for rung in (PRODUCT, YARDSTICK) if rung in rungs]
    order = [(rung, storage) for storage in storages for rung in promised]
    if is_all:
        order += [(rung, storages[0]) for rung in rungs if rung not in promised]
    return order


def is_training_due(rung: str, *, elapsed_s: float, longest_s: float, limit_s: float) -> bool:
    """Return whether a rung has to be trained from, or that likely ends within the limit.

    Args:
        rung: Name.
        elapsed_s: Since the ablation began.
        longest_s: Of the trainings so far.
        limit_s: Of the profile.
    """
    return rung in (PRODUCT, YARDSTICK) or elapsed_s + longest_s <= limit_s
