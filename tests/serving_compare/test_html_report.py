from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from serving_compare.html_report import format_report_html, write_html
from serving_compare.report import build_report
from serving_compare.results import Results
from serving_compare.tables import make_pairs_table, make_tables

MakeResults = Callable[..., Results]
Json = dict[str, Any]


class Page(HTMLParser):
    """What a page consists of: tags with attributes, figures with what stands in them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id" and value]

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


@pytest.fixture(scope="module")
def full(make_results: MakeResults, make_http_section: Callable[[], Json]) -> Json:
    """A report with every part."""
    report = build_report(make_results()) | {"http": make_http_section()}
    for kind in ("zipf", "uniform", "cold"):
        report["ratios"][kind] = {"10": report["ratios"]["tokens"]["10"]}
        for entry in report["backends"].values():
            entry["latency"][kind] = {"10": entry["latency"]["tokens"]["10"]}
    return report


@pytest.fixture(scope="module")
def text(full: Json) -> str:
    """Its page, drawn once."""
    return format_report_html(full)


def test_the_page_says_everything_without_a_script_or_a_request(text: str):
    page = Page(text)
    assert {"script", "link", "img", "iframe", "object", "base", "form"} & {
        tag for tag, _ in page.tags
    } == set()
    for tag, attributes in page.tags:
        assert "style" not in attributes, tag
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith("#"), tag
    assert "http://www.w3.org/2000/svg" in text
    assert set(re.findall(r"https?://[^\"' <]*", text)) == {"http://www.w3.org/2000/svg"}


def test_the_policy_allows_the_pages_own_style_and_nothing_else(text: str):
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.S)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policies = [
        attributes["content"]
        for tag, attributes in Page(text).tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policies == [
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    ]


def test_every_figure_has_a_name_a_caption_or_alternative_and_ids_are_unique(
    text: str,
):
    page = Page(text)
    names = [a["aria-label"] for tag, a in page.tags if tag == "svg"]
    assert len(names) == page.count("figure") == 11
    assert len(set(names)) == len(names)
    assert len(set(page.ids)) == len(page.ids)
    targets = [a["href"] for tag, a in page.tags if tag == "a"]
    assert {str(target)[1:] for target in targets} <= set(page.ids)
    for used in re.findall(r"url\(#([^)]+)\)", text):
        assert used in page.ids


def test_every_table_of_the_report_is_on_the_page(full: Json, text: str):
    for table in [*make_tables(full), make_pairs_table(full)]:
        assert table.key, table.title
        caption = escape(table.title).replace("&#x27;", "&#39;")  # as jinja2 writes it
        assert f"<caption>{caption}</caption>" in text


def test_the_first_screen_answers_which_how_much_and_how_sure(text: str):
    shown = re.sub(r"<[^>]+>", "", text.partition("<main>")[0])
    assert "onnx is the fastest, 1.2&nbsp;times as fast as lookup" in shown
    assert "How sure18 of 18comparisons won by onnx, 0 lost, 0 too close to call" in shown
    assert "How steady18 of 18ratios stayed within 10 % over 6 rounds" in shown
    assert "Over HTTP1,600 /sonnx, p99 within 10 ms; saved_model 400; lookup 2,400" in shown
    assert "Top-1 accuracy80.00 %the same for every backend, 1,000 held-out texts" in shown


def test_a_report_of_old_has_neither_http_nor_new_cells_and_hostile_names_stay_text(
    make_results: MakeResults,
):
    report = build_report(make_results(accuracy={}))
    del report["http"]
    for kind in ("zipf", "uniform", "cold", "all_cores"):
        del report["ratios"][kind]
        for entry in report["backends"].values():
            entry["latency"].pop(kind, None)
            entry.pop("all_cores", None)
    report["name"] = "<script>alert(1)</script>"
    report["artifact"] = {**report["artifact"], "name": "<script>alert(1)</script>"}
    report["machine"] = {**report["machine"], "cpu": '"><img src=x onerror=alert(1)>'}
    report["versions"] = {"</style><b>": "{{ 7 * 7 }}"}
    text = format_report_html(report)
    assert 'id="http"' not in text
    assert "<dt>void</dt>" not in text
    assert "Top-1 accuracy" not in text
    assert "<script" not in text
    assert "<img" not in text
    assert "{{ 7 * 7 }}" in text


def test_a_lead_without_proof_a_lone_backend_and_none_are_said(make_results: MakeResults):
    few = build_report(make_results({"onnx": [1000, 1500, 1000], "lookup": [2000] * 3}))
    text = format_report_html(few)
    assert "No backend is shown to be the fastest" in text
    assert '<abbr title="moved by more than 10 % between rounds">~</abbr>' in text
    alone = build_report(make_results({"lookup": [1000] * 6}))
    assert "was timed alone" in format_report_html(alone)
    del alone["backends"]["lookup"]
    alone["ratios"] = {kind: {} for kind in alone["ratios"]}
    assert "Nothing but the harness was timed" in format_report_html(alone)


def test_the_page_is_written_in_one_rename_and_is_the_same_again(
    tmp_path: Path, full: Json, text: str
):
    write_html(tmp_path, full)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == text
