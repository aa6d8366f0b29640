"""Train and measure a baseline on a data folder, or return what was measured before."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from pipeline.baselines.fasttext_grid import GRID, GridPoint, check_fasttext, score_by_fasttext
from pipeline.baselines.linear_svm import SETTINGS, score_by_svm
from pipeline.baselines.store import (
    BaselineKind,
    BaselineResult,
    check_k,
    count_hits,
    rank_classes,
    read_baseline,
    write_baseline,
)
from pipeline.data_folder import PreparedData


def measure_baseline(
    data: PreparedData,
    *,
    k: int,
    kind: BaselineKind = "svm",
    notify: Callable[[GridPoint], None] = lambda _: None,
) -> BaselineResult:
    """Train and measure a baseline, or return the kept result of this data folder.

    Args:
        data: The data folder.
        k: Which top-k accuracy beside top-1, 1 to 100.
        kind: Which baseline.
        notify: Told of each of `NUM_TRAININGS[kind]` trainings of fastText as it ends.

    Returns:
        Accuracies on validation and test. Nothing was chosen by the test split.

    Raises:
        DataError: A shard is damaged, or fastText is not installed or cannot learn this data.
        ValueError: `k` is out of range.
    """
    check_k(k)
    kept = read_baseline(data, k=k, kind=kind)
    if kept is not None:
        return kept
    if kind == "fasttext":
        check_fasttext()
    started = time.perf_counter()
    rows = {split: part.read_rows() for split, part in data.splits()}
    train = rows.pop("train")
    texts = {split: split_texts for split, (split_texts, _) in rows.items()}
    settings: dict[str, Any]
    if kind == "fasttext":
        result = score_by_fasttext(
            train, texts, rows["validation"][1], num_classes=len(data.labels), notify=notify
        )
        scores = result.scores
        settings = asdict(result.best) | {"tried": [asdict(point) for point in result.tried]}
    else:
        scores = score_by_svm(train, texts, num_classes=len(data.labels))
        settings = SETTINGS
    write_baseline(
        data,
        kind,
        hits={
            split: count_hits(scores[split], np.array(labels))
            for split, (_, labels) in rows.items()
        },
        top_ids=rank_classes(scores["test"]),
        settings=settings,
        duration_s=time.perf_counter() - started,
    )
    measured = read_baseline(data, k=k, kind=kind)
    assert measured is not None  # it was written a moment ago
    return measured


NUM_TRAININGS = {"svm": 1, "fasttext": len(GRID)}
