"""Tiny runs and one artifact that many tests read.

TensorFlow is imported inside fixtures only, and only slow tests ask for those.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from pipeline.config import ModelConfig
from pipeline.run_folder import Run
from tests.export.tiny import make_config, make_keras_model, make_texts, write_tiny_run


@pytest.fixture(scope="session")
def tokenizer_model() -> bytes:
    """A SentencePiece BPE model trained on the texts, pad 0 and unk 1."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(make_texts() * 2),
        model_writer=model,
        vocab_size=96,
        model_type="bpe",
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        character_coverage=1.0,
        minloglevel=2,
    )
    return model.getvalue()


@pytest.fixture
def hollow_run(tmp_path: Path, tokenizer_model: bytes) -> Run:
    """A run whose model file is no model: enough for what happens before it is loaded."""
    folder = tmp_path / "runs" / "hollow"
    folder.mkdir(parents=True)
    (folder / "model.keras").write_bytes(b"not a model")
    return write_tiny_run(folder, make_config(), tokenizer_model)


@pytest.fixture(scope="session")
def make_run(tokenizer_model: bytes) -> Callable[..., Run]:
    """Return a function that writes a whole tiny run (slow tests only)."""

    def make(folder: Path, config: ModelConfig | None = None, **changes: Any) -> Run:
        config = config or make_config()
        folder.mkdir(parents=True)
        make_keras_model(config).save(folder / "model.keras")
        return write_tiny_run(folder, config, tokenizer_model, **changes)

    return make


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, make_run: Callable[..., Run]) -> Run:
    """A whole tiny run: bidirectional, max pooling, dropout layers present (slow tests only)."""
    build = tmp_path_factory.mktemp("build")
    return make_run(build / "runs" / "tiny", make_config(embedding_dropout=0.1, head_dropout=0.1))


@pytest.fixture(scope="session")
def published(tiny_run: Run) -> Path:
    """The artifact of `tiny_run`, for tests that only read it (slow tests only)."""
    from export.publish import export_run

    return export_run(tiny_run.folder, tiny_run.folder.parents[1] / "artifacts").artifact.folder


@pytest.fixture
def artifact_copy(published: Path, tmp_path: Path) -> Path:
    """A copy of `published` that a test may damage (slow tests only)."""
    copy = tmp_path / "artifacts" / "tiny" / "1"
    shutil.copytree(published, copy)
    (copy.parent / "latest").write_text("1\n")
    return copy
