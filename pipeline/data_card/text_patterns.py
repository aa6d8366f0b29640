"""Texts that are equal but for numbers and word order: templates, logs, near-constants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class LargePattern:
    """One of the patterns that most rows share: signature, rows, and how many labels they have."""

    signature: int
    rows: int
    classes: int


@dataclass(frozen=True, kw_only=True)
class PatternResult:
    """How far N rows repeat one another.

    Attributes:
        shared: Patterns of more than one row.
        rows: Rows of these patterns.
        disputed_rows: Those of them whose pattern has more than one label.
        largest: Most rows first.
    """

    shared: int
    rows: int
    disputed_rows: int
    largest: list[LargePattern]


def find_patterns(
    signatures: npt.NDArray[np.uint64], labels: npt.NDArray[np.int32], *, limit: int
) -> PatternResult:
    """Group rows by the signature of their words without order and numbers.

    Args:
        signatures: `(N,)`, the field `numbers` of what `make_signatures` gives.
        labels: `(N,)` label ids.
        limit: So many of the largest patterns are named.
    """
    order = np.lexsort((labels, signatures))
    signatures, labels = signatures[order], labels[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = signatures[1:] != signatures[:-1]
    new_label = new.copy()
    new_label[1:] |= labels[1:] != labels[:-1]
    starts = np.flatnonzero(new)
    rows = np.diff(np.append(starts, len(order)))
    # Each label of a pattern begins once in it.
    classes = np.add.reduceat(new_label, starts, dtype=np.int64) if len(starts) else rows
    shared = rows > 1
    ranked = np.lexsort((signatures[starts], -rows))[:limit]
    return PatternResult(
        shared=int(shared.sum()),
        rows=int(rows[shared].sum()),
        disputed_rows=int(rows[shared & (classes > 1)].sum()),
        largest=[
            LargePattern(
                signature=int(signatures[starts[index]]),
                rows=int(rows[index]),
                classes=int(classes[index]),
            )
            for index in ranked
            if rows[index] > 1
        ],
    )
