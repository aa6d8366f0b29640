"""Baselines on a prepared data folder: learned, kept, and not learned twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.baselines import measure
from pipeline.baselines.measure import measure_baseline
from pipeline.baselines.store import (
    BaselineKind,
    baseline_folder,
    count_hits,
    read_baseline,
    read_predictions,
)
from pipeline.data_folder import PreparedData, read_prepared

pytestmark = pytest.mark.slow  # writing shards takes TensorFlow


@pytest.fixture
def data(prepared: PreparedData, tmp_path: Path) -> PreparedData:
    return read_prepared(Path(shutil.copytree(prepared.folder, tmp_path / "pets")))


@pytest.mark.parametrize("kind", ["svm", "fasttext"])
def test_words_that_tell_the_classes_apart_are_learned_and_kept(
    data: PreparedData, kind: BaselineKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "fasttext":
        pytest.importorskip("fasttext", reason="needs the extra `fasttext`")
    assert read_baseline(data, k=2, kind=kind) is None
    result = measure_baseline(data, k=2, kind=kind)
    assert set(result.metrics) == {"validation", "test"}
    assert result.metrics["test"]["top_1"] > 0.95
    assert result.metrics["test"]["top_2"] == 1.0
    assert ("tried" in result.settings) == (kind == "fasttext")
    monkeypatch.delattr(measure, "score_by_svm")
    monkeypatch.delattr(measure, "score_by_fasttext")
    assert read_baseline(data, k=2, kind=kind) == measure_baseline(data, k=2, kind=kind) == result
    # The answers that are kept are those that were counted.
    top_ids = read_predictions(data, kind)
    assert top_ids is not None and top_ids.shape == (data.test.count, 2)
    answers = np.eye(2)[top_ids[:, 0]]
    hits = count_hits(answers, np.array(data.test.read_rows()[1]))
    assert hits[0] == result.metrics["test"]["top_1"]


def test_a_torn_result_is_measured_again(data: PreparedData) -> None:
    result = measure_baseline(data, k=1)
    kept = baseline_folder(data, "svm") / "baseline.json"
    kept.write_text(kept.read_text()[:40])
    assert read_baseline(data, k=1) is None
    assert measure_baseline(data, k=1).metrics == result.metrics
