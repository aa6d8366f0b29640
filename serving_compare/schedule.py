"""In which order the children run, how long each may take, and when the comparison stops.

Interleaved in random order, afresh in every round: a machine that slows down for a while slows
every backend in that round, and no backend always runs behind the same neighbour (google/benchmark
measured 40 % less variance between runs from this alone).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from serving_compare.sampling import CellLimits


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How thorough a comparison is.

    Attributes:
        name: What the report calls it.
        rounds: Processes of each backend.
        limits: Stop rules of one cell in one process.
        answer_budget_s: Time for one call a text over the test split; the rest goes in batches.
        max_duration_s: No further round is begun that would likely end behind this time.
        child_timeout_s: A child that takes longer is ended and the comparison fails.
    """

    name: str
    rounds: int
    limits: CellLimits
    answer_budget_s: float
    max_duration_s: float
    child_timeout_s: float

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return {**asdict(self), "limits": self.limits._asdict()}


PROFILES = {
    profile.name: profile
    for profile in (
        # Three rounds support no claim; they show that everything works, and rough figures.
        Profile(
            name="quick",
            rounds=3,
            limits=CellLimits(
                min_samples=100, min_duration_s=0.01, max_duration_s=0.05, warm_up_s=0.1
            ),
            answer_budget_s=4.0,
            max_duration_s=60.0,
            child_timeout_s=120.0,
        ),
        # 1,700 samples in each of six rounds make the 10,000 that a p99 needs.
        Profile(
            name="default",
            rounds=6,
            limits=CellLimits(
                min_samples=1700, min_duration_s=0.02, max_duration_s=0.15, warm_up_s=0.15
            ),
            answer_budget_s=10.0,
            max_duration_s=360.0,
            child_timeout_s=300.0,
        ),
        Profile(
            name="thorough",
            rounds=20,
            limits=CellLimits(
                min_samples=1000, min_duration_s=0.2, max_duration_s=2.0, warm_up_s=1.0
            ),
            answer_budget_s=60.0,
            max_duration_s=3600.0,
            child_timeout_s=600.0,
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One child's turn.

    Attributes:
        round: Number of the round, from 0.
        backend: Whose turn it is.
        cells: All cells in the order of this round, the same for every backend in it.
    """

    round: int
    backend: str
    cells: tuple[str, ...]


def make_rounds(
    backends: Sequence[str], cells: Sequence[str], *, rounds: int, seed: int
) -> list[list[Turn]]:
    """Return each round's turns: every backend once a round, in seeded random order.

    Args:
        backends: Names, none twice.
        cells: Names.
        rounds: How many.
        seed: Same seed, same schedule.
    """
    random = np.random.default_rng(seed)
    schedule = []
    for number in range(rounds):
        order = [cells[int(i)] for i in random.permutation(len(cells))]
        turns = [backends[int(i)] for i in random.permutation(len(backends))]
        schedule.append(
            [Turn(round=number, backend=backend, cells=tuple(order)) for backend in turns]
        )
    return schedule


def has_time_for_round(*, elapsed_s: float, rounds_s: Sequence[float], limit_s: float) -> bool:
    """Return whether another round likely ends within the limit; the first always may run.

    Args:
        elapsed_s: Time since the comparison began.
        rounds_s: How long each round so far took.
        limit_s: Most time the comparison may take.
    """
    return not rounds_s or elapsed_s + max(rounds_s) <= limit_s
