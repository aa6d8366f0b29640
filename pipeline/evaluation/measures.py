"""Measures over logits and right labels: accuracy, calibration, and one line a class. NumPy alone.

* **NLL**: mean negative log of the probability of the right label, natural logarithm.
* **Brier score**: mean squared distance between the probabilities and the right answer, summed over
  the classes: 0 is perfect, 2 the worst.
* **ECE**, the expected calibration error: how far the probability of the first answer lies from how
  often it is right, averaged over 15 bins that hold equally many texts (equal mass). With bins of
  equal width almost all texts would share two or three of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.evaluation.bootstrap import Interval, bootstrap_share

Labels = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
BINS = 15


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Texts of like confidence.

    Attributes:
        rows: How many.
        confidence: Mean probability of their first answers.
        accuracy: Share of these that is right.
    """

    rows: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class ClassMeasures:
    """One class: `support` texts have it, `predicted` texts got it, `hits` of them rightly."""

    label: str
    support: int
    predicted: int
    hits: int

    @property
    def precision(self) -> float:
        """Share of the texts that got this label and have it; 0 where none got it."""
        return self.hits / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Share of the texts of this label that got it; 0 where none has it."""
        return self.hits / self.support if self.support else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of the two."""
        both = self.support + self.predicted
        return 2 * self.hits / both if both else 0.0


@dataclass(frozen=True, kw_only=True)
class SplitMeasures:
    """All measures over one split.

    Attributes:
        rows: N.
        k: Of `top_k`.
        top_1: Share of texts whose first answer is right.
        top_k: Share of texts with the right label among the first k answers.
        nll: See the module.
        brier: See the module.
        ece: See the module.
        bins: Of the ECE, least sure first.
        classes: In id order.
        confusion: (right label, first answer, count) wherever the count is not 0, in id order.
    """

    rows: int
    k: int
    top_1: Interval
    top_k: Interval
    nll: float
    brier: float
    ece: float
    bins: tuple[Bin, ...]
    classes: tuple[ClassMeasures, ...]
    confusion: tuple[tuple[int, int, int], ...]

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes that the split holds, each counting the same."""
        return float(np.mean([one.f1 for one in self.classes if one.support]))

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes that the split holds."""
        return float(np.mean([one.recall for one in self.classes if one.support]))


def log_softmax(logits: Floats) -> Floats:
    """Return the logarithms of the probabilities, (N, C) float64."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def rank_classes(logits: Floats, k: int) -> npt.NDArray[np.int32]:
    """Return the first k answers of each text, likeliest first; of equals the lower id.

    Returns:
        (N, min(k, C)) int32.
    """
    return np.argsort(-logits, axis=1, kind="stable")[:, :k].astype(np.int32)


def measure_nll(logits: Floats, labels: Labels) -> float:
    """Return the mean negative log-likelihood of the right labels."""
    return float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())


def measure_brier(logits: Floats, labels: Labels) -> float:
    """Return the Brier score, summed over the classes."""
    distances = np.exp(log_softmax(logits))
    distances[np.arange(len(labels)), labels] -= 1.0
    return float((distances**2).sum(axis=1).mean())


def measure_bins(confidences: Floats, is_right: npt.NDArray[np.bool_]) -> tuple[Bin, ...]:
    """Cut texts, sorted by confidence, into at most `BINS` parts of equal size.

    Args:
        confidences: (N,) float64.
        is_right: (N,) bool.
    """
    order = np.argsort(confidences, kind="stable")
    return tuple(
        Bin(
            rows=len(part),
            confidence=float(confidences[part].mean()),
            accuracy=float(is_right[part].mean()),
        )
        for part in np.array_split(order, min(BINS, len(order)))
    )


def measure_ece(bins: tuple[Bin, ...]) -> float:
    """Return the expected calibration error of bins."""
    rows = sum(one.rows for one in bins)
    return sum(one.rows * abs(one.confidence - one.accuracy) for one in bins) / rows


def measure_calibration(logits: Floats, labels: Labels) -> dict[str, float]:
    """Return `ece` and `nll`."""
    log = log_softmax(logits)
    bins = measure_bins(np.exp(log.max(axis=1)), logits.argmax(axis=1) == labels)
    return {"ece": measure_ece(bins), "nll": measure_nll(logits, labels)}


def measure_split(
    logits: Floats, labels: Labels, *, label_names: tuple[str, ...], k: int
) -> SplitMeasures:
    """Measure the answers for one split.

    Args:
        logits: (N, C) float64, N at least 1.
        labels: (N,) int64.
        label_names: C names.
        k: Of the top-k accuracy.
    """
    num_classes = len(label_names)
    ranked = rank_classes(logits, k)
    answers = ranked[:, 0].astype(np.int64)
    is_right = answers == labels
    bins = measure_bins(np.exp(log_softmax(logits).max(axis=1)), is_right)
    counts = np.bincount(labels * num_classes + answers, minlength=num_classes**2)
    matrix = counts.reshape(num_classes, num_classes)
    return SplitMeasures(
        rows=len(labels),
        k=k,
        top_1=bootstrap_share(is_right),
        top_k=bootstrap_share((ranked == labels[:, None]).any(axis=1)),
        nll=measure_nll(logits, labels),
        brier=measure_brier(logits, labels),
        ece=measure_ece(bins),
        bins=bins,
        classes=tuple(
            ClassMeasures(
                label=name,
                support=int(matrix[index].sum()),
                predicted=int(matrix[:, index].sum()),
                hits=int(matrix[index, index]),
            )
            for index, name in enumerate(label_names)
        ),
        confusion=tuple(
            (int(right), int(answer), int(matrix[right, answer]))
            for right, answer in np.argwhere(matrix)
        ),
    )
