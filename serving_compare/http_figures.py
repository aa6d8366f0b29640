"""The figures of a report's `http` section: latency by rate, highest rates, HTTP's share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving_compare.http_tables import format_max_rate
from serving_compare.plots import (
    ALERT,
    GROUND,
    INK,
    PARTS,
    ROW_IN,
    figure_to_svg,
    make_figure,
    name_rows,
    plot_style,
    series_colour,
    use_log_axis,
)

Json = Mapping[str, Any]
_MAX_LIMITS = 20
"""How many times the limit the curve shows: above it a server is lost, however far."""


def draw_curve(http: Json) -> str | None:
    """Draw p99 (solid) and median (dotted) by rate, with the limit; void probes are left out."""
    slo_us = 1000 * http["slo_p99_ms"]
    lines = {}
    for name, found in http["backends"].items():
        probes = sorted(
            (probe for probe in found["curve"] if probe["valid"] and probe["p99_us"] is not None),
            key=lambda probe: float(probe["rate_per_s"]),
        )
        if probes:
            lines[name] = probes
    if not lines:
        return None
    with plot_style():
        figure, axes = make_figure(height_in=3.4)
        for name, probes in lines.items():
            colour = series_colour(name)
            rates = [probe["rate_per_s"] for probe in probes]
            axes.plot(rates, [probe["p50_us"] / 1000 for probe in probes], ":", color=colour)
            axes.plot(rates, [probe["p99_us"] / 1000 for probe in probes], color=colour)
            for probe in probes:
                is_clean = not probe["refused"] and not probe["errors"]
                axes.plot(
                    probe["rate_per_s"],
                    probe["p99_us"] / 1000,
                    "o",
                    color=colour,
                    markerfacecolor=colour if is_clean else series_colour(GROUND),
                )
        use_log_axis(axes, "y")
        top = min(_MAX_LIMITS * slo_us / 1000, axes.get_ylim()[1])
        axes.set_ylim(axes.get_ylim()[0], max(top, 2 * slo_us / 1000))
        axes.axhline(slo_us / 1000, color=series_colour(ALERT), linestyle="--", linewidth=1.2)
        use_log_axis(axes, "x")
        axes.annotate(
            f"limit {http['slo_p99_ms']:g} ms",
            (0.005, slo_us / 1000),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            color=series_colour(ALERT),
        )
        axes.set_xlabel("requests a second, Poisson arrivals")
        axes.set_ylabel("ms; solid p99, dotted median")
        return figure_to_svg(
            figure,
            alt="Lines, both axes logarithmic: p99 and median latency in milliseconds by requests "
            f"a second for {', '.join(lines)}, with the limit of {http['slo_p99_ms']:g} ms. The "
            "highest rates within it: " + _list_rates(http) + ".",
        )


def draw_rates(http: Json) -> str | None:
    """Draw the highest rate within the limit as bars with intervals."""
    backends = http["backends"]
    most = max(found["server"]["max_rate_per_s"] for found in backends.values())
    if not most:
        return None
    with plot_style():
        figure, axes = make_figure(height_in=0.75 + ROW_IN * len(backends))
        for row, (name, found) in enumerate(backends.items()):
            rate, interval = found["server"]["max_rate_per_s"], found["server"]["ci95"]
            axes.barh(row, rate, height=0.62, color=series_colour(name))
            if interval is not None:
                axes.plot(interval, [row, row], color=INK, linewidth=1.1)
            end = max(rate, interval[1] if interval else 0)
            axes.text(end + 0.015 * most, row, format_max_rate(found["server"]), va="center")
        name_rows(axes, list(backends))
        axes.set_xlim(0, 1.24 * most)
        axes.set_xlabel(f"requests a second with a p99 within {http['slo_p99_ms']:g} ms")
        return figure_to_svg(
            figure,
            alt=f"Bars: most requests a second with a p99 within {http['slo_p99_ms']:g} ms. "
            + _list_rates(http)
            + ".",
        )


def draw_shares(http: Json) -> str | None:
    """Draw one request's time as the model's part and HTTP's part, stacked."""
    parts = {}
    for name, found in http["backends"].items():
        single = found["single_stream"]
        if None not in (single["in_process_median_us"], single["median_us"]):
            inside = min(single["in_process_median_us"], single["median_us"])
            parts[name] = (inside, single["median_us"] - inside)
    if not parts:
        return None
    most = max(map(sum, parts.values()))
    with plot_style():
        figure, axes = make_figure(height_in=0.75 + ROW_IN * len(parts))
        for row, (inside, rest) in enumerate(parts.values()):
            axes.barh(row, inside, height=0.62, color=series_colour(PARTS[0]))
            axes.barh(row, rest, left=inside, height=0.62, color=series_colour(PARTS[2]))
            total = inside + rest
            label = f"{total:,.0f} µs, {rest / total:.0%} HTTP"
            axes.text(total + 0.015 * most, row, label, va="center")
        name_rows(axes, list(parts))
        axes.set_xlim(0, 1.6 * most)
        axes.set_xlabel("µs of a request, one at a time")
        return figure_to_svg(
            figure,
            alt="Stacked bars: microseconds of one request, in the process and by HTTP. "
            + ", ".join(
                f"{name} {inside:,.0f} and {rest:,.0f}" for name, (inside, rest) in parts.items()
            )
            + ".",
        )


def _list_rates(http: Json) -> str:
    return ", ".join(
        f"{name} {format_max_rate(found['server'])}" for name, found in http["backends"].items()
    )
