"""The figures of the report's page: each takes a report and gives SVG, or None without its data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serving_compare.backends import NULL
from serving_compare.pairs import has_pair, list_pairs, name_cell, orient_pair
from serving_compare.plots import (
    GROUND,
    INK,
    PARTS,
    ROW_IN,
    Plot,
    figure_to_svg,
    label_ends,
    make_figure,
    name_rows,
    plot_style,
    series_colour,
    use_log_axis,
)
from serving_compare.tables import VARIANTS, find_cell
from serving_compare.verdict import Verdict

Json = Mapping[str, Any]
Line = Sequence[tuple[float, Json]]
"""Places on the x axis and the cells there."""
_MARKERS = {"tokens": "o", "zipf": "^", "uniform": "s", "cold": "D"}
COLD_STAGES = ("start", "import", "load", "first")
COLD_NAMES = ("Python starts", "imports", "load", "first answer")


def draw_headline(verdict: Verdict) -> str | None:
    """Draw one title's time by backend as bars from 0, the fastest on top."""
    if not verdict.leads:
        return None
    times = [(verdict.fastest, verdict.median_us, "")]
    for lead in verdict.leads:
        claim = f"{lead.ratio:.1f} times" if lead.is_claimed else "no claim"
        times.append((lead.rival, lead.median_us, f" · {claim}"))
    most = max(time for _, time, _ in times)
    with plot_style():
        figure, axes = make_figure(height_in=0.35 + ROW_IN * len(times))
        for row, (name, time, claim) in enumerate(times):
            axes.barh(row, time, height=0.62, color=series_colour(name))
            axes.text(time + 0.015 * most, row, f"{_shorten(time)}{claim}", va="center")
        name_rows(axes, [name for name, _, _ in times])
        axes.set_xlim(0, 1.5 * most)
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        return figure_to_svg(
            figure,
            alt=f"Bars: time for one title of {verdict.chars} characters. "
            + ", ".join(f"{name} {_shorten(time)}" for name, time, _ in times)
            + ".",
        )


def draw_lengths(report: Json, kind: str, unit: str) -> str | None:
    """Draw medians with intervals by length, both axes logarithmic; hollow marks are unstable."""
    sizes = list(report["ratios"][kind])
    backends = [name for name in report["backends"] if name != NULL]
    if len(sizes) < 2 or not backends:
        return None
    with plot_style():
        figure, axes = make_figure(height_in=3.5)
        ends = {}
        for name in backends:
            cells = [(float(size), find_cell(report, name, kind, size)) for size in sizes]
            line = [(x, cell) for x, cell in cells if cell is not None]
            _draw_line(axes, name, line, "median_us", "ci95")
            ends[name] = line[-1][1]["median_us"]
        use_log_axis(axes, "x")
        use_log_axis(axes, "y")
        places = _thin_out([float(size) for size in sizes])
        axes.set_xticks(places, [f"{place:g}" for place in places])
        axes.set_xlabel(unit)
        axes.set_ylabel("µs, median and 95 % interval")
        label_ends(figure, ends)
        return figure_to_svg(
            figure,
            alt=f"Lines, both axes logarithmic: microseconds by {unit}, one line a backend. At "
            f"{sizes[-1]}: "
            + ", ".join(f"{name} {_shorten(us)}" for name, us in ends.items())
            + ".",
        )


def draw_batches(report: Json) -> str | None:
    """Draw sequences a second by batch size, both axes logarithmic."""
    sizes = list(report["ratios"]["batch"])
    backends = [name for name in report["backends"] if name != NULL]
    if len(sizes) < 2 or not backends:
        return None
    with plot_style():
        figure, axes = make_figure(height_in=3.2)
        ends = {}
        for name in backends:
            cells = [(float(size), find_cell(report, name, "batch", size)) for size in sizes]
            line = [(x, cell) for x, cell in cells if cell is not None]
            _draw_line(axes, name, line, "sequences_per_s", "sequences_per_s_ci95")
            ends[name] = line[-1][1]["sequences_per_s"]
        use_log_axis(axes, "x")
        use_log_axis(axes, "y")
        axes.set_xticks([float(size) for size in sizes], sizes)
        axes.set_xlabel("texts in a batch")
        axes.set_ylabel("sequences a second")
        label_ends(figure, ends)
        return figure_to_svg(
            figure,
            alt="Lines, both axes logarithmic: sequences a second by batch size. At batches of "
            f"{sizes[-1]}: "
            + ", ".join(f"{name} {rate:,.0f}" for name, rate in ends.items())
            + ".",
        )


