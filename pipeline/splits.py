"""The 8:1:1 split: which rows go where, and whether what comes out can be trained on.

A row's side is a hash of its normalised text: equal texts never lie on two sides, and adding rows
moves none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.data_folder import SPLIT_NAMES
from pipeline.tables.clean_rows import CleanRows, MergedRows
from pipeline.tables.source import DataError, Source

MIN_ROWS = 50
"""Fewer usable rows leave a tenth with so few that its accuracy says nothing."""
MAX_CLASSES = 100_000
_LISTED_CLASSES = 20


@dataclass(frozen=True, kw_only=True)
class SplitRows:
    """One split in its final order: `rows` index into `CleanRows`, `labels` are final ids."""

    rows: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]


def split_rows(rows: CleanRows, merged: MergedRows) -> tuple[dict[str, SplitRows], list[str]]:
    """Deal the kept rows into splits; return them with the label names in id order."""
    used = np.unique(merged.labels)
    names = sorted(rows.label_names[index] for index in used)
    final = {name: index for index, name in enumerate(names)}
    to_final = np.full(len(rows.label_names), -1, dtype=np.int64)
    for index in used:
        to_final[index] = final[rows.label_names[index]]
    tenth = merged.hashes % np.uint64(10)
    masks = {"train": tenth < 8, "validation": tenth == 8, "test": tenth == 9}
    splits = {
        split: SplitRows(rows=merged.rows[mask], labels=to_final[merged.labels[mask]])
        for split, mask in masks.items()
    }
    return splits, names


def format_rejects(counts: Mapping[str, int]) -> str:
    """Return the counts of rejected rows by reason, as text for a message."""
    return ", ".join(
        f"{name.removeprefix('rejected_')} {count}"
        for name, count in counts.items()
        if name.startswith("rejected_")
    )


def check_splits(
    source: Source,
    splits: Mapping[str, SplitRows],
    labels: Sequence[str],
    counts: Mapping[str, int],
) -> None:
    """Check that there is enough to train, to validate and to test on.

    Args:
        source: For the message.
        splits: By name.
        labels: Names in id order.
        counts: As in `PreparedData`.

    Raises:
        DataError: There are too few rows or classes, or too many classes.
    """
    if not counts["rows_read"]:
        raise DataError(f"{source}: expected rows below the header, found none.")
    rejects = format_rejects(counts) or "none"
    place = f"{source} ({counts['rows_read']} rows read; rejected: {rejects})"
    if counts["rows_kept"] < MIN_ROWS:
        raise DataError(
            f"{place}: expected at least {MIN_ROWS} different usable texts, found "
            f"{counts['rows_kept']}. Bring more rows."
        )
    if len(labels) < 2:
        raise DataError(
            f"{place}: expected at least 2 labels, found only {labels[0]!r}. Check "
            "--label-column, or bring rows of another class."
        )
    if len(labels) > MAX_CLASSES:
        raise DataError(
            f"{place}: expected at most {MAX_CLASSES} labels, found {len(labels)}. Check that "
            "--label-column names the classes."
        )
    learnable = len(np.unique(splits["train"].labels))
    if learnable < 2:
        raise DataError(
            f"{place}: expected at least 2 labels in the training split, found {learnable}. Bring "
            "more rows of the smaller classes."
        )
    empty = [split for split in SPLIT_NAMES if not len(splits[split].rows)]
    if empty:
        raise DataError(
            f"{place}: expected rows in every split, found none in {', '.join(empty)}. Bring more "
            "rows."
        )


def notify_absent(
    splits: Mapping[str, SplitRows], labels: Sequence[str], notify: Callable[[str], None]
) -> list[str]:
    """Return the labels that no training row has, and tell of them."""
    present = set(np.unique(splits["train"].labels).tolist())
    absent = [label for index, label in enumerate(labels) if index not in present]
    if absent:
        shown = ", ".join(map(repr, absent[:_LISTED_CLASSES]))
        more = f" and {len(absent) - _LISTED_CLASSES} more" if len(absent) > _LISTED_CLASSES else ""
        notify(f"No training row has the label {shown}{more}: it cannot be learned.")
    return absent
