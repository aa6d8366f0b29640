from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from export.model_card import FORM_PATHS


@pytest.mark.slow
def test_every_snippet_of_the_card_runs(published: Path) -> None:
    card = (published / "MODEL_CARD.md").read_text()
    snippets = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    assert len(snippets) == 5
    for snippet in snippets:
        done = subprocess.run(
            [sys.executable, "-B", "-c", snippet],
            cwd=published,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{snippet}\n{done.stderr}"
        assert done.stdout.strip(), snippet


@pytest.mark.slow
def test_the_card_names_results_of_every_form_and_the_hashes(published: Path) -> None:
    card = (published / "MODEL_CARD.md").read_text()
    for form in FORM_PATHS:
        assert f"\n| {form} | " in card
    import hashlib

    onnx_sha256 = hashlib.sha256((published / "model.onnx").read_bytes()).hexdigest()
    assert onnx_sha256 in card
    assert "`animal`, `place`, `food`, `act`, `time`" in card
