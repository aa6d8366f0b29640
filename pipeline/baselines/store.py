"""What a baseline reached, kept beside its data folder. `write_baseline` and `read_*` are inverses.

    build/data/<name>.baselines/<kind>/baseline.json     accuracies by k, settings, duration
    build/data/<name>.baselines/<kind>/predictions.npz   `top_ids`, `fingerprint`

Beside the data folder and not in it, so that its own bytes stay a function of the source. The JSON
is replaced last, so a result that can be read has its predictions.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipeline.data_folder import PreparedData
from pipeline.json_file import write_json
from pipeline.whole_file import open_whole

BaselineKind = Literal["svm", "fasttext"]
BASELINE_NAMES: Mapping[BaselineKind, str] = {"svm": "TF-IDF + linear SVM", "fasttext": "fastText"}
"""What a person calls each kind; the order in which they are measured and shown."""
BASELINE_VERSION = 2
MAX_K = 100
"""Top-k accuracies up to this k are kept, so that another k needs no second training."""
NUM_TOP_IDS = 10
"""Best classes kept of each test text, for comparisons text by text."""


@dataclass(frozen=True, kw_only=True)
class BaselineResult:
    """What a baseline reaches.

    Attributes:
        metrics: `{"validation"|"test": {"top_1", "top_<k>"}}`, fractions.
        settings: What it was trained with.
        duration_s: Time that training and measuring took when it was done.
    """

    metrics: Mapping[str, Mapping[str, float]]
    settings: Mapping[str, Any]
    duration_s: float


def baseline_folder(data: PreparedData, kind: BaselineKind) -> Path:
    """Return where the result of this kind lies, whether it is there or not."""
    return data.folder.with_name(f"{data.folder.name}.baselines") / kind


def check_k(k: int) -> None:
    """Refuse a k of which nothing is kept.

    Raises:
        ValueError: It is not from 1 to 100.
    """
    if not 1 <= k <= MAX_K:
        raise ValueError(f"k: expected a value from 1 to {MAX_K}, found {k}.")


def count_hits(scores: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> list[float]:
    """Return the top-k accuracy for k = 1, 2, ...

    Args:
        scores: `(N, C)` float64, larger is likelier.
        labels: `(N,)` int64, the right columns.

    Returns:
        min(C, 100) fractions. A tie counts for the right label.
    """
    right = scores[np.arange(len(labels)), labels]  # (N,)
    ranks = (scores > right[:, None]).sum(axis=1)  # (N,)
    return [float((ranks < k).mean()) for k in range(1, min(MAX_K, scores.shape[1]) + 1)]


def rank_classes(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    """Return the likeliest classes of each row, best first: `(N, min(C, 10))` int32."""
    order = np.argsort(-scores, axis=1, kind="stable")
    return order[:, :NUM_TOP_IDS].astype(np.int32)


def write_baseline(
    data: PreparedData,
    kind: BaselineKind,
    *,
    hits: Mapping[str, list[float]],
    top_ids: npt.NDArray[np.int32],
    settings: Mapping[str, Any],
    duration_s: float,
) -> None:
    """Keep a result.

    Args:
        data: The data folder it was measured on.
        kind: Which baseline.
        hits: By split, the list of `count_hits`.
        top_ids: `(N, K)` int32, the best classes of each test text, in the order of the split.
        settings: See `BaselineResult`; JSON values.
        duration_s: See `BaselineResult`.
    """
    folder = baseline_folder(data, kind)
    folder.mkdir(parents=True, exist_ok=True)
    # Until the new JSON is there, none: it would vouch for the predictions of another training.
    (folder / "baseline.json").unlink(missing_ok=True)
    with open_whole(folder / "predictions.npz") as file:
        np.savez_compressed(file, top_ids=top_ids, fingerprint=np.array(data.fingerprint))
    write_json(
        folder / "baseline.json",
        {
            "version": BASELINE_VERSION,
            "fingerprint": data.fingerprint,
            "top_k": dict(hits),
            "settings": dict(settings),
            "duration_s": round(duration_s, 3),
        },
    )


def read_baseline(
    data: PreparedData, *, k: int, kind: BaselineKind = "svm"
) -> BaselineResult | None:
    """Return the kept result of this very data folder, None if there is none.

    Args:
        data: The data folder.
        k: Which top-k accuracy, 1 to 100; beyond the number of classes it is that of all of them.
        kind: Which baseline.

    Raises:
        ValueError: `k` is out of range.
    """
    check_k(k)
    path = baseline_folder(data, kind) / "baseline.json"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if (fields["version"], fields["fingerprint"]) != (BASELINE_VERSION, data.fingerprint):
            return None
        if read_predictions(data, kind) is None:
            return None
        return BaselineResult(
            metrics={
                split: {"top_1": hits[0], f"top_{k}": hits[min(k, len(hits)) - 1]}
                for split, hits in fields["top_k"].items()
            },
            settings=fields["settings"],
            duration_s=fields["duration_s"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # unreadable is as good as absent: it is measured again


def read_predictions(data: PreparedData, kind: BaselineKind) -> npt.NDArray[np.int32] | None:
    """Return the best classes of each test text, best first, None if there are none of this data.

    Returns:
        `(N, min(C, 10))` int32 in the order of `data.test`, which is that of a run's test split.
    """
    path = baseline_folder(data, kind) / "predictions.npz"
    try:
        # Opened here, because NumPy leaves a file open that is no archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if str(arrays["fingerprint"]) != data.fingerprint:
                return None
            top_ids: npt.NDArray[np.int32] = arrays["top_ids"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return top_ids if top_ids.dtype == np.int32 and len(top_ids) == data.test.count else None
