"""Whose turn it is when, how long a turn may take, and when the comparison stops.

Interleaved in random order, afresh each time: a machine that slows down for a while slows every
backend, and no backend always runs behind the same neighbour (google/benchmark measured 40 % less
variance between runs from this alone).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from serving_compare.sampling import CellLimits


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How thorough a comparison is.

    Attributes:
        name: What the report calls it.
        rounds: Processes of each backend.
        slices: Turns of each backend in each cell and round.
        limits: Stop rules of one slice.
        all_cores: Whether a batch is timed with as many threads as there are cores, too.
        answer_budget_s: Time for one call a text over the test split; the rest goes in batches.
        max_duration_s: No further round is begun that would likely end behind this time.
        child_timeout_s: A child that takes longer is ended and the comparison fails.
    """

    name: str
    rounds: int
    slices: int
    limits: CellLimits
    all_cores: bool
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
            slices=2,
            limits=CellLimits(
                min_samples=50, min_duration_s=0.005, max_duration_s=0.02, warm_up_s=0.05
            ),
            all_cores=False,
            answer_budget_s=4.0,
            max_duration_s=60.0,
            child_timeout_s=120.0,
        ),
        # 425 samples in each of four slices and six rounds make the 10,000 that a p99 needs.
        Profile(
            name="default",
            rounds=6,
            slices=4,
            limits=CellLimits(
                min_samples=425, min_duration_s=0.01, max_duration_s=0.025, warm_up_s=0.06
            ),
            all_cores=True,
            answer_budget_s=10.0,
            max_duration_s=360.0,
            child_timeout_s=300.0,
        ),
        Profile(
            name="thorough",
            rounds=20,
            slices=10,
            limits=CellLimits(
                min_samples=100, min_duration_s=0.02, max_duration_s=0.2, warm_up_s=1.0
            ),
            all_cores=True,
            answer_budget_s=60.0,
            max_duration_s=3600.0,
            child_timeout_s=600.0,
        ),
    )
}


class Turn(NamedTuple):
    """One slice: whose, and of which cell."""

    cell: str
    backend: str


@dataclass(frozen=True, kw_only=True)
class Round:
    """One fresh process of each backend, all alive at once.

    Attributes:
        number: From 0.
        starts: The order in which they are started, one after the other.
        turns: The slices, in order.
    """

    number: int
    starts: tuple[str, ...]
    turns: tuple[Turn, ...]


def make_rounds(
    backends: Sequence[str], cells: Sequence[str], *, rounds: int, slices: int, seed: int
) -> list[Round]:
    """Return the rounds: in each, every backend has `slices` slices of every cell.

    All cells are gone through `slices` times, each time in another order, and within a cell the
    backends follow each other directly, in another order each time: what is compared lies close
    together, and what is averaged lies far apart.

    Args:
        backends: Names, none twice.
        cells: Names.
        rounds: How many.
        slices: Of each backend in each cell and round.
        seed: Same seed, same schedule.
    """
    random = np.random.default_rng(seed)

    def shuffle(names: Sequence[str]) -> list[str]:
        return [names[int(i)] for i in random.permutation(len(names))]

    return [
        Round(
            number=number,
            starts=tuple(shuffle(backends)),
            turns=tuple(
                Turn(cell, backend)
                for _ in range(slices)
                for cell in shuffle(cells)
                for backend in shuffle(backends)
            ),
        )
        for number in range(rounds)
    ]


def has_time_for_round(*, elapsed_s: float, rounds_s: Sequence[float], limit_s: float) -> bool:
    """Return whether another round likely ends within the limit; the first always may run.

    Args:
        elapsed_s: Time since the comparison began.
        rounds_s: How long each round so far took.
        limit_s: Most time the comparison may take.
    """
    return not rounds_s or elapsed_s + max(rounds_s) <= limit_s
