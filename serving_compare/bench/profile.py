"""How thorough a benchmark is: what is timed, how often, how long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from serving_compare.bench.cold import STARTS
from serving_compare.bench.interleave import BlockLimits

MAX_UNITS = 4096
MAX_LENGTH = 1000


class BenchOptionError(Exception):
    """An option that no benchmark can be made of."""


@dataclass(frozen=True, kw_only=True)
class BenchProfile:
    """Settings of a benchmark.

    Attributes:
        name: What the report calls it.
        processes: Fresh processes of each kind; the unit of chance.
        units: State sizes H of the untrained models.
        lengths: Token lengths of the single rows.
        cold_lengths: Those that are also timed with cold caches.
        cold_samples: Cold calls of each form, length and process.
        limits: Stop rules of a form in a block of single rows.
        batch_sizes: Sizes of the batches.
        bulk_limits: Stop rules of a form in a block of batches.
        texts: Texts of the artifact's test split.
        starts: Forms that are started cold.
        max_duration_s: No further round of processes is begun that would likely end behind this.
        child_timeout_s: A process that takes longer is ended and the benchmark fails.
    """

    name: str
    processes: int
    units: tuple[int, ...]
    lengths: tuple[int, ...]
    cold_lengths: tuple[int, ...]
    cold_samples: int
    limits: BlockLimits
    batch_sizes: tuple[int, ...]
    bulk_limits: BlockLimits
    texts: int
    starts: tuple[str, ...]
    max_duration_s: float
    child_timeout_s: float

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        values = asdict(self)
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
        }


DEFAULT = BenchProfile(
    name="default",
    processes=6,  # fewer support no claim: see `statistics.MIN_ROUNDS_TO_CLAIM`
    units=(128, 256),
    lengths=(1, 2, 5, 10, 20, 40),
    cold_lengths=(2, 20),
    cold_samples=20,
    limits=BlockLimits(blocks=4, warm_up_s=0.004, min_passes=2, duration_s=0.006),
    batch_sizes=(32, 256, 1024),
    bulk_limits=BlockLimits(blocks=2, warm_up_s=0.0, min_passes=1, duration_s=0.03),
    texts=400,
    starts=tuple(STARTS),
    max_duration_s=840.0,
    child_timeout_s=300.0,
)
QUICK = replace(
    DEFAULT,
    name="quick",
    processes=3,
    units=(128,),
    lengths=(1, 2, 20),
    cold_lengths=(20,),
    cold_samples=10,
    limits=BlockLimits(blocks=3, warm_up_s=0.002, min_passes=1, duration_s=0.003),
    batch_sizes=(256,),
    bulk_limits=BlockLimits(blocks=1, warm_up_s=0.0, min_passes=1, duration_s=0.01),
    texts=100,
    # TensorFlow's start alone would take a third of the time; `compare` measures it too.
    starts=tuple(form for form in STARTS if form != "saved_model"),
    max_duration_s=110.0,
)


def choose_profile(
    *, quick: bool, units: Sequence[int] | None, lengths: Sequence[int] | None
) -> BenchProfile:
    """Return the profile with the options applied.

    Args:
        quick: Whether to start from the quick profile.
        units: State sizes, or None for the profile's own.
        lengths: Token lengths, or None; only those of its own cold lengths remain cold.

    Raises:
        BenchOptionError: A list is empty, holds a number twice, or one out of range.
    """
    profile = QUICK if quick else DEFAULT
    if units is not None:
        profile = replace(profile, units=_check_list("--units", units, MAX_UNITS))
    if lengths is not None:
        chosen = _check_list("--lengths", lengths, MAX_LENGTH)
        cold = tuple(length for length in profile.cold_lengths if length in chosen)
        profile = replace(profile, lengths=chosen, cold_lengths=cold or chosen[-1:])
    return profile


def _check_list(option: str, values: Sequence[int], most: int) -> tuple[int, ...]:
    wrong = [value for value in values if not 1 <= value <= most]
    if not values or wrong or len(set(values)) != len(values):
        found = str(wrong[0]) if wrong else ",".join(map(str, values)) or "nothing"
        raise BenchOptionError(
            f"{option}: expected distinct numbers from 1 to {most}, separated by commas, found "
            f"{found}."
        )
    return tuple(sorted(values))
