"""From measurements to figures: medians, ratios to the naive rung, promises. Pure functions."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.ablation.schedule import PRODUCT, YARDSTICK

NEUTRAL = 0.05
"""Differences below 5 % are called none: they are no reason to write or to drop a line of code."""
PROMISES = (
    ("first epoch against naive", "local", "first_ratio", 3.0),
    ("later epochs against naive", "local", "later_ratio", 20.0),
    ("first epoch against naive", "remote", "first_ratio", 3.0),
    ("later epochs against naive", "remote", "later_ratio", 40.0),
)
MAX_WAIT_SHARE = 0.03


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How many times the examples a second of the naive rung, on the same storage.

    Attributes:
        median: Over rounds, each of which compares two processes of the same round.
        low: Smallest of the rounds.
        high: Largest.
        rounds: Their number.
    """

    median: float
    low: float
    high: float
    rounds: int

    @property
    def verdict(self) -> str:
        """In words, by a rule: what the rounds all agree on, and nothing else."""
        if self.rounds < 2:
            return "one round, no claim"
        if self.low > 1 + NEUTRAL:
            return "faster than naive"
        if self.high < 1 - NEUTRAL:
            return "slower than naive here"
        if self.low >= 1 - NEUTRAL and self.high <= 1 + NEUTRAL:
            return "no difference"
        return "no clear difference"


def compare(found: Sequence[float], naive: Sequence[float]) -> Ratio:
    """Compare examples a second by round.

    Args:
        found: One a round.
        naive: Those of the same rounds.
    """
    ratios = [a / b for a, b in zip(found, naive, strict=True)]
    return Ratio(
        median=statistics.median(ratios), low=min(ratios), high=max(ratios), rounds=len(ratios)
    )


def _first_per_s(measured: dict[str, Any]) -> float:
    return float(measured["rows"] / measured["first_epoch_s"])


def _later_per_s(measured: dict[str, Any]) -> float:
    return float(measured["rows"] / statistics.median(measured["later_epochs_s"]))


def summarise(measurements: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Reduce measurements to one entry a (storage, rung), in the order of their first mention.

    Args:
        measurements: See `measure.measure`; every round of every rung has one of `naive`.

    Returns:
        JSON values a (rung, storage): `rows`, `first_per_s` and `later_per_s` (medians, examples
        a second), `first_ratio` and `later_ratio` (fields of `Ratio` and its `verdict`),
        `first_batch_s`, `memory_bytes` (medians), `padded_tokens` (per example), `waiting`.
    """
    by_place: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for measured in sorted(measurements, key=lambda measured: int(measured["round"])):
        by_place.setdefault((measured["storage"], measured["rung"]), []).append(measured)
    entries = []
    for (storage, rung), rounds in by_place.items():
        naive = by_place[storage, YARDSTICK][: len(rounds)]
        entry: dict[str, Any] = {"rung": rung, "storage": storage, "rows": rounds[0]["rows"]}
        for name, rate in (("first", _first_per_s), ("later", _later_per_s)):
            rates = [rate(measured) for measured in rounds]
            ratio = compare(rates, [rate(measured) for measured in naive])
            entry[f"{name}_per_s"] = statistics.median(rates)
            entry[f"{name}_ratio"] = {**asdict(ratio), "verdict": ratio.verdict}
        for name in ("first_batch_s", "memory_bytes"):
            entry[name] = statistics.median(measured[name] for measured in rounds)
        entry["padded_tokens"] = rounds[0]["padded_tokens"] / rounds[0]["rows"]
        entry["waiting"] = rounds[0]["waiting"]
        entries.append(entry)
    return entries


def check_promises(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Hold the default pipeline to what it promises.

    Returns:
        One entry a promise whose figures were measured: `what`, `storage`, `target`, `found`,
        `is_held`. Of a ratio the median counts.
    """
    product = {entry["storage"]: entry for entry in entries if entry["rung"] == PRODUCT}
    promises = []
    for what, storage, field, target in PROMISES:
        if storage in product:
            found = product[storage][field]["median"]
            promises.append(
                {
                    "what": what,
                    "storage": storage,
                    "target": f">= {target:g}x",
                    "found": f"{found:.1f}x",
                    "is_held": found >= target,
                }
            )
    for storage, entry in product.items():
        if entry["waiting"]:
            share = entry["waiting"]["wait_share"]
            promises.append(
                {
                    "what": "wait for input in a fit",
                    "storage": storage,
                    "target": f"< {MAX_WAIT_SHARE:.0%} of step time",
                    "found": f"{share:.2%}",
                    "is_held": share < MAX_WAIT_SHARE,
                }
            )
    return promises
