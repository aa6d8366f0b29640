"""What the pages share. (Whole pages are held in their own tests.)"""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest

from pipeline.html_page import make_environment, show_text


def test_characters_that_cannot_be_seen_are_named() -> None:
    assert show_text("a\0b\x85") == "<bdi>a[U+0000]b[U+0085]</bdi>"
    assert show_text("\u202egnp.exe") == "<bdi>[U+202E]gnp.exe</bdi>"
    assert show_text("👩\u200d🚀 é") == "<bdi>👩\u200d🚀 é</bdi>"


def test_templates_escape_texts_and_hold_the_style_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "page.jinja").write_text(
        "{{ style }}|{{ text }}|{{ text|shown }}|{{ 1234|number }}"
    )
    rendered = make_environment(tmp_path).get_template("page.jinja").render(text="<b>")
    style, *rest = rendered.split("|")
    assert style == Path("pipeline/html_page.css").read_text(encoding="utf-8").rstrip("\n") + "\n"
    assert rest == ["&lt;b&gt;", "<bdi>&lt;b&gt;</bdi>", "1,234"]


def test_a_value_that_a_template_misses_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "page.jinja").write_text("{{ absent }}")
    with pytest.raises(jinja2.UndefinedError, match="'absent' is undefined"):
        make_environment(tmp_path).get_template("page.jinja").render()
