from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

import matplotlib
import pytest

from serving_compare.plots import (
    ALERT,
    SERIES,
    figure_to_svg,
    label_ends,
    make_figure,
    name_rows,
    plot_style,
    series_colour,
    spread_labels,
    use_log_axis,
)


def draw(alt: str = "Two bars.") -> str:
    with plot_style():
        figure, axes = make_figure(height_in=1.5)
        axes.barh([0, 1], [1000, 3000], color=[series_colour("lookup"), series_colour("unheard")])
        axes.axvline(2000, color=series_colour(ALERT))
        name_rows(axes, ["lookup", "<b> & $x$"])
        return figure_to_svg(figure, alt=alt)


def test_equal_figures_give_equal_text_and_settings_come_back():
    before = dict(matplotlib.rcParams)
    assert draw() == draw()
    assert dict(matplotlib.rcParams) == before


def test_colours_are_the_pages_and_nothing_is_styled_inline():
    svg = draw()
    assert 'fill="var(--c-lookup)"' in svg
    assert 'fill="var(--c-other)"' in svg
    assert 'stroke="var(--c-alert)"' in svg
    assert 'fill="currentColor"' in svg
    assert "style" not in svg
    assert "#0102" not in svg
    assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) <= set()


def test_text_stays_text_in_the_pages_font_and_is_escaped():
    svg = draw()
    texts = [element.text for element in ElementTree.fromstring(svg).iter() if element.text]
    assert "<b> & $x$" in texts
    assert "3,000" in texts
    assert "font-family" not in svg
    assert "font-size" in svg


def test_figures_of_one_page_share_no_references():
    first, second = draw("One."), draw("Two.")
    found = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (first, second)]
    assert found[0]
    assert not found[0] & found[1]


def test_a_figure_is_an_image_with_a_name():
    root = ElementTree.fromstring(draw("Two bars."))
    assert root.get("role") == "img"
    assert root.get("aria-label") == "Two bars."
    assert "width" not in root.attrib


def test_every_series_has_a_colour_of_its_own():
    assert len({series_colour(name) for name in SERIES}) == len(SERIES)


def test_labels_that_overlap_are_spread_around_their_middle():
    assert spread_labels([1.0, 5.0, 9.0], 1.0) == [1.0, 5.0, 9.0]
    assert spread_labels([3.0, 3.0, 3.0], 1.0) == [2.0, 3.0, 4.0]
    spread = spread_labels([0.5, 0.1, 0.6, 0.4], 0.2)
    ordered = sorted(spread)
    assert all(b - a >= 0.2 - 1e-9 for a, b in itertools.pairwise(ordered))
    assert spread.index(min(spread)) == 1
    assert spread.index(max(spread)) == 2


def test_logarithmic_axes_have_plain_numbers():
    with plot_style():
        figure, axes = make_figure(height_in=2)
        axes.plot([1, 20], [5, 50_000], color=series_colour("onnx"))
        use_log_axis(axes, "x")
        use_log_axis(axes, "y")
        label_ends(figure, {"onnx": 50_000, "lookup": 5}, {"onnx": 20, "lookup": 1})
        svg = figure_to_svg(figure, alt="A line.")
    texts = [
        element.text
        for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    ]
    assert {"1", "2", "5", "10", "20"} <= set(texts)
    assert "10,000" in texts
    assert texts[-2:] == ["onnx", "lookup"]


@pytest.mark.parametrize("name", ["lookup", "null"])
def test_ends_are_labelled_in_their_colour(name: str):
    with plot_style():
        figure, axes = make_figure(height_in=2)
        axes.plot([1, 2], [1, 2], color=series_colour(name))
        label_ends(figure, {name: 2.0})
        svg = figure_to_svg(figure, alt="A line.")
    assert re.search(rf'fill="var\(--c-{name}\)"[^>]*>{name}<', svg)
