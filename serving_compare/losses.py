"""Where `lookup` is slower, larger or less sure than another backend: sentences from the data.

A report that names only wins is an advertisement. These sentences are generated, so nobody can
forget one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from serving_compare.backends import NULL
from serving_compare.pairs import has_pair, list_pairs, name_kind, orient_pair
from serving_compare.statistics import MIN_ROUNDS_TO_CLAIM

Json = Mapping[str, Any]
LOOKUP = "lookup"
_AMOUNTS: dict[str, Callable[[Json], float | None]] = {
    "Size on disk, ids in": lambda backend: backend["size"]["ids_bytes"],
    "Size on disk, string in": lambda backend: backend["size"]["text_bytes"],
    "Peak memory up to the first answer": lambda backend: backend["memory"]["peak_bytes"]["median"],
    "Proportional memory up to the first answer": lambda backend: (
        backend["memory"].get("pss_bytes", {}).get("median")
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
    losses += list_http_losses(report.get("http"))
    losses = losses or ["Nowhere, among what was measured on this machine."]
    return losses + _list_undecided(report, rivals)


def list_http_losses(http: Json | None) -> list[str]:
    """Return where `lookup` loses behind HTTP, and what HTTP leaves of its lead.

    Args:
        http: The report's section, or None where no server was driven.
    """
    if http is None or LOOKUP not in http["backends"]:
        return []
    own = http["backends"][LOOKUP]
    rivals = {name: found for name, found in http["backends"].items() if name not in (LOOKUP, NULL)}
    lines = []
    for rival, found in rivals.items():
        mine, theirs = own["server"]["max_rate_per_s"], found["server"]["max_rate_per_s"]
        pair = next(
            (pair for pair in http["ratios"] if {pair["first"], pair["second"]} == {LOOKUP, rival}),
            None,
        )
        if pair is not None and pair["winner"] == rival:
            lines.append(
                f"{rival} answers more requests a second within the p99 of "
                f"{http['slo_p99_ms']:g} ms: {theirs:,.0f}, lookup {mine:,.0f}."
            )
        elif pair is not None and pair["winner"] is None:
            lines.append(
                f"Requests a second within the p99 of {http['slo_p99_ms']:g} ms are too close to "
                f"call against {rival}: lookup {mine:,.0f}, {rival} {theirs:,.0f}."
            )
        single, other = own["single_stream"], found["single_stream"]
        if _is_above(single["ci95"], other["ci95"]):
            lines.append(
                f"{rival} is faster over HTTP, one request at a time: {other['median_us']:,.0f} µs,"
                f" lookup {single['median_us']:,.0f} µs."
            )
    return lines + _list_shrunken_leads(own, rivals)


def _list_shrunken_leads(own: Json, rivals: Mapping[str, Json]) -> list[str]:
    """What a request's fixed price leaves of each lead; below a tenth lost it is not told."""
    single = own["single_stream"]
    if not single["in_process_median_us"] or not single["median_us"]:
        return []
    parts = []
    for rival, found in rivals.items():
        other = found["single_stream"]
        if not other["in_process_median_us"] or not other["median_us"]:
            continue
        inside = other["in_process_median_us"] / single["in_process_median_us"]
        outside = other["median_us"] / single["median_us"]
        if inside > 1 and outside < 0.9 * inside:
            parts.append(f"{inside:.1f}x becomes {outside:.1f}x against {rival}")
    if not parts:
        return []
    share = own["http_share"]["single_stream"]
    taken = "" if share is None else f" {share:.0%} of a request to lookup is HTTP:"
    return [f"Behind HTTP the lead shrinks.{taken} {', '.join(parts)}."]


def _is_above(interval: Sequence[float] | None, other: Sequence[float] | None) -> bool:
    """Whether one interval lies wholly above the other."""
    return interval is not None and other is not None and interval[0] > other[1]


def _list_slower(report: Json, rival: str) -> list[str]:
    places: dict[str, list[str]] = {}
    for kind, size, pairs in list_pairs(report):
        if not has_pair(pairs, LOOKUP, rival):
            continue
        ratio, _, winner = orient_pair(pairs, LOOKUP, rival)
        if winner == rival:
            places.setdefault(kind, []).append(f"{size} ({1 / ratio:.2f}x)".strip())
    return [
        f"{rival} is faster: {name_kind(kind)} {', '.join(sizes)}."
        for kind, sizes in places.items()
    ]


def _list_larger(report: Json, rivals: Sequence[str]) -> list[str]:
    lines = []
    for label, find in _AMOUNTS.items():
        own = find(report["backends"][LOOKUP])
        if own is None:
            continue
        found = {rival: find(report["backends"][rival]) for rival in rivals}
        others = ", ".join(
            f"{rival} {amount / 1e6:.2f} MB"
            for rival, amount in found.items()
            if amount is not None and amount < own
        )
        if others:
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
        for kind, size, pairs in list_pairs(report):
            if has_pair(pairs, LOOKUP, rival) and orient_pair(pairs, LOOKUP, rival)[2] is None:
                places.setdefault(kind, []).append(size)
        if places:
            text = "; ".join(
                f"{name_kind(kind)} {', '.join(sizes)}".strip() for kind, sizes in places.items()
            )
            lines.append(f"Too close to call against {rival}: {text}.")
    return lines
