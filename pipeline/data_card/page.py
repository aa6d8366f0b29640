"""The data card as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from pipeline.data_card.card_warnings import format_share
from pipeline.data_card.fields import DataCard
from pipeline.data_card.measure import CLEAR_MARGIN, SMALL_CLASS
from pipeline.data_card.near_duplicates import MAX_WORDS, MIN_WORDS
from pipeline.data_card.text_statistics import Histogram
from pipeline.data_folder import SPLIT_NAMES
from pipeline.html_page import make_environment
from pipeline.plots import COLOURS, figure_to_svg, make_figure, plot_style

_TEMPLATE = "page.html.jinja"
_KINDS = {
    "word_order": "Word order",
    "numbers": "Numbers",
    "one_word": "One word",
}


def _format_reason(reason: str) -> str:
    return reason.replace("_", " ")


def _draw_lengths(histogram: Histogram, unit: str, max_tokens: int | None) -> str:
    """Draw the share of each split's rows by length."""
    edges = histogram.edges
    with plot_style():
        figure, axes = make_figure(height_in=2.5)
        for index, split in enumerate(SPLIT_NAMES):
            counts = histogram.counts[split]
            shares = [100 * count / sum(counts) for count in counts]
            if index == 0:
                axes.stairs(shares, edges, fill=True, color=COLOURS[0], alpha=0.35, label=split)
            axes.stairs(
                shares, edges, color=COLOURS[index], linewidth=1.4, label=split if index else None
            )
        if max_tokens is not None and max_tokens < edges[-1]:
            axes.axvline(max_tokens, color=COLOURS[4], linestyle="--", label="cut here")
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xlabel(f"{unit} (the last bin takes all longer texts)")
        axes.set_ylabel("% of the split")
        axes.legend()
        return figure_to_svg(
            figure,
            alt=f"Histogram of text lengths in {unit}, one line a split; the table below has "
            "the quantiles.",
        )


def _draw_classes(card: DataCard) -> str:
    """Draw the training rows of each class, largest first."""
    rows = sorted((one.rows["train"] for one in card.classes), reverse=True)
    with plot_style():
        figure, axes = make_figure(height_in=2.3)
        axes.bar(
            range(1, len(rows) + 1),
            rows,
            width=0.85,
            color=[COLOURS[4] if count < SMALL_CLASS else COLOURS[0] for count in rows],
        )
        axes.axhline(SMALL_CLASS, color=COLOURS[4], linewidth=1, linestyle="--")
        axes.set_yscale("symlog", linthresh=1)
        axes.set_ylim(0, 1.5 * max(rows))
        axes.set_yticks(_decades(max(rows)))
        axes.set_yticklabels([f"{tick:,}" for tick in _decades(max(rows))])
        axes.minorticks_off()
        axes.set_xlim(0.3, len(rows) + 0.7)
        axes.set_xlabel(f"classes, largest first (dashed: {SMALL_CLASS} rows)")
        axes.set_ylabel("training rows")
        return figure_to_svg(
            figure,
            alt="Training rows of each class on a logarithmic scale, largest class first; the "
            "table below has the figures.",
        )


def _decades(highest: int) -> Sequence[int]:
    return [0, *(10**power for power in range(len(str(highest))) if 10**power <= highest)]


def render_page(card: DataCard) -> str:
    """Render the card; equal cards give equal text."""
    environment = make_environment(Path(__file__).parent)
    environment.filters |= {"share": format_share, "reason": _format_reason}
    return environment.get_template(_TEMPLATE).render(
        card=card,
        splits=SPLIT_NAMES,
        total=sum(split.rows for split in card.splits.values()),
        kinds=_KINDS,
        clear_margin=CLEAR_MARGIN,
        small_class=SMALL_CLASS,
        min_words=MIN_WORDS,
        max_words=MAX_WORDS,
        word_plot=Markup(_draw_lengths(card.word_lengths, "words", None)),
        token_plot=Markup(_draw_lengths(card.token_lengths, "tokens", card.max_tokens)),
        class_plot=Markup(_draw_classes(card)),
    )
