from __future__ import annotations

import ast
import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from export.model_card.markdown import (
    escape_text,
    fold,
    format_code,
    format_literal,
    format_share,
    format_table,
)

SYNTAX = set("`*_{}[]<>#|~^$\\@!")


@given(st.text())
def test_an_escaped_text_has_no_character_of_markdown_or_html(text: str) -> None:
    escaped = escape_text(text)
    assert not set(escaped) & SYNTAX - {"#"}
    # What is left of "&" and "#" are our own entities.
    assert escaped.count("#") == escaped.count("&#") == escaped.count("&")
    assert "\n" not in escaped and "\u202e" not in escaped


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("noun.act 31, 12 % of all: 5/6 (x)", "noun.act 31, 12 % of all: 5/6 (x)"),
        ("a|b", "a&#124;b"),
        ("`a`", "&#96;a&#96;"),
        ("<b>&amp;", "&#60;b&#62;&#38;amp;"),
        ("two\nlines", "two&#91;U+000A&#93;lines"),
        ("\u202egnp", "&#91;U+202E&#93;gnp"),
        ("한국 é 😀", "한국 é 😀"),
        ("http://a.b www.a.b", "http&#58;//a.b www&#46;a.b"),
        ("- a", "&#45; a"),
        ("12. a", "12&#46; a"),
        ("me@a.b :smile:", "me&#64;a.b &#58;smile:"),
    ],
)
def test_a_text_stands_in_markdown_as_itself(text: str, escaped: str) -> None:
    assert escape_text(text) == escaped


@given(st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1))
def test_a_renderer_shows_the_text_itself_in_a_cell_in_code_and_in_a_list(text: str) -> None:
    render = MarkdownIt("commonmark", {"html": True}).enable("table").render
    table = render(format_table(("a", "b"), [(escape_text(text), format_code(text))]))
    cells = [html.unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", table)]
    assert cells == [text, f"<code>{text}</code>"]
    entry = render(f"- {escape_text(text)}")
    assert html.unescape(entry) == f"<ul>\n<li>{text}</li>\n</ul>\n"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("noun.act", "`noun.act`"),
        ("한국", "`한국`"),
        ("two words", "`two words`"),
        ("a`b", "<code>a&#96;b</code>"),
        ("a|b", "<code>a&#124;b</code>"),
        (" a", "<code> a</code>"),
        ("a ", "<code>a </code>"),
        ("", "<code></code>"),
        ("a\\", "<code>a&#92;</code>"),
    ],
)
def test_code_stands_between_backticks_only_where_that_is_safe(text: str, code: str) -> None:
    assert format_code(text) == code


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_literal_is_the_text_in_python_and_one_line(text: str) -> None:
    literal = format_literal(text)
    assert ast.literal_eval(literal) == text
    assert literal.isprintable()


def test_a_table_has_a_rule_below_its_header() -> None:
    assert format_table(("a", "b"), [("1", "2")]) == "| a | b |\n|---|---|\n| 1 | 2 |"


def test_what_is_folded_keeps_its_markdown() -> None:
    assert fold("More", "*x*") == ("<details>\n<summary>More</summary>\n\n*x*\n\n</details>")


def test_a_share_has_two_digits() -> None:
    assert format_share(0.80079) == "80.08%"