def draw_variants(report: Json) -> str | None:
    """Draw one length with usual, frequent and uniform ids and with cold caches, as dots."""
    kinds = [kind for kind in VARIANTS if report["ratios"].get(kind)]
    sizes = {size for kind in kinds if kind != "tokens" for size in report["ratios"][kind]}
    backends = [name for name in report["backends"] if name != NULL]
    if not sizes:
        return None
    size = min(sizes, key=int)
    with plot_style():
        figure, axes = make_figure(height_in=0.9 + 1.15 * ROW_IN * len(backends))
        for row, name in enumerate(backends):
            found = [(kind, find_cell(report, name, kind, size)) for kind in kinds]
            cells = {kind: cell for kind, cell in found if cell is not None}
            places = [cell["median_us"] for cell in cells.values()]
            axes.plot(places, [row] * len(places), color=series_colour(name), linewidth=1)
            for kind, cell in cells.items():
                axes.plot(
                    cell["median_us"],
                    row,
                    _MARKERS[kind],
                    color=series_colour(name),
                    markersize=6,
                    markerfacecolor=series_colour(name if cell["stable"] else GROUND),
                )
        for kind in kinds:  # the key, in ink: the colours are the backends'
            axes.plot([], [], _MARKERS[kind], color=INK, label=VARIANTS[kind].lower())
        use_log_axis(axes, "x")
        name_rows(axes, backends)
        axes.set_xlabel(f"µs, {size} tokens")
        figure.legend(
            loc="outside upper left", ncols=2, frameon=False, handletextpad=0.3, columnspacing=1.2
        )
        return figure_to_svg(
            figure,
            alt=f"Dots: microseconds of {size} tokens by backend, for "
            + ", ".join(VARIANTS[kind].lower() for kind in kinds)
            + ".",
        )


def draw_ratios(report: Json, own: str, kinds: Sequence[str]) -> str | None:
    """Draw how many times as long as one backend each rival takes, as dots, a row a cell.

    Args:
        report: Content of a report.json.
        own: The backend; right of 1 it is faster. Hollow dots support no claim.
        kinds: Of cells. The axis is the same whatever they are.
    """
    rivals = [name for name in report["backends"] if name not in (own, NULL)]
    everything = [
        (kind, size, pairs)
        for kind, size, pairs in list_pairs(report)
        if any(has_pair(pairs, own, rival) for rival in rivals)
    ]
    cells = [(kind, size, pairs) for kind, size, pairs in everything if kind in kinds]
    if not cells:
        return None
    ends = [
        end
        for _, _, pairs in everything
        for rival in rivals
        if has_pair(pairs, own, rival)
        for ratio, interval, _ in [orient_pair(pairs, own, rival)]
        for end in interval or (ratio, ratio)
    ]
    with plot_style():
        figure, axes = make_figure(height_in=0.75 + 0.215 * len(cells))
        for row, (_, _, pairs) in enumerate(cells):
            for rival in rivals:
                if not has_pair(pairs, own, rival):
                    continue
                ratio, interval, winner = orient_pair(pairs, own, rival)
                colour = series_colour(rival)
                if interval is not None:
                    axes.plot(interval, [row, row], color=colour, linewidth=1.1)
                axes.plot(
                    ratio,
                    row,
                    "o",
                    color=colour,
                    markerfacecolor=colour if winner else series_colour(GROUND),
                )
        axes.set_xlim(min(0.8, *ends) / 1.15, max(1.25, *ends) * 1.15)
        use_log_axis(axes, "x")
        axes.axvline(1, color=INK, linewidth=1.1)
        name_rows(axes, [name_cell(kind, size) for kind, size, _ in cells])
        axes.grid(True, axis="y")
        axes.set_xlabel(f"times as long as {own} takes")
        return figure_to_svg(
            figure,
            alt=f"Dots with 95 % intervals on a logarithmic axis: how many times as long as {own} "
            f"each of {', '.join(rivals)} takes, one row a cell, from "
            f"{name_cell(*cells[0][:2])} to {name_cell(*cells[-1][:2])}.",
        )


