"""One look for the plots of the report's page, as SVG whose colours are the page's own.

Gives `<svg>` elements without any `style`: a page that holds them needs no loophole in its
Content-Security-Policy. Ink and series are CSS variables (`--ink`, `--c-lookup`, ...), so that a
page in the dark or on paper recolours them. Equal figures give equal text. The only module of this
stage that imports matplotlib; pyplot, which is global, stays out.

Example:
    with plot_style():
        figure, axes = make_figure(height_in=2.4)
        axes.barh(["lookup"], [3], color=series_colour("lookup"))
        svg = figure_to_svg(figure, alt="One bar.")
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeAlias
from xml.etree import ElementTree

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

INK = "#010203"
"""Stands for the page's text colour; nothing else has it."""
ROW_IN = 0.27
"""Height of a row of bars."""
Plot: TypeAlias = Axes
SERIES = (
    *("saved_model", "onnx", "lookup", "lookup_numpy", "tf2onnx"),
    *("openvino", "litert", "torch", "null", "other"),
)
"""Backends that have a colour of their own, the same in every figure; any other is "other"."""
PARTS = ("part-1", "part-2", "part-3", "part-4")
"""Parts of a whole, as the stages of a cold start."""
ALERT = "alert"
"""A limit."""
GROUND = "ground"
"""What the page is painted with: fills hollow marks."""
_COLOURS = {
    name: f"#0102{16 + index:02x}" for index, name in enumerate((*SERIES, *PARTS, ALERT, GROUND))
}
_SVG = "http://www.w3.org/2000/svg"
_HREF = "{http://www.w3.org/1999/xlink}href"

_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9.5,
    "axes.linewidth": 0.8,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.h_pad": 0.02,
    "figure.constrained_layout.w_pad": 0.02,
    "figure.facecolor": "none",
    "font.family": "DejaVu Sans",  # comes with matplotlib: the layout is the same everywhere
    "font.size": 9.5,
    "grid.alpha": 0.15,
    "grid.color": INK,
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "svg.fonttype": "none",  # text stays text: selectable, and a tenth of the bytes of its outlines
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": INK,
    "xtick.labelsize": 9,
    "xtick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.color": INK,
    "ytick.labelsize": 9,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
}


def plot_style() -> AbstractContextManager[None]:
    """Return a context in which figures are made; matplotlib's settings come back behind it."""
    return matplotlib.rc_context(_STYLE)


def make_figure(*, height_in: float, width_in: float = 4.4) -> tuple[Figure, Axes]:
    """Make an empty figure with one plot; call it inside `plot_style()`.

    Args:
        height_in: At 72 units an inch.
        width_in: Likewise. The default keeps the text legible on a phone, where an SVG shrinks.
    """
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    return figure, figure.add_subplot()


def series_colour(name: str) -> str:
    """Return the stand-in for the colour of a backend, a part, `ALERT` or `GROUND`."""
    return _COLOURS.get(name, _COLOURS["other"])


def use_log_axis(axes: Axes, which: str) -> None:
    """Make one axis logarithmic with plain numbers: 1, 10, 1,000; 2 and 5 too on short ones."""
    setter = axes.set_xscale if which == "x" else axes.set_yscale
    setter("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = axes.get_xlim() if which == "x" else axes.get_ylim()
    subs = (1.0, 2.0, 5.0) if high / low < 150 else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=12))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(_format_tick))


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Put names at the rows' left, the first on top; plain numbers below."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(False, axis="y")
    axes.xaxis.set_major_formatter(FuncFormatter(_format_tick))


