"""The answer of a report in three sentences: which backend, how much faster, how sure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving_compare.backends import NULL
from serving_compare.pairs import list_pairs, orient_pair
from serving_compare.statistics import MIN_ROUNDS_TO_CLAIM

Json = Mapping[str, Any]
HEADLINE_CHARS = 50
"""The title length that stands for all: near the middle of the classic table."""


@dataclass(frozen=True, kw_only=True)
class Lead:
    """How the fastest backend stands to one rival in the headline cell.

    Attributes:
        rival: Its name.
        median_us: Its median.
        ratio: The rival's time over the fastest's.
        ci95: Interval of the ratio, or None with a single round.
        is_claimed: Whether the data support that the fastest is faster.
    """

    rival: str
    median_us: float
    ratio: float
    ci95: tuple[float, float] | None
    is_claimed: bool


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The answer.

    Attributes:
        chars: Length of the headline's titles in characters.
        fastest: Backend of the least median there.
        median_us: Its median for one title, string in.
        leads: Over each other backend, the closest first.
        wins: Comparisons of the fastest with a rival, all cells, that it wins.
        losses: That it loses.
        undecided: That support no claim.
        unstable: Medians of all backends that moved between rounds.
        medians: Their number.
        moved_ratios: Comparisons whose ratio moved by more than 10 % between rounds; None in old
            reports, which do not say.
        rounds: Rounds that were run.
        largest_null_share: Of the fastest median that the harness itself takes, or None.
    """

    chars: str
    fastest: str
    median_us: float
    leads: tuple[Lead, ...]
    wins: int
    losses: int
    undecided: int
    unstable: int
    medians: int
    moved_ratios: int | None
    rounds: int
    largest_null_share: float | None

    @property
    def is_sure(self) -> bool:
        """Whether the fastest is claimed to be faster than every other backend."""
        return bool(self.leads) and all(lead.is_claimed for lead in self.leads)

    @property
    def comparisons(self) -> int:
        """Return how many comparisons with a rival there are."""
        return self.wins + self.losses + self.undecided


def list_medians(entry: Json) -> list[Json]:
    """Return every timed cell of one backend of a report."""
    kinds = [*entry["latency"].values(), entry["batch"], entry.get("all_cores") or {}]
    return [cell for cells in kinds for cell in cells.values()]


def find_verdict(report: Json) -> Verdict | None:
    """Return the answer of a report; None where no backend but `null` or no title was timed."""
    names = [name for name in report["backends"] if name != NULL]
    titles = report["ratios"]["title_text"]
    if not names or not titles:
        return None
    chars = min(titles, key=lambda size: abs(int(size) - HEADLINE_CHARS))
    medians = {
        name: report["backends"][name]["latency"]["title_text"][chars]["median_us"]
        for name in names
    }
    fastest = min(medians, key=lambda name: float(medians[name]))
    rivals = [name for name in names if name != fastest]
    leads = []
    for rival in rivals:
        ratio, interval, winner = orient_pair(titles[chars], fastest, rival)
        leads.append(
            Lead(
                rival=rival,
                median_us=medians[rival],
                ratio=ratio,
                ci95=interval,
                is_claimed=winner == fastest,
            )
        )
    compared = [
        pair
        for _, _, pairs in list_pairs(report)
        for pair in pairs
        if fastest in (pair["first"], pair["second"])
    ]
    winners = [pair["winner"] for pair in compared]
    steadiness = [pair.get("stable") for pair in compared]
    cells = [cell for name in names for cell in list_medians(report["backends"][name])]
    worst = report["harness"]["largest_share"]
    return Verdict(
        chars=chars,
        fastest=fastest,
        median_us=medians[fastest],
        leads=tuple(sorted(leads, key=lambda lead: lead.ratio)),
        wins=winners.count(fastest),
        losses=sum(winner not in (None, fastest) for winner in winners),
        undecided=winners.count(None),
        unstable=sum(not cell["stable"] for cell in cells),
        medians=len(cells),
        moved_ratios=None if None in steadiness else steadiness.count(False),
        rounds=report["protocol"]["rounds"],
        largest_null_share=None if worst is None else worst["share"],
    )


def format_verdict(verdict: Verdict | None) -> list[str]:
    """Return the answer as sentences: which and how much, how sure, how steady."""
    if verdict is None:
        return ["Nothing but the harness was timed."]
    case = f"for one title of {verdict.chars} characters, string in"
    if not verdict.leads:
        return [f"{verdict.fastest} takes {verdict.median_us:.1f} µs {case}. It was timed alone."]
    return [
        f"{_format_claim(verdict, case)} {format_leads(verdict.leads)}.",
        format_sureness(verdict),
        format_steadiness(verdict),
    ]


def format_leads(leads: Sequence[Lead]) -> str:
    """Return "onnx takes 4.36 times as long [3.39, 5.16], ..." for the headline cell."""
    parts = []
    for number, lead in enumerate(leads):
        verb = " takes" if number == 0 else ""
        long = " times as long" if number == 0 else " times"
        interval = "" if lead.ci95 is None else f" [{lead.ci95[0]:.2f}, {lead.ci95[1]:.2f}]"
        claim = "" if lead.is_claimed else " (no claim)"
        parts.append(f"{lead.rival}{verb} {lead.ratio:.2f}{long}{interval}{claim}")
    return ", ".join(parts)


def format_sureness(verdict: Verdict) -> str:
    """Return how many comparisons of all cells say the same."""
    if verdict.rounds < MIN_ROUNDS_TO_CLAIM:
        return (
            f"No winner is named: that takes {MIN_ROUNDS_TO_CLAIM} rounds, found {verdict.rounds}."
        )
    return (
        f"Of {verdict.comparisons} comparisons with another backend over all cells, "
        f"{verdict.fastest} wins {verdict.wins}, loses {verdict.losses}, and "
        f"{verdict.undecided} {'is' if verdict.undecided == 1 else 'are'} too close to call; a "
        "win is one whose 95 % interval excludes equality."
    )


def format_steadiness(verdict: Verdict) -> str:
    """Return how far the medians themselves can be trusted, and the ratios where that is known."""
    if not verdict.unstable:
        return f"All {verdict.medians} medians stayed within 10 % between {verdict.rounds} rounds."
    text = f"{verdict.unstable} of {verdict.medians} medians moved by more than 10 % between rounds"
    advice = "Trust the ratios, which are paired within a round, before the microseconds."
    if verdict.moved_ratios is None:
        return f"{text} (~). {advice}"
    if 2 * verdict.moved_ratios * verdict.medians > verdict.unstable * verdict.comparisons:
        advice = "Compare again on a quieter machine."
    return f"{text} (~), and {verdict.moved_ratios} of {verdict.comparisons} ratios. {advice}"


def _format_claim(verdict: Verdict, case: str) -> str:
    if verdict.is_sure:
        return f"{verdict.fastest} is the fastest: {verdict.median_us:.1f} µs {case};"
    return (
        f"{verdict.fastest} has the least median, {verdict.median_us:.1f} µs {case}, but is not "
        "shown to be faster than every other;"
    )
