"""Predictions on disk: written and read, and damage is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.evaluation.predictions import Predictions, read_predictions, write_predictions
from pipeline.run_folder import RunError

PREDICTIONS = Predictions(
    top_ids=np.array([[1, 0], [0, 1]], np.int32),
    fingerprint="f00",
    probabilities=np.array([[0.75, 0.25], [0.5, 0.5]], np.float32),
)


def test_predictions_are_read_as_they_were_written(tmp_path: Path) -> None:
    write_predictions(tmp_path / "kept.npz", PREDICTIONS)
    read = read_predictions(tmp_path / "kept.npz")
    np.testing.assert_array_equal(read.top_ids, PREDICTIONS.top_ids)
    np.testing.assert_array_equal(read.probabilities, PREDICTIONS.probabilities)
    assert read.fingerprint == "f00"
    assert [path.name for path in tmp_path.iterdir()] == ["kept.npz"]


def test_the_same_predictions_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.npz", "other.npz"):
        write_predictions(tmp_path / name, PREDICTIONS)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "other.npz").read_bytes()


def test_what_a_baseline_writes_is_read(tmp_path: Path) -> None:
    np.savez_compressed(
        tmp_path / "p.npz", top_ids=PREDICTIONS.top_ids, fingerprint=np.array("f00")
    )
    read = read_predictions(tmp_path / "p.npz")
    assert (read.fingerprint, read.probabilities) == ("f00", None)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"no archive"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "p.npz"
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"p\.npz: expected predictions, found .*evaluate --force`"):
        read_predictions(path)


def test_a_torn_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    write_predictions(path, PREDICTIONS)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(RunError, match=r"p\.npz: expected predictions, found"):
        read_predictions(path)


def test_arrays_of_another_form_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    np.savez(path, top_ids=np.zeros(3), fingerprint=np.array("f"))
    with pytest.raises(RunError, match=r"expected top_ids \(N, k\) int32, found \(3,\) float64"):
        read_predictions(path)
    np.save(path.with_suffix(".npy"), np.zeros(3))
    path.write_bytes(path.with_suffix(".npy").read_bytes())
    with pytest.raises(RunError, match="expected predictions, found TypeError"):
        read_predictions(path)
    np.savez(path, top_ids=np.array([{}], object), fingerprint=np.array("f"))
    with pytest.raises(RunError, match="expected predictions, found ValueError"):
        read_predictions(path)
