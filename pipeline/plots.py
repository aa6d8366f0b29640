"""One style for all plots, and figures as SVG text that is the same on every run.

Gives SVG for inlining in a page (colours of text and axes follow the page, light or dark) or as a
file of its own. Leaves out pyplot: nothing global, no window, safe in tests. The only module that
imports matplotlib, so its style cannot be bypassed.

Example:
    with plot_style():
        figure, axes = make_figure(height_in=2.4)
        axes.bar([1, 2], [3, 4], color=COLOURS[0])
        svg = figure_to_svg(figure, alt="Two bars, the second is higher.")
"""

from __future__ import annotations

import io
import warnings
from contextlib import AbstractContextManager
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

COLOURS = ("#3b82c4", "#e08a1e", "#2f9e7e", "#a970d8", "#d9534f", "#7d8590")
"""Series in their order; each has a contrast of at least 2.4 on white and on near-black."""
_INK = "#010203"
"""Stands for the page's text colour: no series has it, and the SVG says `currentColor` instead."""
_SVG = "http://www.w3.org/2000/svg"
_HREF = "{http://www.w3.org/1999/xlink}href"
_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"

_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": _INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": _INK,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.prop_cycle": f"cycler('color', {list(COLOURS)})",
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "figure.facecolor": "none",
    "font.family": "DejaVu Sans",  # comes with matplotlib: the layout is the same everywhere
    "font.size": 9,
    "grid.alpha": 0.18,
    "grid.color": _INK,
    "grid.linewidth": 0.8,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: selectable, and a tenth of the bytes of its outlines
    "text.color": _INK,
    "text.parse_math": False,  # a label from the data may hold dollar signs
    "xtick.color": _INK,
    "xtick.labelsize": 8.5,
    "ytick.color": _INK,
    "ytick.labelsize": 8.5,
    "ytick.major.size": 0,
}


def plot_style() -> AbstractContextManager[None]:
    """Return a context in which figures are made; matplotlib's settings come back behind it."""
    return matplotlib.rc_context(_STYLE)


def make_figure(
    *, width_in: float = 5.2, height_in: float = 2.6, rows: int = 1
) -> tuple[Figure, Axes]:
    """Make an empty figure with one plot; call it inside `plot_style()`.

    Args:
        width_in: At 72 units an inch. The default stays legible on a phone, where an SVG shrinks
            with its text.
        height_in: Likewise.
        rows: Plots one below another that share their x axis; `figure.axes` has them all.

    Returns:
        The figure, and its first plot.
    """
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False)
    return figure, axes[0, 0]


def figure_to_svg(figure: Figure, *, alt: str, standalone: bool = False) -> str:
    """Render a figure.

    Args:
        figure: Made inside `plot_style()`.
        alt: What the plot shows, for those who cannot see it. Figures of one page need different
            ones: the references inside an SVG are derived from it.
        standalone: A whole file with fonts and a white ground of its own, instead of an element
            that takes both from the page around it.

    Returns:
        An `<svg>` element with role "img", or the whole file. Equal figures give equal text: no
        date, no version, no random name.
    """
    written = io.BytesIO()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": alt}), warnings.catch_warnings():
        # Whoever shows the page draws its text, in fonts that matplotlib does not have.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        FigureCanvasSVG(figure).print_svg(written, metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(written.getvalue())
    _, _, width, height = root.attrib["viewBox"].split()
    size = {"width": width, "height": height} if standalone else {}
    look = "stroke-linejoin: round; stroke-linecap: butt"
    if standalone:
        look += f"; font-family: {_FONTS}; color: #1c2128; background: #ffffff"
    root.attrib.clear()
    root.attrib.update(
        {
            "viewBox": f"0 0 {width} {height}",
            **size,
            "role": "img",
            "aria-label": alt,
            "style": look,
        }
    )
    _clean(root)
    ElementTree.register_namespace("", _SVG)
    text = ElementTree.tostring(root, encoding="unicode").replace(_INK, "currentColor")
    return f"{text}\n" if standalone else text


def _clean(root: ElementTree.Element) -> None:
    """Drop what would collide or leak where several figures share a page."""
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
        if "style" in element.attrib:  # the family is the page's, or that of the root
            element.set(
                "style", element.attrib["style"].replace("font-family: 'DejaVu Sans'; ", "")
            )
    ElementTree.indent(root, space="")
