"""The files of an evaluation in a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.evaluation.fields import RunEvaluation
from pipeline.evaluation.files import read_evaluation, write_evaluation
from pipeline.evaluation.predictions import Predictions
from pipeline.run_folder import RunError

PREDICTIONS = Predictions(top_ids=np.array([[0, 1]], np.int32), fingerprint="f")


def test_files_are_written_whole_and_the_json_is_read_back(
    evaluation: RunEvaluation, tmp_path: Path
) -> None:
    assert read_evaluation(tmp_path) is None
    write_evaluation(tmp_path, evaluation, PREDICTIONS)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("confusion.svg", "evaluation.html", "evaluation.json", "reliability.svg"),
        "test_predictions.npz",
    ]
    assert read_evaluation(tmp_path) == evaluation
    assert (tmp_path / "confusion.svg").read_text().startswith("<svg")


def test_the_json_comes_last(
    evaluation: RunEvaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> str:
        raise OSError("disk full")

    monkeypatch.setattr("pipeline.evaluation.files.render_page", fail)
    with pytest.raises(OSError, match="disk full"):
        write_evaluation(tmp_path, evaluation, PREDICTIONS)
    assert read_evaluation(tmp_path) is None


def test_a_damaged_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text("{")
    with pytest.raises(RunError, match=r"evaluation\.json"):
        read_evaluation(tmp_path)
