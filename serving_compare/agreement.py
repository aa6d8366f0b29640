"""Agreement before timing: a backend that answers something else is not a rival but a bug.

Probes are compared with the Keras model's probabilities that travel in the artifact; workload
answers have no such reference and are compared with those of the first backend.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOLERANCE = 1e-5
"""Largest accepted difference of a probability from Keras: the bound the export itself keeps. A
compressed lookup folder states a wider one of its own."""
BETWEEN_BACKENDS = 2 * TOLERANCE
"""Two backends may each be one tolerance away from Keras, on different sides."""


class AgreementError(Exception):
    """Backends that do not give the same answers. Nothing was timed."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far two sets of answers lie apart.

    Attributes:
        rows: Number of answers compared.
        max_abs_probability_diff: Largest difference of any probability.
        top_k_disagreements: Rows with another class among the first k, ties closer than the
            tolerance aside.
    """

    rows: int
    max_abs_probability_diff: float
    top_k_disagreements: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def compare_probabilities(
    expected: NDArray[Any], found: NDArray[Any], *, k: int, tolerance: float
) -> Agreement:
    """Compare two sets of answers to the same questions.

    At each of the first k ranks both name a class. They disagree where these differ and the
    expected probabilities of the two classes lie further apart than the tolerance can explain.

    Args:
        expected: (N, C) probabilities.
        found: (N, C) probabilities.
        k: Ranks to compare.
        tolerance: Largest difference that rounding explains.

    Raises:
        AgreementError: The shapes differ or a found value is not finite.
    """
    if expected.shape != found.shape:
        raise AgreementError(
            f"expected probabilities of shape {expected.shape}, found {found.shape}."
        )
    if not np.isfinite(found).all():
        raise AgreementError("expected finite probabilities, found NaN or an infinity.")
    expected = expected.astype(np.float64)
    found = found.astype(np.float64)
    theirs = np.argsort(-expected, axis=1, kind="stable")[:, :k]
    ours = np.argsort(-found, axis=1, kind="stable")[:, :k]
    gaps = np.abs(
        np.take_along_axis(expected, theirs, axis=1) - np.take_along_axis(expected, ours, axis=1)
    )
    # Two probabilities move by at most one tolerance each before their order can turn.
    return Agreement(
        rows=len(expected),
        max_abs_probability_diff=float(np.abs(expected - found).max(initial=0.0)),
        top_k_disagreements=int((gaps > 2 * tolerance).any(axis=1).sum()),
    )


def check_agreement(
    answers: Mapping[str, Mapping[str, NDArray[Any]]],
    golden: NDArray[Any],
    cells: tuple[str, ...],
    *,
    k: int,
    tolerances: Mapping[str, float] | None = None,
) -> dict[str, dict[str, Agreement]]:
    """Compare every backend's answers with the probes, and with the first backend's workload.

    Args:
        answers: Backend to its arrays: `golden_ids` and `golden_texts` (N, C), and one a cell.
        golden: (N, C) Keras probabilities of the probes.
        cells: The workload's cells.
        k: Ranks that must agree.
        tolerances: Backend to its largest difference from Keras, where it is not `TOLERANCE`.

    Returns:
        Backend to `golden_ids`, `golden_texts` and `workload`.

    Raises:
        AgreementError: Names every backend and set that is out of bounds, or not finite.
    """
    found: dict[str, dict[str, Agreement]] = {}
    problems: list[str] = []
    reference = next(iter(answers), "")
    tolerances = tolerances or {}
    reference_tolerance = tolerances.get(reference, TOLERANCE)
    for backend, arrays in answers.items():
        found[backend] = {}
        own_tolerance = tolerances.get(backend, TOLERANCE)
        comparisons = {
            "golden_ids": (golden, arrays["golden_ids"], own_tolerance),
            "golden_texts": (golden, arrays["golden_texts"], own_tolerance),
            "workload": (
                np.concatenate([answers[reference][cell] for cell in cells]),
                np.concatenate([arrays[cell] for cell in cells]),
                # Each may be one tolerance away from Keras, on different sides.
                reference_tolerance + own_tolerance,
            ),
        }
        for name, (expected, got, tolerance) in comparisons.items():
            other = f"{reference}'s" if name == "workload" else "Keras's"
            try:
                agreement = compare_probabilities(expected, got, k=k, tolerance=tolerance)
            except AgreementError as err:
                problems.append(f"{backend}, {name}: {err}")
                continue
            found[backend][name] = agreement
            if agreement.max_abs_probability_diff > tolerance or agreement.top_k_disagreements:
                problems.append(
                    f"{backend}, {name}: expected {other} probabilities within {tolerance:g} and "
                    f"the same top {k}, found a difference of "
                    f"{agreement.max_abs_probability_diff:.2g} and "
                    f"{agreement.top_k_disagreements} of {agreement.rows} rows with another "
                    f"top {k}."
                )
    if problems:
        raise AgreementError(
            "The backends do not agree, so nothing was timed. "
            + " ".join(problems)
            + " Export the run again with `make export` and look at its parity result."
        )
    return found
