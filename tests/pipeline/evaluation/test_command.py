"""`python -m pipeline evaluate`, on one tiny run, its twin and a baseline."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from pipeline.config import ModelConfig, TrainConfig

pytestmark = pytest.mark.slow

NEW_FILES = (
    *("confusion.svg", "evaluation.html", "evaluation.json", "reliability.svg"),
    "test_predictions.npz",
)


@pytest.fixture(scope="module")
def build(prepared: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build folder with data, the run `good`, `old` as earlier versions wrote it, and an SVM."""
    from pipeline.train import train

    root = tmp_path_factory.mktemp("evaluated")
    shutil.copytree(prepared.folder, root / "data" / "pets")
    model = ModelConfig(vocab_size=prepared.vocab_size, num_classes=2, embed_dim=8, units=4)
    training = TrainConfig(num_epochs=2, batch_size=64, num_predict=2, learning_rate=0.02)
    good = train(prepared, model, training, root / "runs", name="good")
    shutil.copytree(good.folder, root / "runs" / "old")
    for name in NEW_FILES:
        (root / "runs" / "old" / name).unlink()
    path = root / "runs" / "old" / "run.json"
    fields = json.loads(path.read_text())
    del fields["calibration"]
    path.write_text(json.dumps(fields))
    svm = root / "data" / "pets.baselines" / "svm"
    svm.mkdir(parents=True)
    labels = np.array([label for _, label in good.read_test_split()], np.int32)
    np.savez_compressed(
        svm / "predictions.npz",
        top_ids=np.stack([labels, 1 - labels], axis=1),
        fingerprint=np.array(prepared.fingerprint),
    )
    return root


@pytest.fixture
def evaluate(build: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    from pipeline.__main__ import cli

    monkeypatch.setenv("GATETABLE_BUILD", str(build))

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["evaluate", *arguments])

    return call


def test_a_training_leaves_its_evaluation_and_the_command_prints_it(
    evaluate: Any, build: Path
) -> None:
    before = {name: (build / "runs" / "good" / name).stat().st_mtime_ns for name in NEW_FILES}
    done = evaluate()
    assert done.exit_code == 0, done.output
    for words in ("good", "validation", "top-1", "macro F1", "calibration error", "weakest"):
        assert words in done.output
    assert "evaluation.html" in done.output
    after = {name: (build / "runs" / "good" / name).stat().st_mtime_ns for name in NEW_FILES}
    assert after == before  # nothing was measured again
    metrics = json.loads((build / "runs" / "good" / "run.json").read_text())["metrics"]
    fields = json.loads((build / "runs" / "good" / "evaluation.json").read_text())
    for split in ("validation", "test"):
        assert fields["splits"][split]["top_1"]["value"] == metrics[split]["top_1"]
        assert fields["splits"][split]["nll"] == metrics[split]["loss"]


def test_an_old_run_is_measured_like_a_new_one(evaluate: Any, build: Path) -> None:
    done = evaluate("old")
    assert done.exit_code == 0, done.output
    assert "they are not calibrated" in done.output
    old, good = (
        json.loads((build / "runs" / name / "evaluation.json").read_text())
        for name in ("old", "good")
    )
    assert old["calibration"] == {}
    for split in ("validation", "test"):
        assert old["splits"][split]["top_1"] == good["splits"][split]["top_1"]
        assert old["splits"][split]["nll"] == pytest.approx(good["splits"][split]["nll"], abs=1e-6)
    assert all((build / "runs" / "old" / name).is_file() for name in NEW_FILES)


def test_without_its_data_a_run_is_measured_on_the_test_split(
    evaluate: Any, build: Path, tmp_path: Path
) -> None:
    shutil.move(build / "data" / "pets", tmp_path / "pets")
    try:
        done = evaluate("old", "--force")
        assert done.exit_code == 0, done.output
        fields = json.loads((build / "runs" / "old" / "evaluation.json").read_text())
        assert list(fields["splits"]) == ["test"]
        missing = evaluate("good", "svm")
        assert missing.exit_code == 2
        assert "expected the data of good, fingerprint" in missing.output
    finally:
        shutil.move(tmp_path / "pets", build / "data" / "pets")


def test_two_runs_of_the_same_weights_do_not_differ(evaluate: Any) -> None:
    done = evaluate("good", "old")
    assert done.exit_code == 0, done.output
    assert "top-1: no difference is shown: the interval holds 0." in done.output
    assert "Only good is right on 0 texts, only old on 0." in done.output


def test_a_baseline_is_compared_on_the_same_texts(evaluate: Any, build: Path) -> None:
    done = evaluate("good", "svm")
    assert done.exit_code == 0, done.output
    assert "only svm on" in done.output
    assert "100.00 %" in done.output  # it was given the labels
    gone = evaluate("good", "fasttext")
    assert gone.exit_code == 2
    assert "Measure the baseline with `python -m pipeline baseline --kind fasttext`" in gone.output


def test_a_run_of_other_data_is_refused(evaluate: Any, build: Path) -> None:
    other = build / "runs" / "other"
    shutil.copytree(build / "runs" / "good", other)
    path = other / "test_predictions.npz"
    with np.load(path) as arrays:
        top_ids = arrays["top_ids"]
    np.savez_compressed(path, top_ids=top_ids, fingerprint=np.array("0" * 64))
    done = evaluate("good", "other")
    assert done.exit_code == 2
    assert "good and other: expected two models of the same data" in done.output


def test_an_unknown_run_is_refused(evaluate: Any) -> None:
    done = evaluate("nobody")
    assert done.exit_code == 2
    assert "no run named 'nobody'; there are: good, old" in done.output
