"""What the pages of the pipeline share: one style, and texts that can do no harm.

A page is one HTML file without script or request, readable in the dark and on a phone. Texts and
labels of the data are hostile until proven otherwise: jinja2 escapes all of them, and each is
isolated, so that a text of the other direction turns nothing else around.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

_INVISIBLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufdd0-\ufdef\ufffe\uffff]")
"""Control characters, which HTML may not hold, and those that turn the direction of reading."""
_STYLE_PATH = Path(__file__).with_name("html_page.css")


def show_controls(text: str) -> str:
    """Return a text with its invisible characters named: `gnp.exe` behind `[U+202E]`."""
    return _INVISIBLE.sub(lambda match: f"[U+{ord(match[0]):04X}]", text)


def show_text(text: str) -> Markup:
    """Return a text of the data as HTML: escaped, isolated, invisible characters named."""
    return Markup("<bdi>") + escape(show_controls(text)) + Markup("</bdi>")


def make_environment(folder: Path) -> jinja2.Environment:
    """Return an environment for the templates of a folder.

    It has the filters `shown` and `without_controls` for texts, `number` for counts, and the
    global `style`, the text of a `<style>` element.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "shown": show_text,
        "without_controls": show_controls,
        "number": "{:,}".format,
    }
    style: Any = Markup(_STYLE_PATH.read_text(encoding="utf-8"))
    environment.globals["style"] = style
    return environment
