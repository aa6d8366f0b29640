"""How two reports differ, figure by figure, and which differences are more than chance.

Two runs lie hours or months apart, so their times cannot be paired by round, and the machine's
mood is in every one of them. What can be compared is how a backend stands to the others *of its own
run*: those ratios are paired by round, and what slows the whole machine drops out. A backend is
called slower where its ratio to the middle one of the others grew; with a single other backend,
which might just have become faster, its own time must have grown too. Over HTTP every backend
shares the server, which may itself have become slower, so there the machine is judged by the
in-process times instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from serving_compare.backends import NULL
from serving_compare.pairs import has_pair, name_cell, orient_pair
from serving_compare.statistics import MIN_ROUNDS_TO_CLAIM

Json = Mapping[str, Any]
Verdict = Literal["worse", "better"]
LEAST_EFFECT = 1.10
"""A change is called one where its whole interval lies beyond this factor."""
LEAST_SIZE_EFFECT = 1.01
"""Sizes on disk do not vary by chance."""
LEAST_ACCURACY_LOSS = 0.001
"""Top-1 accuracy, absolute: 11 of 11,435 texts; ties alone move one or two."""
MIN_CONTROLS = 2
"""With fewer other backends it cannot be told who of two changed."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A factor with its 95 % interval; `ci95` is None where one side had too few rounds."""

    ratio: float
    ci95: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class Change:
    """One figure in both reports.

    Attributes:
        what: The figure in words.
        backend: Whose it is.
        old: Before, in `unit`.
        new: Now.
        unit: As printed.
        own: Now over before; for rates before over now, so that above 1 is always worse.
        beside: The same in proportion to the other backends, or to the machine; None without any.
        verdict: "worse", "better", or None where the data support neither.
    """

    what: str
    backend: str
    old: float
    new: float
    unit: str
    own: Estimate
    beside: Estimate | None
    verdict: Verdict | None


def divide(new: Estimate, old: Estimate) -> Estimate:
    """Return new / old with an interval from both, which are independent of each other.

    The intervals' halves are added as squares on the logarithmic scale, each on its own side
    (G. Zou and A. Donner, "Construction of confidence limits about effect measures: a general
    approach", 2008).
    """
    ratio = new.ratio / old.ratio
    if new.ci95 is None or old.ci95 is None or min(*new.ci95, *old.ci95) <= 0:
        return Estimate(ratio=ratio, ci95=None)
    down = math.hypot(math.log(new.ratio / new.ci95[0]), math.log(old.ci95[1] / old.ratio))
    up = math.hypot(math.log(new.ci95[1] / new.ratio), math.log(old.ratio / old.ci95[0]))
    return Estimate(ratio=ratio, ci95=(ratio * math.exp(-down), ratio * math.exp(up)))


def find_middle(estimates: Sequence[Estimate]) -> Estimate | None:
    """Return what the middle one of several says; of an even number the more cautious one.

    The interval reaches from the lower middle of all lower ends to the upper middle of all upper
    ones, and is None where one has none.
    """
    if not estimates:
        return None
    logs = sorted(math.log(estimate.ratio) for estimate in estimates)
    lower, upper = (len(logs) - 1) // 2, len(logs) // 2
    ratio = math.exp((logs[lower] + logs[upper]) / 2)
    intervals = [estimate.ci95 for estimate in estimates if estimate.ci95 is not None]
    if len(intervals) < len(estimates):
        return Estimate(ratio=ratio, ci95=None)
    low = sorted(interval[0] for interval in intervals)[lower]
    high = sorted(interval[1] for interval in intervals)[upper]
    return Estimate(ratio=ratio, ci95=(low, high))


def judge(estimate: Estimate | None, least: float = LEAST_EFFECT) -> Verdict | None:
    """Return "worse" or "better" where the whole interval lies beyond the least effect."""
    if estimate is None or estimate.ci95 is None:
        return None
    if estimate.ci95[0] > least:
        return "worse"
    return "better" if estimate.ci95[1] < 1 / least else None


def find_drift(changes: Sequence[Change]) -> float:
    """Return how many times as long everything takes now: the middle change of all times."""
    found = find_middle([replace(change.own, ci95=None) for change in changes])
    return 1.0 if found is None else found.ratio


def list_time_changes(old: Json, new: Json) -> list[Change]:
    """Return the changes of every in-process time and of the cold start."""
    names = list_common_backends(old, new)
    is_enough = all(report["protocol"]["rounds"] >= MIN_ROUNDS_TO_CLAIM for report in (old, new))
    changes = []
    for kind, size, pairs in _list_cells(old, new):
        for name in names:
            before, now = (_find_time(report, name, kind, size) for report in (old, new))
            if before is None or now is None:
                continue
            own = divide(_estimate(now), _estimate(before))
            controls = [
                divide(*(_orient(side, rival, name) for side in reversed(pairs)))
                for rival in names
                if rival != name and all(has_pair(side, rival, name) for side in pairs)
            ]
            beside = find_middle(controls)
            changes.append(
                Change(
                    what=name_cell(kind, size),
                    backend=name,
                    old=before["median"],
                    new=now["median"],
                    unit="ms" if kind == "cold_start" else "µs",
                    own=own,
                    beside=beside,
                    verdict=_judge_time(own, beside, len(controls)) if is_enough else None,
                )
            )
    return changes


