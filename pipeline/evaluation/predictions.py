"""`test_predictions.npz`: what a model answered to the test split, kept to be compared later.

    top_ids          (N, k) int32, k at least min(10, C): label ids, likeliest first
    fingerprint      () str, of the data folder: predictions are compared on the same texts alone
    probabilities    (N, k) float32, of the same labels; optional

Rows stand in the order of the test split. A baseline writes the same arrays.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.run_folder import RunError
from pipeline.whole_file import open_whole

KEPT = 10
"""Answers a text that are kept; more where a top-k accuracy asks for them."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """First answers to a test split.

    Attributes:
        top_ids: (N, k) int32.
        fingerprint: Of the data folder.
        probabilities: (N, k) float32, or None.
    """

    top_ids: npt.NDArray[np.int32]
    fingerprint: str
    probabilities: npt.NDArray[np.float32] | None = None


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write predictions through a temporary name; the same ones give the same bytes."""
    arrays: dict[str, Any] = {
        "top_ids": predictions.top_ids.astype(np.int32),
        "fingerprint": np.array(predictions.fingerprint),
    }
    if predictions.probabilities is not None:
        arrays["probabilities"] = predictions.probabilities.astype(np.float32)
    with open_whole(path) as file:
        np.savez_compressed(file, **arrays)


def read_predictions(path: Path) -> Predictions:
    """Read what `write_predictions` wrote.

    Raises:
        RunError: The file is missing, damaged or of another form.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            top_ids = arrays["top_ids"]
            fingerprint = str(arrays["fingerprint"])
            probabilities = arrays.get("probabilities")
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as err:
        raise RunError(
            f"{path}: expected predictions, found {err!r}. Write them again with "
            "`python -m pipeline evaluate --force`."
        ) from err
    if top_ids.ndim != 2 or top_ids.dtype != np.int32 or not top_ids.shape[1]:
        raise RunError(
            f"{path}: expected top_ids (N, k) int32, found {top_ids.shape} {top_ids.dtype}. Write "
            "them again with `python -m pipeline evaluate --force`."
        )
    return Predictions(top_ids=top_ids, fingerprint=fingerprint, probabilities=probabilities)
