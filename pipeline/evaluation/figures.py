"""The plots of an evaluation: which class is taken for which, and what a confidence is worth."""

from __future__ import annotations

import numpy as np

from pipeline.evaluation.measures import SplitMeasures
from pipeline.plots import COLOURS, figure_to_svg, make_figure, plot_style

MAX_CLASSES = 60
"""More are not drawn: the names would be illegible."""
_MAX_NAME_CHARS = 24


def list_drawn_classes(split: SplitMeasures) -> list[int]:
    """Return the ids of the classes that are drawn: the largest ones, in id order."""
    by_size = sorted(range(len(split.classes)), key=lambda i: (-split.classes[i].support, i))
    return sorted(by_size[:MAX_CLASSES])


def draw_confusion(split: SplitMeasures, *, standalone: bool = False) -> str:
    """Draw the confusion matrix as SVG, each row's shares as shades."""
    drawn = list_drawn_classes(split)
    place = {class_id: index for index, class_id in enumerate(drawn)}
    names = [split.classes[class_id].label[:_MAX_NAME_CHARS] for class_id in drawn]
    rows: dict[int, list[tuple[int, float]]] = {}
    for right, answer, count in split.confusion:
        if right in place and answer in place:
            share = count / split.classes[right].support
            rows.setdefault(place[right], []).append((place[answer], share))
    side = len(drawn)
    size_in = min(11.0, 2.2 + 0.17 * side) if side > 8 else 4.2
    with plot_style():
        figure, axes = make_figure(width_in=size_in, height_in=size_in)
        axes.grid(visible=False)
        for row, cells in rows.items():
            axes.broken_barh(
                [(column - 0.5, 1.0) for column, _ in cells],
                (row - 0.5, 1.0),
                # Single confusions are a few percent: the square root lets them be seen.
                facecolors=[(*_read_colour(COLOURS[0]), share**0.5) for _, share in cells],
                linewidth=0,
            )
        axes.set_xlim(-0.5, side - 0.5)
        axes.set_ylim(side - 0.5, -0.5)
        axes.set_aspect("equal")
        small = 8.5 if side <= 20 else 6.5
        axes.set_xticks(range(side), names, rotation=90, fontsize=small)
        axes.set_yticks(range(side), names, fontsize=small)
        axes.set_xlabel("first answer")
        axes.set_ylabel("right label")
        return figure_to_svg(
            figure,
            alt="Confusion matrix: a row for each right label, a column for each first answer, "
            "darker where more of the row's texts are.",
            standalone=standalone,
        )


def draw_reliability(split: SplitMeasures, *, name: str, standalone: bool = False) -> str:
    """Draw how often first answers are right against their probability, with the diagonal."""
    sure = np.array([one.confidence for one in split.bins])
    right = np.array([one.accuracy for one in split.bins])
    rows = np.array([one.rows for one in split.bins])
    # The binomial standard error of a bin, doubled.
    errors = 2 * np.sqrt(right * (1 - right) / rows)
    with plot_style():
        figure, axes = make_figure(width_in=4.4, height_in=4.0)
        axes.plot([0, 1], [0, 1], color=COLOURS[5], linestyle="--", linewidth=1)
        axes.errorbar(
            sure,
            right,
            yerr=[np.minimum(errors, right), np.minimum(errors, 1 - right)],
            color=COLOURS[0],
            marker="o",
            markersize=4,
            linewidth=1.4,
            elinewidth=1,
        )
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel("probability of the first answer, mean of a bin")
        axes.set_ylabel("share that is right")
        return figure_to_svg(
            figure,
            alt=f"Reliability on {name}: share of right first answers against their probability, "
            f"in {len(split.bins)} bins of equally many texts; the diagonal is perfect.",
            standalone=standalone,
        )


def _read_colour(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    return red, green, blue