def list_http_changes(old: Json, new: Json, drift: float) -> list[Change]:
    """Return the changes of what was measured over HTTP; none where one report lacks it.

    Args:
        old: Content of the earlier report.json.
        new: Of the later one.
        drift: How many times as long the machine takes now, from the in-process times.
    """
    before_all, now_all = old.get("http"), new.get("http")
    if before_all is None or now_all is None:
        return []
    figures = (
        ("one request over HTTP", "single_stream", "median_us", "µs"),
        ("batches over HTTP", "offline", "sequences_per_s", "1/s"),
        (f"most requests, p99 within {now_all['slo_p99_ms']:g} ms", "server",
         "max_rate_per_s", "1/s"),
    )  # fmt: skip
    changes = []
    for what, part, field, unit in figures:
        for name in now_all["backends"]:
            if name not in before_all["backends"]:
                continue
            before, now = (section["backends"][name][part] for section in (before_all, now_all))
            if not before[field] or "generator" in (
                before.get("limited_by"),
                now.get("limited_by"),
            ):
                continue  # nothing to compare with, or a bound that says nothing of the server
            if not now[field]:
                own = Estimate(ratio=math.inf, ci95=(math.inf, math.inf))
            else:
                sides = [
                    Estimate(ratio=side[field], ci95=side["ci95"] and (*side["ci95"],))
                    for side in (before, now)
                ]
                own = divide(*sides) if unit == "1/s" else divide(*reversed(sides))
            machine = Estimate(ratio=drift, ci95=(drift, drift))
            beside = own if math.isinf(own.ratio) else divide(own, machine)
            verdict = judge(own)
            changes.append(
                Change(
                    what=what,
                    backend=name,
                    old=before[field],
                    new=now[field] or 0.0,
                    unit=unit,
                    own=own,
                    beside=beside,
                    verdict=verdict if verdict == judge(beside) else None,
                )
            )
    return changes


def list_amount_changes(old: Json, new: Json) -> list[Change]:
    """Return the changes of memory, size on disk and accuracy, which no machine's mood moves."""
    changes = []
    for name in list_common_backends(old, new):
        before, now = (report["backends"][name] for report in (old, new))
        sides = [side["memory"]["peak_bytes"] for side in (before, now)]
        own = divide(*(_estimate(side) for side in reversed(sides)))
        changes.append(_make_amount("peak memory", name, sides, own, judge(own)))
        for interface in ("ids", "text"):
            sizes = [side["size"][f"{interface}_bytes"] for side in (before, now)]
            if sizes[0] and sizes[1]:
                ratio = sizes[1] / sizes[0]
                own = Estimate(ratio=ratio, ci95=(ratio, ratio))
                changes.append(
                    _make_amount(
                        f"size on disk, {'string' if interface == 'text' else 'ids'} in",
                        name,
                        [{"median": size} for size in sizes],
                        own,
                        judge(own, LEAST_SIZE_EFFECT),
                    )
                )
        accuracies = [side["accuracy"] and side["accuracy"]["top_1"] for side in (before, now)]
        if accuracies[0] and accuracies[1]:
            lost = accuracies[0] - accuracies[1]
            verdict: Verdict | None = "worse" if lost > 0 else "better"
            changes.append(
                Change(
                    what="top-1 accuracy",
                    backend=name,
                    old=100 * accuracies[0],
                    new=100 * accuracies[1],
                    unit="%",
                    own=Estimate(ratio=accuracies[0] / accuracies[1], ci95=None),
                    beside=None,
                    verdict=verdict if abs(lost) > LEAST_ACCURACY_LOSS else None,
                )
            )
    return changes


def list_common_backends(old: Json, new: Json) -> list[str]:
    """Return the backends of both reports but `null`, in the order of the later one."""
    return [name for name in new["backends"] if name in old["backends"] and name != NULL]


def _make_amount(
    what: str, name: str, sides: Sequence[Json], own: Estimate, verdict: Verdict | None
) -> Change:
    return Change(
        what=what,
        backend=name,
        old=sides[0]["median"] / 1e6,
        new=sides[1]["median"] / 1e6,
        unit="MB",
        own=own,
        beside=None,
        verdict=verdict,
    )


def _judge_time(own: Estimate, beside: Estimate | None, controls: int) -> Verdict | None:
    if beside is None:
        return judge(own)
    verdict = judge(beside)
    if controls >= MIN_CONTROLS:
        return verdict
    point = Estimate(ratio=own.ratio, ci95=(own.ratio, own.ratio))
    return verdict if verdict == judge(point) else None


def _list_cells(old: Json, new: Json) -> Iterator[tuple[str, str, tuple[list[Json], list[Json]]]]:
    """Kind, size and both reports' pairs of every cell they share, the cold start last."""
    for kind, sizes in new["ratios"].items():
        for size, pairs in sizes.items():
            before = old["ratios"].get(kind, {}).get(size)
            if before is not None:
                yield kind, size, (before, pairs)
    yield "cold_start", "", (old["cold_start_ratios"], new["cold_start_ratios"])


def _find_time(report: Json, name: str, kind: str, size: str) -> Json | None:
    """Return one time as `median` and `ci95`."""
    entry = report["backends"][name]
    if kind == "cold_start":
        total: Json = entry["cold_start"]["total_ms"]
        return total
    cells = entry.get(kind) if kind in ("batch", "all_cores") else entry["latency"].get(kind)
    cell = (cells or {}).get(size)
    return cell and {"median": cell["median_us"], "ci95": cell["ci95"]}


def _estimate(figure: Json) -> Estimate:
    interval = figure["ci95"]
    return Estimate(
        ratio=figure["median"], ci95=None if interval is None else (interval[0], interval[1])
    )


def _orient(pairs: Sequence[Json], rival: str, name: str) -> Estimate:
    """Return the time of `name` over the rival's."""
    ratio, interval, _ = orient_pair(pairs, rival, name)
    return Estimate(ratio=ratio, ci95=interval)
