"""Usable rows of a table, and one row of every text.

Reads `pipeline.tables.table`, gives compact arrays, 16 bytes of hash and 4 of label a row, so that
millions of rows fit; the texts wait on disk. What is not usable is counted by reason.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np
import numpy.typing as npt

from pipeline.config import PrepareConfig
from pipeline.normalisation import normalise_all
from pipeline.tables.row_batch import SAMPLE_CHARS, Reject, RowBatch
from pipeline.tables.row_filter import RowFilter
from pipeline.tables.source import Source
from pipeline.tables.source_bytes import SourceLimits
from pipeline.tables.table import read_rows
from pipeline.tables.text_spool import TextSpool

REJECTS_A_REASON = 200
"""So many of each reason are kept as a sample, so that no reason hides another."""
_HASH_BYTES = 16
_CONFLICT_SAMPLE = 50
_LISTED_ROWS = 8192


@dataclass(kw_only=True)
class CleanRows:
    """All usable rows in the order of the file.

    Attributes:
        texts: UTF-8 of every text, as it stood in the source.
        label_ids: Position of each row's label in `label_names`.
        label_names: Labels in the order they were first seen.
        hashes: 16 bytes a row, of the normalised text; `merge_rows` empties it.
        rows_read: Usable and rejected rows.
        rejected: Count by reason.
        rejects: Sample of them, in the order of the file.
        unmet_labels: Labels of the label map that no row had.
    """

    texts: TextSpool
    label_ids: array[int] = field(default_factory=lambda: array("i"))
    label_names: list[str] = field(default_factory=list)
    hashes: bytearray = field(default_factory=bytearray)
    rows_read: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    rejects: list[Reject] = field(default_factory=list)
    unmet_labels: list[str] = field(default_factory=list)


class RowTexts(Sequence[bytes]):
    """The texts of some rows, each read when it is asked for.

    Args:
        texts: Those of all rows.
        picked: `(N,)` int64, which rows, in which order.
    """

    def __init__(self, texts: TextSpool, picked: npt.NDArray[np.int64]) -> None:
        self._texts = texts
        self._picked = picked

    def __len__(self) -> int:
        return len(self._picked)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> RowTexts: ...
    def __getitem__(self, index: int | slice) -> bytes | RowTexts:
        if isinstance(index, slice):
            return RowTexts(self._texts, self._picked[index])
        return self._texts.read(int(self._picked[index]))

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self._picked), _LISTED_ROWS):
            yield from map(self._texts.read, self._picked[start : start + _LISTED_ROWS].tolist())


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """A text with several labels: its first row, (label, rows) pairs, and the label that won."""

    row: int
    votes: Sequence[tuple[int, int]]
    kept: int


@dataclass(frozen=True, kw_only=True)
class MergedRows:
    """One row of every normalised text, ordered by hash.

    Attributes:
        rows: `(N,)` int64, the first row of each text that has the winning label.
        labels: `(N,)` int64, positions in `CleanRows.label_names`.
        hashes: `(N,)` uint64, leading half of the hash.
        duplicates_merged: Further rows of the same text and label.
        conflicting_texts: Texts with more than one label.
        conflicting_rows_dropped: Rows of those texts whose label lost.
        conflicts: Sample of them.
    """

    rows: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    hashes: npt.NDArray[np.uint64]
    duplicates_merged: int
    conflicting_texts: int
    conflicting_rows_dropped: int
    conflicts: Sequence[Conflict]


def _find_fault(text: str, label: str, normal: str) -> str | None:
    if not text.strip():
        return "empty_text"
    if not label:
        return "empty_label"
    if "\n" in label:
        return "line_break_in_label"  # a quote that is never closed, not a class
    # Such a text is legal when the model serves (it becomes one unknown piece), but it teaches
    # nothing.
    return None if normal else "no_word_in_text"


def _add_batch(
    rows: CleanRows, batch: RowBatch, row_filter: RowFilter, label_ids: dict[str, int]
) -> None:
    rejects = list(batch.rejects)
    normals = normalise_all(batch.texts)
    for number, text, raw_label, normal in zip(
        batch.rows, batch.texts, batch.labels, normals, strict=True
    ):
        raw = raw_label.strip()
        label = raw
        reason = _find_fault(text, raw, normal) or row_filter.find_reason(text, raw)
        if reason is None:
            label = row_filter.map_label(raw)
            reason = None if label else "label_dropped"
        if reason is not None:
            sample = f"{text[:SAMPLE_CHARS]} | {raw_label}"[:SAMPLE_CHARS]
            rejects.append(Reject(row=number, reason=reason, sample=sample, file=batch.file))
            continue
        rows.texts.append(text.encode())
        rows.label_ids.append(label_ids.setdefault(label, len(label_ids)))
        rows.hashes += hashlib.blake2b(normal.encode(), digest_size=_HASH_BYTES).digest()
    for reject in sorted(rejects, key=lambda reject: reject.row):
        rows.rejected[reject.reason] += 1
        if rows.rejected[reject.reason] <= REJECTS_A_REASON:
            rows.rejects.append(reject)
    rows.rows_read += len(batch.rows) + len(batch.rejects)


def clean_rows(
    source: Source,
    config: PrepareConfig,
    texts: TextSpool,
    limits: SourceLimits | None = None,
    report: Callable[[int], None] = lambda _: None,
) -> CleanRows:
    """Read every usable row of a table.

    Labels lose surrounding blanks; texts stay as they are.

    Args:
        source: The table.
        config: Columns, format, filters, label map.
        texts: Empty; takes the texts, and is finished.
        limits: Bounds on reading.
        report: Takes the number of rows read so far, now and then.

    Raises:
        DataError: The source cannot be read; see `pipeline.tables.table.read_rows`.
    """
    rows = CleanRows(texts=texts)
    label_ids: dict[str, int] = {}
    row_filter = RowFilter(config)
    for batch in read_rows(
        source,
        text_column=config.text_column,
        label_column=config.label_column,
        format=config.format,
        delimiter=config.delimiter,
        label_prefix=config.label_prefix,
        limits=limits,
    ):
        _add_batch(rows, batch, row_filter, label_ids)
        report(rows.rows_read)
    texts.finish()
    rows.label_names = list(label_ids)
    rows.unmet_labels = sorted(row_filter.unmet_labels)
    return rows


def merge_rows(rows: CleanRows) -> MergedRows:
    """Keep one row of every normalised text.

    Where its rows disagree on the label, the most frequent one wins, and the first seen of equally
    frequent ones.
    """
    halves = np.frombuffer(rows.hashes, dtype=">u8")
    high, low = (halves[half::2].astype(np.uint64) for half in (0, 1))  # (N,) each
    del halves
    rows.hashes = bytearray()  # 16 bytes a row that nobody needs behind this
    labels = np.frombuffer(rows.label_ids, dtype=np.int32)
    # The sort is stable: rows of one text and label stay in the order of the file.
    order = np.lexsort((labels, low, high))
    high, low, labels = high[order], low[order], labels[order]
    new_text = np.ones(len(order), dtype=bool)
    new_text[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    del low
    new_vote = new_text.copy()
    new_vote[1:] |= labels[1:] != labels[:-1]
    # A vote is a run of rows with one text and one label; its first row came first in the file.
    starts = np.flatnonzero(new_vote)
    votes = np.diff(np.append(starts, len(order)))
    text_of_vote = np.cumsum(new_text)[starts] - 1
    ranked = np.lexsort((order[starts], -votes, text_of_vote))
    wins = np.ones(len(ranked), dtype=bool)
    wins[1:] = text_of_vote[ranked][1:] != text_of_vote[ranked][:-1]
    winners = ranked[wins]
    kept = starts[winners]
    votes_of_text = np.bincount(text_of_vote, minlength=len(winners))
    disputed = np.flatnonzero(votes_of_text > 1)
    conflicts = []
    for text in disputed[:_CONFLICT_SAMPLE]:
        mine = ranked[text_of_vote[ranked] == text]
        conflicts.append(
            Conflict(
                row=int(order[starts[mine[0]]]),
                votes=[(int(labels[starts[vote]]), int(votes[vote])) for vote in mine],
                kept=int(labels[starts[mine[0]]]),
            )
        )
    return MergedRows(
        rows=order[kept],
        labels=labels[kept].astype(np.int64),
        hashes=high[kept],
        duplicates_merged=int(votes[winners].sum()) - len(winners),
        conflicting_texts=len(disputed),
        conflicting_rows_dropped=int(votes.sum() - votes[winners].sum()),
        conflicts=conflicts,
    )
