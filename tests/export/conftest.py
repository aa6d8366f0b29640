"""Tiny runs and one artifact that many tests read.

TensorFlow is imported inside fixtures only, and only slow tests ask for those.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import ModelConfig
from pipeline.json_file import write_json
from pipeline.run_folder import Run, load_model
from tests.export.model_card.samples import make_data_card
from tests.export.tiny import (
    make_config,
    make_keras_model,
    train_tokenizer,
    write_tiny_lookup,
    write_tiny_run,
)

_SIDES = {"before": {"ece": 0.0543, "nll": 0.7751}, "after": {"ece": 0.0121, "nll": 0.7612}}
CALIBRATION: dict[str, Any] = {"temperature": 0.8, "note": None, "test": _SIDES}
"""What `run.json` of `tiny_run` says; its head is divided by that temperature."""


def keep_evidence(run: Run) -> None:
    """Write what `make train` keeps of a run's evaluation and data (slow tests only)."""
    from pipeline.evaluation.evaluate import evaluate_splits, score_splits

    texts, labels = zip(*run.read_test_split(), strict=True)
    evaluation = evaluate_splits(
        score_splits(
            load_model(run),
            {"test": (texts, labels)},
            tokenizer_path=run.tokenizer_path,
            max_tokens=run.max_tokens,
        ),
        run=run.name,
        fingerprint=run.data["fingerprint"],
        label_names=run.labels,
        k=run.training["num_predict"],
        calibration=run.calibration,
    )
    write_json(run.folder / "evaluation.json", evaluation.to_json())
    write_json(run.folder / "data_card.json", make_data_card(run))


@pytest.fixture(scope="session")
def tokenizer_model() -> bytes:
    """See `train_tokenizer`."""
    return train_tokenizer()


@pytest.fixture(scope="session")
def tiny_lookup(tmp_path_factory: pytest.TempPathFactory, tokenizer_model: bytes) -> Path:
    """The lookup folder of a tiny bidirectional model, for tests that only read it."""
    folder = tmp_path_factory.mktemp("tiny") / "lookup"
    write_tiny_lookup(folder, make_config(), tokenizer_model)
    return folder


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

    def make(
        folder: Path, config: ModelConfig | None = None, *, temperature: float = 1.0, **changes: Any
    ) -> Run:
        from pipeline.evaluation.temperature import fold_temperature

        config = config or make_config()
        folder.mkdir(parents=True)
        model = make_keras_model(config)
        fold_temperature(model, temperature)
        model.save(folder / "model.keras")
        return write_tiny_run(folder, config, tokenizer_model, **changes)

    return make


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, make_run: Callable[..., Run]) -> Run:
    """A whole tiny run with every dropout, calibrated and measured (slow tests only)."""
    build = tmp_path_factory.mktemp("build")
    config = make_config(
        embedding_dropout=0.1,
        head_dropout=0.1,
        embedding_dropout_kind="element",
        gru_dropout=0.1,
        recurrent_dropout=0.1,
    )
    run = make_run(
        build / "runs" / "tiny",
        config,
        temperature=CALIBRATION["temperature"],
        calibration=CALIBRATION,
    )
    keep_evidence(run)
    return run


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


@pytest.fixture
def without_oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the tf2onnx conversion, ten seconds of another process (slow tests only)."""

    @contextmanager
    def skip(*_: object) -> Iterator[Callable[[], None]]:
        yield lambda: None

    monkeypatch.setattr("export.forms.convert_in_background", skip)
