"""When the requests of an open loop are sent: seeded random arrivals, drawn before the run.

People do not wait for each other: the next request comes whether or not the last was answered. A
Poisson process is what many independent people make together, bursts included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Phase(NamedTuple):
    """A stretch of time with one rate.

    Attributes:
        rate_per_s: Mean number of requests a second.
        duration_s: Its length.
    """

    rate_per_s: float
    duration_s: float


def draw_arrivals(phases: Sequence[Phase], *, seed: int) -> NDArray[np.int64]:
    """Return the times of all requests in ns from the start, ascending.

    In each phase their number is the rate times the duration and their times are uniform: a Poisson
    process given its count. A drawn count would move a short probe's rate by several percent.

    Args:
        phases: One behind the other.
        seed: Same seed and phases, same arrivals.

    Raises:
        ValueError: A rate or a duration is not a positive number.
    """
    random = np.random.default_rng(seed)
    parts = []
    start_ns = 0.0
    for phase in phases:
        for name, value in phase._asdict().items():
            if not 0 < value < float("inf"):
                raise ValueError(f"{name}: expected a positive number, found {value}.")
        count = max(1, round(phase.rate_per_s * phase.duration_s))
        length_ns = phase.duration_s * 1e9
        parts.append(start_ns + np.sort(random.random(count)) * length_ns)
        start_ns += length_ns
    return np.concatenate([np.zeros(0), *parts]).astype(np.int64)
