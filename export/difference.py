"""When two sets of class probabilities count as the same, and the running tally of it.

Why 1e-5: float32 sums of a few hundred terms in another order differ by some 1e-7 here; a wrong
bias, gate order or mask shows from 1e-3 up. The bound lies between, on the strict side. A form
whose numbers are compressed is held to the bound that was measured for its options instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context

import numpy as np
from numpy.typing import NDArray

from export.weights import Float32

TOLERANCE = 1e-5
"""Largest difference of a probability; of a logit, times max(1, largest |logit| of the row)."""
_SHOWN_CHARACTERS = 60


class AgreementError(Exception):
    """The forms of an artifact do not agree with the trained model."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a form may differ by from the trained model.

    Attributes:
        probability: Largest difference of a probability.
        logit: Of a logit, times max(1, largest |logit| of the row).
        same_ranks: Whether the first classes must be the same, but for ties. Compression may
            change them; what that costs is counted, and limited as a loss of accuracy.
    """

    probability: float = TOLERANCE
    logit: float = TOLERANCE
    same_ranks: bool = True


EXACT = Bounds()
"""Of every form that stores the trained numbers, or what was folded from them, as float32."""


def round_up(value: float) -> float:
    """Return `value` as a bound of two digits: readable, and blind to the last bits."""
    return float(Context(prec=2, rounding=ROUND_CEILING).create_decimal(repr(value)))


def rank_top_k(probabilities: Float32, k: int) -> NDArray[np.intp]:
    """Return the ids of the k most probable classes, (B, k), best first, ties by lower id."""
    candidates = np.argpartition(-probabilities, k - 1, axis=1)[:, :k]
    candidates.sort(axis=1)
    values = np.take_along_axis(probabilities, candidates, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(candidates, order, axis=1)


def has_other_ranks(reference: Float32, found: Float32, k: int) -> NDArray[np.bool_]:
    """Tell for each row whether its first k classes differ by more than a tie.

    Two classes are tied when the reference holds them less than `TOLERANCE` apart.

    Args:
        reference: (B, C) float32.
        found: (B, C) float32.
        k: How many first classes are compared, at most C.

    Returns:
        (B,) bool.
    """
    expected, ranked = rank_top_k(reference, k), rank_top_k(found, k)
    gaps = np.abs(
        np.take_along_axis(reference, expected, axis=1)
        - np.take_along_axis(reference, ranked, axis=1)
    )
    return ((expected != ranked) & ~(gaps < TOLERANCE)).any(axis=1)


@dataclass(frozen=True, kw_only=True)
class BackendDifference:
    """How one form of the classifier compares with the reference.

    Attributes:
        name: `saved_model`, `saved_model_text`, `onnx`, `tf2onnx` or `lookup`.
        rows: Rows compared.
        max_abs_probability_diff: Over all rows.
        worst_text: Where that was; the start of it.
        max_relative_logit_diff: |difference| / max(1, largest |logit| of the row), or None where
            the form exposes no logits.
        top_k_disagreements: Rows whose first k classes differ beyond ties.
        first_disagreement: The first such text, or None.
        bounds: What it may differ by.
    """

    name: str
    rows: int
    max_abs_probability_diff: float
    worst_text: str
    max_relative_logit_diff: float | None
    top_k_disagreements: int
    first_disagreement: str | None
    bounds: Bounds = EXACT

    @property
    def problems(self) -> tuple[str, ...]:
        """What exceeds the bounds, one sentence each."""
        found = []
        bounds = self.bounds
        # All comparisons are written so that NaN fails.
        if not self.max_abs_probability_diff <= bounds.probability:
            found.append(
                f"{self.name}: expected probabilities within {bounds.probability:g} of Keras's, "
                f"found a difference of {self.max_abs_probability_diff:.3g} on {self.worst_text!r}."
            )
        if self.max_relative_logit_diff is not None and not (
            self.max_relative_logit_diff <= bounds.logit
        ):
            found.append(
                f"{self.name}: expected logits within {bounds.logit:g} x max(1, largest |logit|) "
                f"of Keras's, found a difference of {self.max_relative_logit_diff:.3g}."
            )
        if self.top_k_disagreements and bounds.same_ranks:
            found.append(
                f"{self.name}: expected Keras's first classes on every text, found others on "
                f"{self.top_k_disagreements}, first on {self.first_disagreement!r}."
            )
        return tuple(found)


class DifferenceTally:
    """Adds up the comparison of one form, batch by batch. Not for use by several threads.

    Args:
        name: The form.
        k: How many first classes are compared.
        bounds: What it may differ by.
    """

    def __init__(self, name: str, k: int, bounds: Bounds = EXACT) -> None:
        self._name = name
        self._k = k
        self._bounds = bounds
        self._rows = 0
        self._worst = 0.0
        self._worst_text = ""
        self._worst_logit: float | None = None
        self._disagreements = 0
        self._first_disagreement: str | None = None

    def add(self, reference: Float32, found: Float32, texts: Sequence[str]) -> None:
        """Add rows of probabilities, both (B, C), of the given texts.

        Raises:
            AgreementError: The shapes differ.
        """
        if found.shape != reference.shape:
            raise AgreementError(
                f"{self._name}: expected probabilities of shape {reference.shape} as Keras gives, "
                f"found {found.shape}. Export the run again."
            )
        self._rows += len(texts)
        # NaN compares false with everything: make it the worst there is.
        diff = np.nan_to_num(np.abs(found - reference), nan=np.inf).max(axis=1)  # (B,)
        row = int(diff.argmax())
        if diff[row] > self._worst or not self._worst_text:
            self._worst, self._worst_text = float(diff[row]), texts[row][:_SHOWN_CHARACTERS]
        others = np.flatnonzero(has_other_ranks(reference, found, self._k))
        self._disagreements += len(others)
        if len(others) and self._first_disagreement is None:
            self._first_disagreement = texts[others[0]][:_SHOWN_CHARACTERS]

    def add_logits(self, reference: Float32, found: Float32) -> None:
        """Add rows of logits, both (B, C)."""
        scale = np.maximum(np.abs(reference).max(axis=1, keepdims=True), 1.0)  # (B, 1)
        diff = np.nan_to_num(np.abs(found - reference) / scale, nan=np.inf)
        self._worst_logit = max(self._worst_logit or 0.0, float(diff.max()))

    def summarise(self) -> BackendDifference:
        """Return what was found so far."""
        return BackendDifference(
            name=self._name,
            rows=self._rows,
            max_abs_probability_diff=self._worst,
            worst_text=self._worst_text,
            max_relative_logit_diff=self._worst_logit,
            top_k_disagreements=self._disagreements,
            first_disagreement=self._first_disagreement,
            bounds=self._bounds,
        )
