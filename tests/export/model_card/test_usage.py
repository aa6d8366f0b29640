from __future__ import annotations

import re
from pathlib import Path

import pytest

from export.model_card.usage import format_usage
from tests.export.model_card.samples import make_run


@pytest.mark.parametrize(
    "text",
    ['"]); print("x', "```\n# x", "\u202eevil\x00", "a\\", "한국 😀 $k", "'\"", "\ud800"],
)
def test_no_text_ends_a_snippet_early(tmp_path: Path, text: str) -> None:
    usage = format_usage(make_run(tmp_path / "run"), text, 3)
    snippets = re.findall(r"^```python\n(.*?)^```$", usage, flags=re.DOTALL | re.MULTILINE)
    assert len(snippets) == 6
    for snippet in snippets:
        compile(snippet, "card", "exec")
    assert usage.count("\n```") == 2 * (6 + 3)
    assert "\u202e" not in usage and "\x00" not in usage


def test_the_snippets_cut_texts_as_the_model_does(tmp_path: Path) -> None:
    usage = format_usage(make_run(tmp_path / "run"), "a text", 3)
    assert '[tokenizer.encode("a text")[:16] or [1]]' in usage
    assert 'tokenizer.encodeIds("a text").slice(0, 16)' in usage
    assert 'model.predict(["a text"], k=3)' in usage
