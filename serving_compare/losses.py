"""Where `lookup` is slower, larger or less sure than another backend: sentences from the data.

A report that names only wins is an advertisement. These sentences are generated, so nobody can
forget one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from serving_compare.backends import NULL
from serving_compare.statistics import MIN_ROUNDS_TO_CLAIM

Json = Mapping[str, Any]
LOOKUP = "lookup"
KIND_NAMES = {
    "tokens": "ids in, tokens",
    "title_text": "string in, characters",
    "title_ids": "the same titles' ids in, characters",
    "batch": "batches of",
    "cold_start": "cold start",
}
_AMOUNTS: dict[str, Callable[[Json], float]] = {
    "Size on disk, ids in": lambda backend: float(backend["size"]["ids_bytes"]),
    "Size on disk, string in": lambda backend: float(backend["size"]["text_bytes"]),
    "Peak memory up to the first answer": lambda backend: float(
        backend["memory"]["peak_bytes"]["median"]
    ),
}


def list_losses(report: Json) -> list[str]:
    """Return one sentence for each way in which `lookup` does not win.

    Args:
        report: Content of a report.json.

    Returns:
        At least one sentence: where there is no loss, it says so.
    """
    if LOOKUP not in report["backends"]:
        return ["lookup was not compared."]
    rivals = [name for name in report["backends"] if name not in (LOOKUP, NULL)]
    if not rivals:
        return ["No other backend was compared."]
    losses = [line for rival in rivals for line in _list_slower(report, rival)]
    losses += _list_larger(report, rivals) + _list_less_accurate(report, rivals)
    losses = losses or ["Nowhere, among what was measured on this machine."]
    return losses + _list_undecided(report, rivals)


def find_pair(pairs: Sequence[Json], rival: str) -> tuple[float, list[float] | None, str | None]:
    """Return how many times the rival's time `lookup`'s is, turned the right way round.

    Args:
        pairs: All pairs of one cell, as in report.json.
        rival: Another backend.

    Returns:
        rival's time / lookup's time (above 1: lookup is faster), its interval, and the winner.
    """
    pair = next(pair for pair in pairs if {pair["first"], pair["second"]} == {rival, LOOKUP})
    ratio, interval = pair["ratio"], pair["ci95"]
    if pair["first"] == LOOKUP:
        ratio, interval = 1 / ratio, interval and [1 / interval[1], 1 / interval[0]]
    return ratio, interval, pair["winner"]


def _cells(report: Json) -> list[tuple[str, str, Sequence[Json]]]:
    """Kind, size and pairs of every cell, cold start last."""
    cells = [
        (kind, size, pairs)
        for kind, sizes in report["ratios"].items()
        for size, pairs in sizes.items()
    ]
    return [*cells, ("cold_start", "", report["cold_start_ratios"])]


def _list_slower(report: Json, rival: str) -> list[str]:
    places: dict[str, list[str]] = {}
    for kind, size, pairs in _cells(report):
        ratio, _, winner = find_pair(pairs, rival)
        if winner == rival:
            places.setdefault(kind, []).append(f"{size} ({1 / ratio:.2f}x)".strip())
    return [
        f"{rival} is faster: {KIND_NAMES[kind]} {', '.join(sizes)}."
        for kind, sizes in places.items()
    ]


def _list_larger(report: Json, rivals: Sequence[str]) -> list[str]:
    lines = []
    for label, find in _AMOUNTS.items():
        own = find(report["backends"][LOOKUP])
        smaller = {rival: find(report["backends"][rival]) for rival in rivals}
        smaller = {rival: amount for rival, amount in smaller.items() if amount < own}
        if smaller:
            others = ", ".join(
                f"{rival} {amount / 1e6:.2f} MB" for rival, amount in smaller.items()
            )
            lines.append(f"{label}: lookup {own / 1e6:.2f} MB, {others}.")
    return lines


def _list_less_accurate(report: Json, rivals: Sequence[str]) -> list[str]:
    own = report["backends"][LOOKUP]["accuracy"]
    lines = []
    for rival in rivals:
        other = report["backends"][rival]["accuracy"]
        if own and other and other["top_1"] > own["top_1"]:
            gap = other["top_1"] - own["top_1"]
            lines.append(f"{rival} is more accurate: top-1 higher by {gap:.4%}.")
    return lines


def _list_undecided(report: Json, rivals: Sequence[str]) -> list[str]:
    rounds = report["protocol"]["rounds"]
    if rounds < MIN_ROUNDS_TO_CLAIM:
        return [
            f"No winner is named in any cell: that takes {MIN_ROUNDS_TO_CLAIM} rounds, found "
            f"{rounds}. Fewer could all fall on one side by chance."
        ]
    lines = []
    for rival in rivals:
        places: dict[str, list[str]] = {}
        for kind, size, pairs in _cells(report):
            if find_pair(pairs, rival)[2] is None:
                places.setdefault(kind, []).append(size)
        if places:
            text = "; ".join(
                f"{KIND_NAMES[kind]} {', '.join(sizes)}".strip() for kind, sizes in places.items()
            )
            lines.append(f"Too close to call against {rival}: {text}.")
    return lines
