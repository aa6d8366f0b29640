"""report.html in a real browser: phone and desk, light and dark, paper; what is painted and how."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from serving_compare.html_report import write_html
from serving_compare.report import build_report
from serving_compare.results import Results

pytestmark = pytest.mark.slow

MakeResults = Callable[..., Results]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
AUDIT = (Path(__file__).parent / "server" / "page_audit.js").read_text(encoding="utf-8")
NOT_ASKED = {"html without data-model", "no [aria-live=polite]"}
"""What the audit wants of the server's page only: this one never changes."""
WIDTHS = [(390, "light"), (390, "dark"), (1280, "light"), (1280, "dark")]
FAINT_LABELS = """() => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const below = light(getComputedStyle(document.body).backgroundColor);
  return [...document.querySelectorAll("svg text")].map((text) => {
    const ink = light(getComputedStyle(text).fill);
    const contrast = (Math.max(ink, below) + 0.05) / (Math.min(ink, below) + 0.05);
    return [text.textContent, contrast];
  }).filter(([, contrast]) => contrast < 4.5);
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield running
        running.close()


@pytest.fixture(scope="module")
def address(
    tmp_path_factory: pytest.TempPathFactory,
    make_results: MakeResults,
    make_http_section: Callable[[], dict[str, Any]],
) -> str:
    """Where a report with every part lies."""
    folder = tmp_path_factory.mktemp("report")
    report = build_report(make_results()) | {"http": make_http_section()}
    for kind in ("zipf", "uniform", "cold"):
        report["ratios"][kind] = {"10": report["ratios"]["tokens"]["10"]}
        for entry in report["backends"].values():
            entry["latency"][kind] = {"10": entry["latency"]["tokens"]["10"]}
    write_html(folder, report)
    return (folder / "report.html").as_uri()


def open_page(browser: Browser, address: str, complaints: list[str], **context: Any) -> Page:
    page = browser.new_context(**context).new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda err: complaints.append(str(err)))
    page.on("request", lambda request: complaints.append(request.url))
    page.goto(address)
    assert complaints == [address]  # nothing but the page itself was asked for
    return page


@pytest.mark.parametrize(("width", "scheme"), WIDTHS)
def test_everything_is_painted_within_the_screen(
    browser: Browser, address: str, width: int, scheme: Any
) -> None:
    page = open_page(
        browser, address, [], viewport={"width": width, "height": 844}, color_scheme=scheme
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    figures = page.locator("figure svg")
    assert figures.count() == 11
    for number in range(figures.count()):
        box = figures.nth(number).bounding_box()
        assert box is not None
        assert box["width"] > 250
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        picture = Image.open(io.BytesIO(figures.nth(number).screenshot()))
        # Ground, ink and at least one series, with the shades between them.
        assert len(picture.convert("RGB").getcolors(10**6) or []) > 20
    page.context.close()


@pytest.mark.parametrize(("width", "scheme"), WIDTHS)
def test_text_can_be_read_and_controls_be_hit(
    browser: Browser, address: str, width: int, scheme: Any
) -> None:
    page = open_page(
        browser, address, [], viewport={"width": width, "height": 844}, color_scheme=scheme
    )
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(FAINT_LABELS) == []
    assert [line for line in page.evaluate(AUDIT) if line not in NOT_ASKED] == []
    page.context.close()


def test_the_answer_stands_on_the_first_screen(browser: Browser, address: str) -> None:
    for width, height in ((390, 844), (1280, 800)):
        page = open_page(browser, address, [], viewport={"width": width, "height": height})
        for place in (".answer", ".hero figure svg", ".tiles"):
            box = page.locator(place).bounding_box()
            assert box is not None
            assert box["y"] + box["height"] <= height, place
        page.context.close()


def test_the_policy_lets_no_script_and_no_other_style_in(browser: Browser, address: str) -> None:
    complaints: list[str] = []
    page = open_page(browser, address, complaints)
    page.evaluate(
        """() => {
          const style = document.createElement("style");
          style.textContent = "main { display: none; }";
          const script = document.createElement("script");
          script.textContent = "document.title = 'mine';";
          const picture = document.createElement("img");
          picture.src = "https://example.invalid/a.png";
          document.body.append(style, script, picture);
        }"""
    )
    assert page.locator("main").is_visible()
    assert page.title() != "mine"
    assert len([line for line in complaints if "Content Security Policy" in line]) == 3
    page.context.close()


def test_on_paper_it_is_light_and_within_the_page(browser: Browser, address: str) -> None:
    page = open_page(browser, address, [], color_scheme="dark")
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 720, "height": 1000})  # A4 between its margins
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    assert page.evaluate(FAINT_LABELS) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 720
    assert not page.locator("nav").is_visible()
    page.context.close()
