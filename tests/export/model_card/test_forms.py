from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from export.model_card.forms import (
    describe_word_table,
    format_agreement,
    format_compression,
    format_files,
    format_promise,
)
from tests.export.model_card.samples import make_artifact, make_fields, make_run


@pytest.fixture
def fields(tmp_path: Path) -> dict[str, Any]:
    return make_fields(make_run(tmp_path / "run"))


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


def test_every_measured_form_has_its_difference_and_size(
    fields: dict[str, Any], tmp_path: Path
) -> None:
    folder = make_artifact(tmp_path / "artifact")
    lines = format_agreement(fields, folder).splitlines()
    top_1 = fields["metrics"]["replayed"]["keras"]["top_1"]
    assert f"| Keras, as trained | {top_1:.2%} | 75.00% |  |  |  |" in lines
    assert f"| onnx | {top_1:.2%} | 75.00% | 4.0e-07 | 0 | 7 B |" in lines
    assert not [line for line in lines if line.startswith("| lookup")]


def test_exact_forms_promise_the_same_answers(fields: dict[str, Any]) -> None:
    assert " ".join(format_promise(fields["parity"], fields["compression"]).split()) == (
        "Every form in this folder gives the same answers: probabilities within 1e-05 of the "
        "trained Keras model on all 400 texts of its test split, and the same first 2 labels."
    )


def test_a_compressed_form_promises_less(fields: dict[str, Any]) -> None:
    fields["compression"] |= {"table_dtype": "int8", "tolerance": 0.02}
    fields["parity"]["backends"]["lookup"] = {"top_k_disagreements": 3}
    promise = " ".join(format_promise(fields["parity"], fields["compression"]).split())
    assert promise.startswith("Every form in this folder but `lookup/` gives the same answers")
    assert promise.endswith(
        "`lookup/` is compressed (table int8): its probabilities lie within 0.02 of the trained "
        "model's, and its first 2 labels differ on 3 of those texts."
    )


def test_every_compressed_option_has_its_cost(fields: dict[str, Any]) -> None:
    text = format_compression(fields["compression"])
    assert "is stored as: **exact (float32)**" in text
    for option in ("float16 / float32", "int8 / float32", "float32 / int8"):
        assert f"\n| {option} | 1000 B | 0.0e+00 | " in text


def test_the_checksums_are_of_all_files_but_the_card_and_the_manifest(tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "artifact")
    for name in ("MODEL_CARD.md", "manifest.json"):
        (folder / name).write_text("x")
    text = format_files(folder)
    assert f"\n{hashlib.sha256(b'a graph').hexdigest()}  model.onnx\n" in text
    assert "sha256 of 2 files, 10 B" in text
    assert "  MODEL_CARD.md" not in text and "  manifest.json\n" not in text


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum on this machine")
def test_the_command_of_the_card_finds_a_changed_file(tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "artifact")
    text = format_files(folder)
    (folder / "MODEL_CARD.md").write_text(text)
    command = text.split("```sh\n")[1].split("\n```")[0]

    def check() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=20
        )

    assert (check().returncode, check().stderr) == (0, "")
    (folder / "model.onnx").write_bytes(b"another")
    assert check().returncode == 1
    assert "model.onnx: FAILED" in check().stdout
