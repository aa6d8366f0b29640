"""Reading a report's pairs of backends: which way round, of which cell, under which name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]
KIND_NAMES = {
    "tokens": "ids in, tokens",
    "zipf": "ids as frequent as in the texts, tokens",
    "uniform": "ids uniform over the vocabulary, tokens",
    "cold": "cold caches, tokens",
    "title_text": "string in, characters",
    "title_ids": "the same titles' ids in, characters",
    "batch": "batches of",
    "all_cores": "all cores, batches of",
    "cold_start": "cold start",
}
_SHORT_NAMES = {
    "tokens": "{} tokens",
    "zipf": "{} tokens, frequent ids",
    "uniform": "{} tokens, uniform ids",
    "cold": "{} tokens, cold caches",
    "title_text": "{} characters",
    "title_ids": "{} characters, ids in",
    "batch": "batch of {}",
    "all_cores": "batch of {}, all cores",
    "cold_start": "cold start",
}


def name_kind(kind: str) -> str:
    """Return what a sentence calls a kind of cells; its sizes follow."""
    return KIND_NAMES.get(kind, kind.replace("_", " "))


def name_cell(kind: str, size: str) -> str:
    """Return what a row or an axis calls one cell."""
    name = _SHORT_NAMES.get(kind, kind.replace("_", " ") + " {}").format(size)
    return name.replace("tokens", "token") if size == "1" else name


def list_pairs(report: Json) -> list[tuple[str, str, Sequence[Json]]]:
    """Return kind, size and pairs of every cell, cold start last."""
    cells = [
        (kind, size, pairs)
        for kind, sizes in report["ratios"].items()
        for size, pairs in sizes.items()
    ]
    return [*cells, ("cold_start", "", report["cold_start_ratios"])]


def has_pair(pairs: Sequence[Json], own: str, rival: str) -> bool:
    """Return whether both backends were timed in the cell."""
    return any({pair["first"], pair["second"]} == {own, rival} for pair in pairs)


def orient_pair(
    pairs: Sequence[Json], own: str, rival: str
) -> tuple[float, tuple[float, float] | None, str | None]:
    """Return rival's time over own time (above 1: own is faster), its interval, and the winner.

    Args:
        pairs: All pairs of one cell, as in report.json.
        own: One backend.
        rival: Another one; both are in `pairs`.
    """
    pair = next(pair for pair in pairs if {pair["first"], pair["second"]} == {rival, own})
    ratio, interval = float(pair["ratio"]), pair["ci95"]
    if pair["first"] == own:
        ratio, interval = 1 / ratio, interval and [1 / interval[1], 1 / interval[0]]
    return ratio, None if interval is None else (interval[0], interval[1]), pair["winner"]
