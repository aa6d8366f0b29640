"""Training rows whose label a linear model confidently disputes, and the classes it mixes up.

Confident learning after Northcutt, Jiang, Chuang, "Confident Learning: Estimating Uncertainty in
Dataset Labels" (JAIR 70, 2021): a row is suspect if, in the eyes of a model that was not trained on
it, another class reaches the confidence which that class's own rows have on average. The model is a
logistic regression over the pieces of a text, trained by stochastic gradients in two folds. It is
weaker than what will be trained, so suspects are for reading, never for deleting unseen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FOLDS = 2
"""Each further fold costs as much again; 5 instead of 2 gave 2.5 points of accuracy."""
MIN_ROWS_A_CLASS = 5
"""Below so many sampled rows a class on average, out-of-fold predictions are guesses."""
MAX_ROW_CLASSES = 10_000_000
"""Rows times classes that are sampled at most: 15 seconds, and 40 MB of probabilities."""
_MAX_WEIGHTS = 2**23
"""Pieces times classes; beyond, several pieces share a weight. 64 MB, several times over."""
_ROW_VISITS = 100_000
"""Few rows are seen in several epochs until there were so many visits, as in a larger table."""


@dataclass(frozen=True, kw_only=True)
class NoiseResult:
    """What the out-of-fold predictions say about N sampled rows of C classes.

    Attributes:
        accuracy: Share of rows whose given label the model predicts.
        predicted: `(N,)` int64, likeliest class.
        suspects: `(S,)` int64, rows from the clearest to the least clear.
        suspected: `(S,)` int64, the class each suspect seems to belong to.
        given_probability: `(S,)` float32, of the given class.
        suspected_probability: `(S,)` float32.
    """

    accuracy: float
    predicted: npt.NDArray[np.int64]
    suspects: npt.NDArray[np.int64]
    suspected: npt.NDArray[np.int64]
    given_probability: npt.NDArray[np.float32]
    suspected_probability: npt.NDArray[np.float32]


def _predict_out_of_fold(
    ids: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
    *,
    vocab_size: int,
    num_classes: int,
) -> npt.NDArray[np.float32]:
    """Return `(N, C)` probabilities, each row by a model that has not seen it."""
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.linear_model import SGDClassifier

    width = min(vocab_size, max(1, _MAX_WEIGHTS // num_classes))
    counts = csr_matrix(
        (np.ones(len(ids), dtype=np.float32), ids % width, starts), shape=(len(labels), width)
    )
    counts.sum_duplicates()
    counts.data[:] = 1.0  # whether a piece is there says more than how often
    features = TfidfTransformer().fit_transform(counts)
    fold = np.arange(len(labels)) % FOLDS  # rows lie in the order of their hash: a random deal
    probabilities = np.zeros((len(labels), num_classes), dtype=np.float32)
    for index in range(FOLDS):
        mine = fold == index
        known = np.unique(labels[~mine])
        if len(known) == 1:
            probabilities[np.ix_(mine, known)] = 1.0
            continue
        model = SGDClassifier(
            loss="log_loss",
            # On the embedded dataset 1e-5 left probabilities too low, 1e-6 too high.
            alpha=3e-6 if len(labels) > 20_000 else 1e-4,
            max_iter=int(np.clip(_ROW_VISITS * FOLDS // len(labels), 2, 20)),
            tol=None,
            random_state=0,
            n_jobs=-1,  # one class a thread; the result does not depend on how many there are
        ).fit(features[~mine], labels[~mine])
        probabilities[np.ix_(mine, model.classes_)] = model.predict_proba(features[mine])
    return probabilities


def find_label_noise(
    ids: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
    *,
    vocab_size: int,
    num_classes: int,
) -> NoiseResult:
    """Find suspect labels.

    Args:
        ids: `(W,)` piece ids of all texts, one text after another.
        starts: `(N + 1,)` int64, where each text begins in `ids`.
        labels: `(N,)` int64 given labels, 0 to C - 1.
        vocab_size: V.
        num_classes: C.

    Returns:
        The same for the same arguments.
    """
    probabilities = _predict_out_of_fold(
        ids, starts, labels, vocab_size=vocab_size, num_classes=num_classes
    )
    rows = np.arange(len(labels))
    given = probabilities[rows, labels]  # (N,)
    predicted = probabilities.argmax(axis=1)
    sizes = np.bincount(labels, minlength=num_classes)
    # t_j: mean confidence in class j of the rows that are labelled j.
    thresholds = np.bincount(labels, weights=given, minlength=num_classes) / np.maximum(sizes, 1)
    thresholds[sizes == 0] = np.inf
    probabilities[probabilities < thresholds.astype(np.float32)] = 0.0
    suspected = probabilities.argmax(axis=1)
    confidence = probabilities[rows, suspected]
    is_suspect = (suspected != labels) & (confidence > given)
    suspects = np.flatnonzero(is_suspect)
    margin = confidence[suspects] - given[suspects]
    suspects = suspects[np.lexsort((suspects, -margin))]
    return NoiseResult(
        accuracy=float((predicted == labels).mean()),
        predicted=predicted,
        suspects=suspects,
        suspected=suspected[suspects],
        given_probability=given[suspects],
        suspected_probability=confidence[suspects],
    )


def list_confusions(
    labels: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], *, limit: int
) -> Sequence[tuple[int, int, int]]:
    """Return (given class, predicted class, rows) of the most frequent confusions.

    Args:
        labels: `(N,)` given labels.
        predicted: `(N,)` what the model said.
        limit: So many at most, most rows first.
    """
    wrong = labels != predicted
    pairs, rows = np.unique(
        np.stack([labels[wrong], predicted[wrong]], axis=1), axis=0, return_counts=True
    )
    order = np.lexsort((pairs[:, 1], pairs[:, 0], -rows))[:limit]
    return [(int(pairs[row, 0]), int(pairs[row, 1]), int(rows[row])) for row in order]
