"""The plot of the ladder: examples a second against the naive rung, one panel a storage."""

from __future__ import annotations

from typing import Any

from pipeline.plots import COLOURS, figure_to_svg, make_figure, plot_style

SERIES = (("first_ratio", "first epoch", -0.16), ("later_ratio", "later epochs", 0.16))
TICKS = (0.25, 0.5, 1, 2, 5, 10, 20, 50, 100)


def draw_ladder(report: dict[str, Any]) -> str:
    """Draw a report as an SVG file.

    Args:
        report: The JSON of an ablation.

    Returns:
        SVG text: a dot a rung and a line from the lowest to the highest round, logarithmic.
    """
    names = [rung["name"] for rung in report["rungs"]]
    storages = list(report["latencies"])
    with plot_style():
        figure, _ = make_figure(
            width_in=7.2, height_in=0.9 + 0.24 * len(names) * len(storages), rows=len(storages)
        )
        for axes, storage in zip(figure.axes, storages, strict=True):
            entries = {
                entry["rung"]: entry for entry in report["summary"] if entry["storage"] == storage
            }
            for (field, label, shift), colour in zip(SERIES, COLOURS, strict=False):
                ratios = [entries[name][field] for name in names]
                places = [index + shift for index in range(len(names))]
                axes.hlines(
                    places,
                    [ratio["low"] for ratio in ratios],
                    [ratio["high"] for ratio in ratios],
                    color=colour,
                    linewidth=2,
                    alpha=0.5,
                )
                axes.plot(
                    [ratio["median"] for ratio in ratios], places, "o", color=colour, label=label
                )
            axes.axvline(1, color=COLOURS[-1], linewidth=1)
            axes.set_title(f"{storage} storage: examples a second over those of naive")
            axes.set_xscale("log")
            axes.set_xticks(TICKS, [f"{tick:g}x" for tick in TICKS])
            axes.minorticks_off()
            axes.set_yticks(range(len(names)), names)
            axes.set_ylim(len(names) - 0.4, -0.6)
            axes.grid(axis="y", visible=False)
            axes.grid(axis="x", visible=True)
        figure.axes[0].legend(loc="upper right")
        return figure_to_svg(
            figure,
            alt="Examples a second of each input pipeline over those of the naive one, first and "
            "later epochs, " + " and ".join(f"{storage} storage" for storage in storages) + ".",
            standalone=True,
        )
