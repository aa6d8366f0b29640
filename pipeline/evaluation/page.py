"""An evaluation as one HTML page."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from pipeline.evaluation.bootstrap import Interval
from pipeline.evaluation.fields import RunEvaluation
from pipeline.evaluation.figures import MAX_CLASSES, draw_confusion, draw_reliability
from pipeline.evaluation.measures import BINS, SplitMeasures
from pipeline.html_page import make_environment

NUM_CONFUSIONS = 25
"""Pairs of labels that are listed."""


def format_percent(share: float) -> str:
    """Return a share in per cent, two digits behind the point."""
    return f"{100 * share:.2f} %"


def format_interval(interval: Interval) -> str:
    """Return a share with its interval: `80.08 % [79.35, 80.82]`."""
    return f"{format_percent(interval.value)} [{100 * interval.low:.2f}, {100 * interval.high:.2f}]"


def list_confusions(split: SplitMeasures) -> list[tuple[str, str, int, float]]:
    """Return (right label, first answer, texts, share of the label's texts), most texts first."""
    pairs = [cell for cell in split.confusion if cell[0] != cell[1]]
    pairs.sort(key=lambda cell: (-cell[2], cell))
    return [
        (
            split.classes[right].label,
            split.classes[answer].label,
            count,
            count / split.classes[right].support,
        )
        for right, answer, count in pairs[:NUM_CONFUSIONS]
    ]


def render_page(evaluation: RunEvaluation) -> str:
    """Render the evaluation; equal ones give equal text."""
    environment = make_environment(Path(__file__).parent)
    environment.filters |= {
        "percent": format_percent,
        "interval": format_interval,
        "fixed": "{:.4f}".format,
    }
    test = evaluation.splits["test"]
    return environment.get_template("page.html.jinja").render(
        evaluation=evaluation,
        test=test,
        # The weakest first: they are what a reader looks for.
        classes=sorted(test.classes, key=lambda one: (not one.support, one.f1, one.label)),
        confusions=list_confusions(test),
        max_classes=MAX_CLASSES,
        bins=BINS,
        confusion_plot=Markup(draw_confusion(test)),
        reliability_plots={
            name: Markup(draw_reliability(split, name=name))
            for name, split in evaluation.splits.items()
        },
    )
