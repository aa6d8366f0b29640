"""The page: whole, self-contained, accessible, and safe whatever the data says."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest

from pipeline.data_card.fields import (
    ClassCard,
    ConflictSample,
    Confusion,
    DataCard,
    DataWarning,
    LabelledText,
    LeakCard,
    LeakExample,
    NoiseCard,
    PatternCard,
    PatternsCard,
    RejectReason,
    RejectSample,
    RowsCard,
    SuspectLabel,
    VocabularyCard,
)
from pipeline.data_card.page import render_page
from pipeline.data_card.text_statistics import MissingCharacter
from tests.pipeline.cards import make_card

VOID = {"meta", "br"}
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</table></main></body>",
    "{{ card.name }}{% raw %}",
    "\u202eabc\u2066",
    "nul \0 bell \x07",
    "w" * 10_000,
    "$x^2$ &amp; ]]> <!--",
]


class Page(HTMLParser):
    """Collects a page, and fails where a tag is closed that is not open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def of(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attrs for name, attrs in self.tags if name == tag)


def fill(text: str) -> DataCard:
    """A card with every section filled, and `text` wherever the data can put one."""
    card = make_card()
    labelled = LabelledText(text=text, label=text)
    leak = LeakCard(
        rows={"word_order": 1, "numbers": 0, "one_word": 0},
        share=0.001,
        rows_compared_for_one_word=900,
        examples=[LeakExample(kind="word_order", held_out=labelled, training=labelled)],
    )
    return dataclasses.replace(
        card,
        name=text,
        rows=RowsCard(
            read=10_010,
            kept=10_000,
            duplicates_merged=4,
            conflicting_texts=2,
            conflicting_rows_dropped=2,
            rejected=[
                RejectReason(
                    reason="empty_text",
                    rows=4,
                    samples=[RejectSample(place=text, sample=text)] * 2,
                )
            ],
        ),
        balance=dataclasses.replace(card.balance, largest_label=text, smallest_label=text),
        classes=[
            ClassCard(label=text, rows=one.rows, share=0.5, examples=[text, text])
            for one in card.classes
        ],
        conflicts=[ConflictSample(text=text, rows={text: 2, "dog": 1}, kept=text)],
        patterns=PatternsCard(
            shared=1,
            rows=2,
            disputed_rows=0,
            largest=[PatternCard(rows=2, classes=1, examples=[labelled])],
        ),
        leaks={"validation": leak, "test": leak},
        vocabulary=VocabularyCard(
            size=1000,
            size_wanted=2000,
            pieces=998,
            used_at_least={"1": 9, "5": 8, "10": 7},
            missing=[MissingCharacter(character=text[:1], code_point="U+0", name="x", count=3)],
        ),
        label_noise=NoiseCard(
            rows=8000,
            skipped=None,
            accuracy=0.9,
            suspects=3,
            clear_suspects=1,
            clearest=[
                SuspectLabel(
                    text=text,
                    given=text,
                    given_probability=0.01,
                    suspected=text,
                    suspected_probability=0.99,
                )
            ],
            confusions=[Confusion(given=text, predicted=text, rows=9, share=0.1)],
        ),
        warnings=[DataWarning(kind="small_class", text=text)],
    )


@pytest.fixture(scope="module")
def html() -> str:
    """The page of a card whose texts are harmless."""
    return render_page(fill("plain"))


@pytest.fixture(scope="module")
def plain(html: str) -> Page:
    return Page(html)


def test_data_never_becomes_markup(plain: Page) -> None:
    html = render_page(fill(" ".join(HOSTILE)))
    page = Page(html)
    assert page.open == []
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    assert "<script" not in html
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", html)


def test_every_text_of_the_data_is_isolated_from_the_direction_around_it() -> None:
    html = render_page(fill("\u05d0MARK"))
    assert html.count("MARK") > 20
    outside = re.sub(r"<bdi>[^<]*</bdi>", "", html)
    assert re.findall(r".*MARK.*", outside) == ["<title>Data card: \u05d0MARK</title>"]


def test_page_needs_nothing_from_elsewhere(html: str) -> None:
    assert not re.search(r"(src|href)=[\"'](?!#)", html)
    assert not re.search(r"url\((?!#)|@import|<link|<script|<img|<iframe", html)


def test_page_fits_a_phone_and_the_dark(html: str, plain: Page) -> None:
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html
    assert "prefers-color-scheme: dark" in html
    regions = sum(attrs.get("class") == "scroll" for attrs in plain.of("div"))
    assert regions == len(list(plain.of("table")))


def test_page_is_told_to_those_who_cannot_see_it(plain: Page) -> None:
    tables = len(list(plain.of("table")))
    assert tables == len(list(plain.of("caption"))) > 10
    plots = list(plain.of("svg"))
    assert len(plots) == 3
    assert all(plot["role"] == "img" and plot["aria-label"] for plot in plots)
    assert all(attrs["scope"] in ("row", "col") for attrs in plain.of("th"))
    assert [tag for tag, _ in plain.tags if re.fullmatch("h[1-6]", tag)][:2] == ["h1", "h2"]
    assert list(plain.of("html")) == [{"lang": "en"}]


def test_contents_lead_to_every_section(plain: Page) -> None:
    targets = [attrs["href"] for attrs in plain.of("a")]
    assert targets == [f"#{attrs['id']}" for attrs in plain.of("section")]


def test_no_identifier_is_used_twice(plain: Page) -> None:
    ids = [attrs["id"] for _, attrs in plain.tags if "id" in attrs]
    assert len(ids) == len(set(ids)) > 10


def test_equal_cards_give_equal_pages(html: str) -> None:
    assert render_page(fill("plain")) == html


def test_numbers_are_written_for_people(plain: Page) -> None:
    text = "".join(plain.text)
    assert "10,010 rows were read and 10,000 kept" in text
    assert "8000" not in text


def test_a_card_without_findings_says_so() -> None:
    text = "".join(Page(render_page(make_card())).text)
    assert "Nothing found that asks for action." in text
    assert "It lacks no character of any split." in text
    assert "Rejected rows" not in text


def test_labels_that_were_not_looked_at_say_why() -> None:
    noise = NoiseCard(rows=3, skipped="3 rows of 2 classes are too few.")
    page = Page(render_page(dataclasses.replace(make_card(), label_noise=noise)))
    assert "Not looked at: 3 rows of 2 classes are too few." in "".join(page.text)


def test_a_list_of_some_classes_says_how_many_there_are() -> None:
    page = Page(render_page(dataclasses.replace(make_card(), num_classes=900)))
    assert "of 900 classes" in "".join(page.text)
