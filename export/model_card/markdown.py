"""Markdown that texts of the data cannot break out of: escapes, tables, folded parts.

Labels and texts are hostile until proven otherwise. A character that Markdown, HTML or a page that
renders them gives a meaning becomes a numeric entity, which every renderer shows as the character
and none takes for syntax; characters that nobody sees are named, so that they turn nothing around.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence

_PLAIN = frozenset(" .,:;()%/'+-=\"?")
"""Punctuation without a meaning inside a line."""
_CODE = re.compile(r"\w(?:[\w .,:/+-]{0,78}[\w.,:/+-])?")
"""What may stand between backticks as it is, in a table too."""
_JOINERS = frozenset("\u200c\u200d")
"""Of Persian words and of emoji; nobody is misled by them."""
_LINK = re.compile(r"(?i)(?<=www)\.|:(?=\S)")
"""Addresses that pages link by themselves, and short names of emoji."""
_LIST = re.compile(r"^(?:[-+=]|\d+[.)])(?=\s|$)")


def _entity(character: str) -> str:
    return f"&#{ord(character)};"


def _escape_character(character: str) -> str:
    if character in _PLAIN or character in _JOINERS:
        return character
    category = unicodedata.category(character)
    if category in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
        return f"&#91;U+{ord(character):04X}&#93;"
    if character.isascii() and not character.isalnum():
        return _entity(character)
    return character


def escape_text(text: str) -> str:
    """Return a text that stands in Markdown as itself, in a paragraph, a list or a table.

    `a|b` gives `a&#124;b`, a line break `[U+000A]`.
    """
    escaped = "".join(map(_escape_character, text))
    escaped = _LINK.sub(lambda match: _entity(match[0]), escaped)
    # At the start of a list's entry these would begin another list.
    return _LIST.sub(lambda match: match[0][:-1] + _entity(match[0][-1]), escaped)


def format_code(text: str) -> str:
    """Return a text as inline code that cannot end early: between backticks where that is safe."""
    return f"`{text}`" if _CODE.fullmatch(text) else f"<code>{escape_text(text)}</code>"


def format_literal(text: str) -> str:
    """Return a Python string literal of one line, letters readable, what nobody sees escaped."""
    # JSON's escapes of what is printable are Python's.
    return json.dumps(text, ensure_ascii=False) if text.isprintable() else repr(text)


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; its cells are Markdown already."""
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)


def fold(summary: str, body: str) -> str:
    """Return Markdown that is shown when its summary is clicked."""
    return f"<details>\n<summary>{summary}</summary>\n\n{body}\n\n</details>"


def format_share(share: float) -> str:
    """Return a share in per cent: `80.08%`."""
    return f"{share:.2%}"