def label_ends(
    figure: Figure, ends: Mapping[str, float], places: Mapping[str, float] | None = None
) -> None:
    """Name each line or dot at the right edge in its colour, no name over another.

    Args:
        figure: Of one plot with its final limits.
        ends: Name to the place on the y axis.
        places: Name to the place on the x axis, where those lie far from the edge: a thin line
            then leads to each name.
    """
    (axes,) = figure.axes
    scale = math.log10 if axes.get_yscale() == "log" else float
    low, high = (scale(limit) for limit in axes.get_ylim())
    # The axis below takes about 40 points; a line of text needs 11.5.
    gap = 11.5 / (72 * figure.get_figheight() - 40)
    shares = [(scale(value) - low) / (high - low) for value in ends.values()]
    shares = [min(max(share, 0.0), 1.0) for share in shares]
    spread = spread_labels(shares, gap)
    for (name, value), share in zip(ends.items(), spread, strict=True):
        colour = series_colour(name)
        axes.text(1.02, share, name, color=colour, transform=axes.transAxes, va="center")
        if places is not None:
            axes.annotate(
                "",
                xy=(places[name], value),
                xytext=(1.01, share),
                textcoords="axes fraction",
                arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.7, "alpha": 0.6},
            )


def _format_tick(value: float, _: int | None) -> str:
    return f"{value:,.10g}"


def spread_labels(places: Sequence[float], gap: float) -> list[float]:
    """Return places at least `gap` apart, in the same order, each as near its own as that allows.

    Labels that overlap are pushed apart around their common middle, until none overlaps.
    """
    order = sorted(range(len(places)), key=lambda index: places[index])
    groups: list[list[int]] = []
    for index in order:
        groups.append([index])
        while len(groups) > 1 and _top(groups[-2], places, gap) + gap > _bottom(
            groups[-1], places, gap
        ):
            last = groups.pop()
            groups[-1] += last
    spread = [0.0] * len(places)
    for group in groups:
        for number, index in enumerate(group):
            spread[index] = _bottom(group, places, gap) + number * gap
    return spread


def _bottom(group: Sequence[int], places: Sequence[float], gap: float) -> float:
    middle = sum(places[index] for index in group) / len(group)
    return middle - gap * (len(group) - 1) / 2


def _top(group: Sequence[int], places: Sequence[float], gap: float) -> float:
    return _bottom(group, places, gap) + gap * (len(group) - 1)


def figure_to_svg(figure: Figure, *, alt: str) -> str:
    """Render a figure as an `<svg>` element with role "img".

    Args:
        figure: Made inside `plot_style()`.
        alt: What the plot shows, for those who cannot see it. Figures of one page need different
            ones: the references inside an SVG are derived from it.
    """
    written = io.BytesIO()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": alt}):
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(written.getvalue())
    _, _, width, height = root.attrib["viewBox"].split()
    root.attrib.clear()
    root.attrib.update(
        {
            "viewBox": f"0 0 {width} {height}",
            "role": "img",
            "aria-label": alt,
            "stroke-linejoin": "round",
            "stroke-linecap": "butt",
        }
    )
    _clean(root)
    ElementTree.register_namespace("", _SVG)
    text = ElementTree.tostring(root, encoding="unicode").replace(INK, "currentColor")
    for name, colour in _COLOURS.items():
        text = text.replace(colour, f"var(--c-{name})")
    return text


def _clean(root: ElementTree.Element) -> None:
    """Drop what would collide or leak where several figures share a page, and every style."""
    for parent in list(root.iter()):
        for child in list(parent):
            # A style element would apply to the whole page; its two rules are on the root.
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    for element in root.iter():
        if element.tag == f"{{{_SVG}}}g":
            element.attrib.pop("id", None)  # "axes_1" of every figure; nothing refers to it
        if _HREF in element.attrib:
            element.set("href", element.attrib.pop(_HREF))
        # The same properties as attributes: a policy without 'unsafe-inline' lets them be.
        for rule in filter(None, element.attrib.pop("style", "").split("; ")):
            name, _, value = rule.partition(":")
            value = value.strip().rstrip(";")
            if name == "font":  # "9.5px 'DejaVu Sans'": the family is the page's
                name, value = "font-size", next(part for part in value.split() if "px" in part)
            if name != "font-family":
                element.set(name, value)
    ElementTree.indent(root, space="")
