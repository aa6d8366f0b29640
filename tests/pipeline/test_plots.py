"""Figures as SVG: the same text every time, and fit to share a page."""

from __future__ import annotations

from xml.etree import ElementTree

import matplotlib
import pytest

from pipeline.plots import COLOURS, figure_to_svg, make_figure, plot_style

SVG = "{http://www.w3.org/2000/svg}"


def draw(*, alt: str = "One line rises.", standalone: bool = False, title: str = "A line") -> str:
    with plot_style():
        figure, axes = make_figure()
        axes.plot([1, 2], [1, 3], marker="o", label="rows")
        axes.legend()
        axes.set_title(title)
        return figure_to_svg(figure, alt=alt, standalone=standalone)


def test_equal_figures_give_equal_text_without_date_and_version() -> None:
    assert draw() == draw()
    assert matplotlib.__version__ not in draw()
    assert "metadata" not in draw()


def test_figure_is_an_image_with_a_description() -> None:
    root = ElementTree.fromstring(draw(alt='Rows & "texts" <b>'))
    assert (root.tag, root.attrib["role"]) == (f"{SVG}svg", "img")
    assert root.attrib["aria-label"] == 'Rows & "texts" <b>'
    assert "width" not in root.attrib


def test_text_and_axes_follow_the_page_and_series_keep_their_colour() -> None:
    svg = draw()
    assert "currentColor" in svg
    assert COLOURS[0] in svg
    assert not any(colour in svg for colour in ("#000000", "#ffffff", "#010203", "font-family"))
    assert "<style" not in svg


def test_figures_of_one_page_share_no_identifier() -> None:
    one, two = (
        {
            element.attrib["id"]
            for element in ElementTree.fromstring(svg).iter()
            if "id" in element.attrib
        }
        for svg in (draw(alt="One."), draw(alt="Two."))
    )
    assert one and two
    assert one & two == set()


def test_references_inside_a_figure_lead_somewhere() -> None:
    svg = draw()
    root = ElementTree.fromstring(svg)
    ids = {element.get("id") for element in root.iter()}
    used = {element.attrib["href"][1:] for element in root.iter() if "href" in element.attrib}
    assert used and used <= ids


@pytest.mark.parametrize("title", ["$x^2$", "<script>alert(1)</script>", "a & b"])
def test_text_is_drawn_as_it_stands(title: str) -> None:
    root = ElementTree.fromstring(draw(title=title))
    assert title in [element.text for element in root.iter(f"{SVG}text")]
    assert not any(element.tag.endswith("script") for element in root.iter())


def test_text_in_other_scripts_is_kept_without_a_warning() -> None:
    assert "날씨 अ 天气" in draw(title="날씨 अ 天气")  # a warning would fail the test


def test_a_file_of_its_own_has_size_fonts_and_ground() -> None:
    root = ElementTree.fromstring(draw(standalone=True))
    assert float(root.attrib["width"]) == pytest.approx(5.2 * 72)
    assert "background: #ffffff" in root.attrib["style"]


def test_style_ends_with_its_context() -> None:
    before = dict(matplotlib.rcParams)
    draw()
    assert dict(matplotlib.rcParams) == before
