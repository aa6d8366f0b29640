"""The linear baseline."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.baseline import count_hits, measure_baseline, read_baseline
from pipeline.config import PrepareConfig
from pipeline.data_folder import PreparedData, read_prepared
from pipeline.prepare import prepare
from pipeline.tables.source import SourceConfig

pytestmark = pytest.mark.slow  # writing shards takes TensorFlow

MakeTable = Callable[..., SourceConfig]


@pytest.fixture
def data(prepared: PreparedData, tmp_path: Path) -> PreparedData:
    return read_prepared(Path(shutil.copytree(prepared.folder, tmp_path / "pets")))


def test_hits_are_counted_by_rank() -> None:
    scores = np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [0.0, 0.0, -np.inf]])
    assert count_hits(scores, np.array([0, 1, 2])) == pytest.approx([1 / 3, 2 / 3, 1.0])


def test_words_that_tell_the_classes_apart_are_learned_and_kept(data: PreparedData) -> None:
    assert read_baseline(data, k=2) is None
    result = measure_baseline(data, k=2)
    assert set(result.metrics) == {"validation", "test"}
    assert result.metrics["test"]["top_1"] > 0.95
    assert result.metrics["test"]["top_2"] == 1.0
    assert read_baseline(data, k=2) == measure_baseline(data, k=2) == result
    assert "top_1" in result.metrics["test"]


def test_k_beyond_the_classes_is_everything(data: PreparedData) -> None:
    assert measure_baseline(data, k=50).metrics["test"]["top_50"] == 1.0


def test_result_of_other_data_is_not_used(data: PreparedData) -> None:
    measure_baseline(data, k=1)
    assert read_baseline(dataclasses.replace(data, fingerprint="other"), k=1) is None


def test_torn_result_is_measured_again(data: PreparedData) -> None:
    result = measure_baseline(data, k=1)
    kept = data.folder.with_name("pets.baseline.json")
    kept.write_text(kept.read_text()[:40])
    assert read_baseline(data, k=1) is None
    assert measure_baseline(data, k=1).metrics == result.metrics


def test_words_of_one_letter_are_learned_among_three_classes(
    tmp_path: Path, make_table: MakeTable
) -> None:
    rows = [(f"{letter} {number}", letter) for letter in "xyz" for number in range(100)]
    data = prepare(make_table(rows), PrepareConfig(vocab_size=100), tmp_path / "d" / "table")
    assert measure_baseline(data, k=3).metrics["test"]["top_1"] == 1.0


@pytest.mark.parametrize("k", [0, 101])
def test_k_out_of_range_is_refused(data: PreparedData, k: int) -> None:
    with pytest.raises(ValueError, match=rf"k: expected a value from 1 to 100, found {k}\."):
        measure_baseline(data, k=k)
