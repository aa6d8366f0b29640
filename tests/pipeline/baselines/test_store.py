"""Results of baselines on disk: whole, of this very data, or absent."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.baselines.store import (
    baseline_folder,
    check_k,
    count_hits,
    rank_classes,
    read_baseline,
    read_predictions,
    write_baseline,
)
from pipeline.data_folder import PreparedData, Split

TOP_IDS = np.array([[1, 0, 2], [0, 2, 1]], np.int32)


@pytest.fixture
def data(tmp_path: Path) -> PreparedData:
    """A data folder of which only the name, the fingerprint and the counts matter."""
    split = Split(shards=(), count=2)
    return PreparedData(
        folder=tmp_path / "pets",
        name="pets",
        fingerprint="f" * 64,
        labels=("cat", "dog", "elk"),
        vocab_size=20,
        max_tokens=8,
        train=split,
        validation=split,
        test=split,
        counts={},
    )


def write(data: PreparedData) -> Path:
    write_baseline(
        data,
        "svm",
        hits={"validation": [0.5, 0.75, 1.0], "test": [0.25, 0.5, 1.0]},
        top_ids=TOP_IDS,
        settings={"C": 1.0},
        duration_s=1.23456,
    )
    return baseline_folder(data, "svm")


def test_hits_are_counted_by_rank_and_a_tie_counts_for_the_right_label() -> None:
    scores = np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [0.0, 0.0, -np.inf]])
    assert count_hits(scores, np.array([0, 1, 2])) == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert count_hits(scores, np.array([0, 0, 1])) == [1.0, 1.0, 1.0]


def test_the_ten_likeliest_classes_are_kept_best_first() -> None:
    scores = np.concatenate([np.arange(30.0), [-np.inf, 7.5]])[np.newaxis]
    ranked = rank_classes(scores)
    assert (ranked.dtype, ranked.tolist()) == (np.dtype("int32"), [list(range(29, 19, -1))])
    assert rank_classes(np.array([[0.0, -np.inf, 2.0]])).tolist() == [[2, 0, 1]]


def test_what_was_written_is_read_for_any_k(data: PreparedData) -> None:
    folder = write(data)
    result = read_baseline(data, k=2)
    assert result is not None
    assert result.metrics == {
        "validation": {"top_1": 0.5, "top_2": 0.75},
        "test": {"top_1": 0.25, "top_2": 0.5},
    }
    assert (result.settings, result.duration_s) == ({"C": 1.0}, 1.235)
    beyond = read_baseline(data, k=50)
    assert beyond is not None and beyond.metrics["test"]["top_50"] == 1.0
    np.testing.assert_array_equal(read_predictions(data, "svm"), TOP_IDS)  # type: ignore[arg-type]
    assert sorted(path.name for path in folder.iterdir()) == ["baseline.json", "predictions.npz"]
    with np.load(folder / "predictions.npz", allow_pickle=False) as arrays:
        assert sorted(arrays) == ["fingerprint", "top_ids"]
        assert str(arrays["fingerprint"]) == data.fingerprint


def test_kinds_are_kept_apart(data: PreparedData) -> None:
    write(data)
    assert read_baseline(data, k=1, kind="fasttext") is None
    assert read_predictions(data, "fasttext") is None


def test_results_of_other_data_are_not_used(data: PreparedData) -> None:
    write(data)
    other = dataclasses.replace(data, fingerprint="e" * 64)
    assert read_baseline(other, k=1) is None
    assert read_predictions(other, "svm") is None


@pytest.mark.parametrize("name", ["baseline.json", "predictions.npz"])
@pytest.mark.parametrize("size", [0, 1, 40, 200])
def test_a_torn_file_is_as_good_as_none(data: PreparedData, name: str, size: int) -> None:
    path = write(data) / name
    path.write_bytes(path.read_bytes()[:size])
    assert read_baseline(data, k=1) is None


def test_a_killed_writer_leaves_no_result_that_vouches_for_other_predictions(
    data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(data)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.baselines.store.write_json", die)
    with pytest.raises(KeyboardInterrupt):
        write(data)
    assert read_baseline(data, k=1) is None


def test_predictions_of_another_number_of_texts_are_not_used(data: PreparedData) -> None:
    write(data)
    fewer = dataclasses.replace(data, test=Split(shards=(), count=1))
    assert read_predictions(fewer, "svm") is None


def test_results_of_an_older_version_are_not_used(data: PreparedData) -> None:
    path = write(data) / "baseline.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 1}))
    assert read_baseline(data, k=1) is None


@pytest.mark.parametrize("k", [0, 101])
def test_k_out_of_range_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match=rf"k: expected a value from 1 to 100, found {k}\."):
        check_k(k)
