from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from export.bundle import read_artifact
from export.model_card import FORM_PATHS, describe_word_table
from pipeline.run_folder import Run, describe_calibration


@pytest.mark.slow
def test_every_snippet_of_the_card_runs(published: Path) -> None:
    card = (published / "MODEL_CARD.md").read_text()
    snippets = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    assert len(snippets) == 6
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
    for label in ("animal", "place", "food", "act", "time"):
        assert f"\n| `{label}` | 8 |" in card


@pytest.mark.slow
def test_the_card_tells_what_the_word_table_covers(published: Path) -> None:
    card = " ".join((published / "MODEL_CARD.md").read_text().split())
    entry = read_artifact(published).manifest["word_table"]
    assert entry["words"] == 11
    assert describe_word_table(entry) in card


def test_a_word_table_is_described_by_what_it_covers() -> None:
    entry = {
        "words": 49597,
        "refusal": None,
        "checked_texts": 12501,
        "test_word_share": 0.9708,
        "test_text_share": 0.7908,
    }
    assert describe_word_table(entry) == (
        "The lookup folder holds the ids of 49597 words of the training texts, among them 97.1% "
        "of the words of the test split and all words of 79.1% of its texts. Ids by the table "
        "were compared with the tokenizer's own on 12501 texts."
    )


def test_the_reason_for_no_word_table_is_told() -> None:
    entry = {"words": 0, "refusal": "Expected a BPE model, found UNIGRAM."}
    assert describe_word_table(entry) == (
        "The lookup folder has no word table. Expected a BPE model, found UNIGRAM."
    )


@pytest.mark.slow
def test_the_card_tells_of_the_calibration(published: Path, tiny_run: Run) -> None:
    card = " ".join((published / "MODEL_CARD.md").read_text().split())
    assert tiny_run.calibration["temperature"] == 0.8
    assert describe_calibration(tiny_run.calibration) in card
