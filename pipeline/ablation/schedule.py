"""In which order the children run, how thorough an ablation is, and when its rounds end.

A round is every (rung, storage) once, in seeded random order: what slows the machine for a while
slows neighbours of a random kind, not always the same rung, and ratios are taken within a round.
The first round also trains some steps in each child; further rounds are begun as long as they
likely end within the profile's time.
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
        min_rounds: Rounds that are run however long they take; a verdict needs two.
        max_rounds: Most rounds.
        limit_s: No further round is begun that would likely end behind it.
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
    min_rounds: int
    max_rounds: int
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
            max_rows=100_000,
            element_rows=24_000,
            min_rounds=2,
            max_rounds=5,
            limit_s=560.0,
            later_s=1.0,
            max_later=5,
            warm_steps=3,
            steps=8,
            product_steps=300,  # more than one window of 256 batches, so a change of windows too
            is_training_all=True,
            timeout_s=300.0,
        ),
        # Shows that everything works, and rough figures. Too few rows for the promises.
        Profile(
            name="quick",
            max_rows=24_000,
            element_rows=3_000,
            min_rounds=1,
            max_rounds=2,
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


def is_round_due(profile: Profile, *, elapsed_s: float, rounds_s: Sequence[float]) -> bool:
    """Return whether another round has to run, or likely ends within the profile's limit.

    Args:
        profile: How thorough.
        elapsed_s: Since the ablation began.
        rounds_s: How long each round so far took; the first trains, too, and takes longest.
    """
    if len(rounds_s) < profile.min_rounds:
        return True
    return len(rounds_s) < profile.max_rounds and elapsed_s + min(rounds_s) <= profile.limit_s