def draw_cold_start(report: Json) -> str | None:
    """Draw the stages from the start of a process to its first answer, stacked."""
    backends = list(report["backends"])
    stages = {
        name: [entry["cold_start"][f"{stage}_ms"]["median"] for stage in COLD_STAGES]
        for name, entry in report["backends"].items()
    }
    most = max(map(sum, stages.values()))
    with plot_style():
        figure, axes = make_figure(height_in=0.75 + ROW_IN * len(backends))
        for row, name in enumerate(backends):
            left = 0.0
            for part, amount in zip(PARTS, stages[name], strict=True):
                axes.barh(row, amount, left=left, height=0.62, color=series_colour(part))
                left += amount
            axes.text(left + 0.015 * most, row, f"{left:,.0f} ms", va="center")
        name_rows(axes, backends)
        axes.set_xlim(0, 1.22 * most)
        axes.set_xlabel("ms to the first answer")
        return figure_to_svg(
            figure,
            alt=f"Stacked bars: milliseconds of {', '.join(COLD_NAMES)}. Totals: "
            + ", ".join(f"{name} {sum(parts):,.0f} ms" for name, parts in stages.items())
            + ".",
        )


def draw_memory(report: Json) -> str | None:
    """Draw each backend's peak memory, and within it what no other process could share."""
    entries = {name: entry["memory"] for name, entry in report["backends"].items()}
    most = max(memory["peak_bytes"]["median"] for memory in entries.values()) / 1e6
    with plot_style():
        figure, axes = make_figure(height_in=0.75 + ROW_IN * len(entries))
        for row, (name, memory) in enumerate(entries.items()):
            peak = memory["peak_bytes"]["median"] / 1e6
            private = memory.get("private_bytes", {}).get("median")
            colour = series_colour(name)
            axes.barh(row, peak, height=0.62, color=colour, alpha=0.35)
            if private is not None:
                axes.barh(row, private / 1e6, height=0.62, color=colour)
            axes.text(peak + 0.015 * most, row, f"{peak:,.0f} MB", va="center")
        name_rows(axes, list(entries))
        axes.set_xlim(0, 1.25 * most)
        axes.set_xlabel("MB up to the first answer; solid: private")
        return figure_to_svg(
            figure,
            alt="Bars: peak memory up to the first answer. "
            + ", ".join(
                f"{name} {memory['peak_bytes']['median'] / 1e6:,.0f} MB"
                for name, memory in entries.items()
            )
            + ".",
        )


def draw_size_accuracy(report: Json) -> str | None:
    """Draw size on disk against top-1 accuracy, each backend a dot with its name."""
    points = {
        name: (entry["size"]["text_bytes"] / 1e6, 100 * entry["accuracy"]["top_1"])
        for name, entry in report["backends"].items()
        if entry["accuracy"] and entry["size"]["text_bytes"]
    }
    if not points:
        return None
    with plot_style():
        figure, axes = make_figure(height_in=2.6)
        for name, (size, accuracy) in points.items():
            axes.plot(size, accuracy, "o", color=series_colour(name), markersize=7)
        values = [accuracy for _, accuracy in points.values()]
        # A point of accuracy fills the height at least: less is no difference to look at.
        middle, half = (max(values) + min(values)) / 2, max(0.5, 0.75 * (max(values) - min(values)))
        axes.set_ylim(middle - half, middle + half)
        sizes = [size for size, _ in points.values()]
        axes.set_xlim(min(sizes) / 1.6, max(sizes) * 1.6)
        use_log_axis(axes, "x")
        axes.set_xlabel("MB on disk, string in")
        axes.set_ylabel("top-1, %")
        label_ends(
            figure,
            {name: accuracy for name, (_, accuracy) in points.items()},
            {name: size for name, (size, _) in points.items()},
        )
        return figure_to_svg(
            figure,
            alt="Dots: size on disk and top-1 accuracy. "
            + ", ".join(f"{name} {size:.1f} MB {acc:.2f} %" for name, (size, acc) in points.items())
            + ".",
        )


def _draw_line(axes: Plot, name: str, line: Line, value: str, interval: str) -> None:
    colour = series_colour(name)
    axes.plot([x for x, _ in line], [cell[value] for _, cell in line], color=colour)
    for x, cell in line:
        if cell[interval] is not None:
            axes.plot([x, x], cell[interval], color=colour, linewidth=1.1)
        axes.plot(
            x,
            cell[value],
            "o",
            color=colour,
            markerfacecolor=colour if cell["stable"] else series_colour(GROUND),
        )


def _thin_out(places: Sequence[float]) -> list[float]:
    """Leave out ticks that would touch the one before them on a logarithmic axis."""
    kept: list[float] = []
    for place in places:
        if not kept or place / kept[-1] > 1.25:
            kept.append(place)
    return kept


def _shorten(time_us: float) -> str:
    """Return a time with its unit: 37 µs, 1.7 ms."""
    if time_us >= 1000:
        return f"{time_us / 1000:.1f} ms"
    return f"{time_us:.0f} µs" if time_us >= 10 else f"{time_us:.1f} µs"
