"""Two sets of answers to the same texts: which is better, and is that more than chance?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.evaluation.bootstrap import Interval, bootstrap_difference
from pipeline.evaluation.predictions import Predictions
from pipeline.run_folder import RunError


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One accuracy of two models.

    Attributes:
        k: 1 for the first answer alone.
        first: Share of the first model.
        second: Share of the second.
        difference: First minus second, with its interval.
        only_first: Texts that only the first has right.
        only_second: Texts that only the second has right.
    """

    k: int
    first: float
    second: float
    difference: Interval
    only_first: int
    only_second: int


def compare_predictions(
    first: Predictions,
    second: Predictions,
    labels: npt.NDArray[np.int64],
    *,
    names: tuple[str, str],
    k: int,
) -> tuple[Comparison, ...]:
    """Compare top-1 and top-k accuracy.

    Args:
        first: N rows.
        second: Of the same data.
        labels: (N,) int64, the right ones.
        names: Of both, for errors.
        k: Of the second comparison.

    Raises:
        RunError: The predictions are of other data than each other, or keep fewer than k answers.
    """
    if first.fingerprint != second.fingerprint:
        raise RunError(
            f"{names[0]} and {names[1]}: expected two models of the same data, found fingerprints "
            f"{first.fingerprint[:12]} and {second.fingerprint[:12]}. Train one of them on the "
            "other's data."
        )
    for name, predictions in zip(names, (first, second), strict=True):
        rows, kept = predictions.top_ids.shape
        if rows != len(labels) or kept < k:
            raise RunError(
                f"{name}: expected at least {k} answers to each of {len(labels)} test texts, found "
                f"{kept} to {rows}. Measure it again, or evaluate with a smaller k."
            )
    compared = []
    for depth in dict.fromkeys((1, k)):
        hits, others = (
            (predictions.top_ids[:, :depth] == labels[:, None]).any(axis=1)
            for predictions in (first, second)
        )
        compared.append(
            Comparison(
                k=depth,
                first=float(hits.mean()),
                second=float(others.mean()),
                difference=bootstrap_difference(hits, others),
                only_first=int((hits & ~others).sum()),
                only_second=int((others & ~hits).sum()),
            )
        )
    return tuple(compared)
