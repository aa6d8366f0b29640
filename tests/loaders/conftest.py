"""One tiny artifact, alone in an empty folder: what each loader gets.

GATETABLE_LOADER_ARTIFACT names an artifact to take instead, such as a real one of `make export`.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from export.lookup import load_lookup
from export.onnx_graph import build_onnx, write_onnx
from tests.export.tiny import (
    LABELS,
    MAX_TOKENS,
    make_config,
    make_texts,
    make_weights,
    train_tokenizer,
    write_tiny_lookup,
)

GIVEN = os.environ.get("GATETABLE_LOADER_ARTIFACT")


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything but the SavedModels, and nothing else in its folder's folder."""
    folder = tmp_path_factory.mktemp("alone") / "artifact"
    if GIVEN:
        return Path(shutil.copytree(GIVEN, folder))
    folder.mkdir()
    config, tokenizer = make_config(), train_tokenizer()
    write_tiny_lookup(folder / "lookup", config, tokenizer)
    shutil.rmtree(folder / "lookup-draft")
    write_onnx(folder / "model.onnx", build_onnx(make_weights(config), {}))
    (folder / "tokenizer.model").write_bytes(tokenizer)
    (folder / "labels.json").write_text(json.dumps(LABELS))
    (folder / "manifest.json").write_text(json.dumps({"max_tokens": MAX_TOKENS}))
    model = load_lookup(folder / "lookup")
    rows = []
    for text in [*make_texts(250), " ", "cat " * 40, "\u2028tree\u0085", "İstanbul", "﷽", "a\tb"]:
        ids, lengths = model.encode([text])
        probabilities = model.probabilities(ids, lengths)[0].tolist()
        rows.append({"text": text, "ids": ids[0].tolist(), "probabilities": probabilities})
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "golden.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def artifact_with_saved_models(artifact: Path) -> Path:
    """The same folder, the SavedModels added (slow tests only)."""
    if not GIVEN:
        from export.saved_model import IdsClassifier, TextClassifier, write_saved_model

        weights = make_weights(make_config())
        tokenizer = (artifact / "tokenizer.model").read_bytes()
        write_saved_model(artifact / "saved_model", IdsClassifier(weights))
        classifier = TextClassifier(weights, tokenizer, MAX_TOKENS)
        write_saved_model(artifact / "saved_model_text", classifier)
    return artifact
