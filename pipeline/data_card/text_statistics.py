"""Lengths, words and pieces of the texts of one split, counted chunk by chunk."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.config import UNK_ID
from pipeline.data_card.word_hashes import WordHashes

_PENDING_WORDS = 4_000_000
"""32 MB of hashes wait before they are merged into the distinct ones."""
_QUANTILES = (1, 25, 50, 75, 90, 99)
_BINS = 30


@dataclass(frozen=True, kw_only=True)
class LengthSummary:
    """Lengths of N texts: nearest-rank quantiles, so each is the length of some text.

    Attributes:
        min: The shortest.
        mean: Rounded to two places.
        quantiles: `"p50"` and others.
        max: The longest.
    """

    min: int
    mean: float
    quantiles: dict[str, int]
    max: int


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Rows by length, for each split: `counts[i]` from `edges[i]` up to `edges[i + 1]` excluded.

    The last bin takes all longer rows too.
    """

    edges: list[int]
    counts: dict[str, list[int]]


@dataclass(frozen=True, kw_only=True)
class MissingCharacter:
    """A character that no piece of the vocabulary holds: itself, its code point and name, uses."""

    character: str
    code_point: str
    name: str
    count: int


class WordCounts:
    """How often each distinct word was seen, by its hash; 16 bytes a distinct word."""

    def __init__(self) -> None:
        self.hashes = np.empty(0, dtype=np.uint64)
        self.counts = np.empty(0, dtype=np.int64)
        self._pending: list[npt.NDArray[np.uint64]] = []
        self._pending_words = 0

    def add(self, hashes: npt.NDArray[np.uint64]) -> None:
        """Count words, `(W,)`."""
        self._pending.append(hashes)
        self._pending_words += len(hashes)
        if self._pending_words > _PENDING_WORDS:
            self.merge()

    def merge(self) -> None:
        """Bring `hashes` and `counts` up to date; hashes are sorted."""
        hashes, counts = np.unique(
            np.concatenate([np.empty(0, np.uint64), *self._pending]), return_counts=True
        )
        self._pending, self._pending_words = [], 0
        merged, places = np.unique(np.concatenate([self.hashes, hashes]), return_inverse=True)
        total = np.zeros(len(merged), dtype=np.int64)
        np.add.at(total, places, np.concatenate([self.counts, counts]))
        self.hashes, self.counts = merged, total

    def share_seen_in(self, other: WordCounts) -> tuple[float, float]:
        """Return the shares of all words, and of the distinct ones, that `other` has seen."""
        seen = np.isin(self.hashes, other.hashes)
        return (
            float(self.counts[seen].sum() / max(1, self.counts.sum())),
            float(seen.sum() / max(1, len(seen))),
        )


class SplitStatistics:
    """What is counted of one split; `add` all of its rows.

    Attributes:
        words: Distinct words.
        piece_counts: `(V,)` int64, uses of each piece.
        missing: Characters that the vocabulary lacks.
        rows_with_unknown: Rows with at least one unknown piece.
    """

    def __init__(self, vocab_size: int, known_characters: frozenset[str]) -> None:
        self.words = WordCounts()
        self.piece_counts = np.zeros(vocab_size, dtype=np.int64)
        self.missing: Counter[str] = Counter()
        self.rows_with_unknown = 0
        self._known = known_characters
        self._lengths: dict[str, list[npt.NDArray[np.int32]]] = {"words": [], "tokens": []}

    def add(
        self,
        normal_texts: Sequence[str],
        words: WordHashes,
        ids: npt.NDArray[np.int32],
        starts: npt.NDArray[np.int64],
    ) -> None:
        """Count the next rows.

        Args:
            normal_texts: N normalised texts.
            words: Their words.
            ids: `(T,)` piece ids of all of them, uncut.
            starts: `(N + 1,)`, where each text begins in `ids`.
        """
        self.words.add(words.exact)
        self.piece_counts += np.bincount(ids, minlength=len(self.piece_counts))
        unknown = np.zeros(len(ids) + 1, dtype=np.int64)
        np.cumsum(ids == UNK_ID, out=unknown[1:])
        rows = np.flatnonzero(unknown[starts[1:]] > unknown[starts[:-1]])
        self.rows_with_unknown += len(rows)
        for row in rows.tolist():
            self.missing.update(
                char for char in normal_texts[row] if char not in self._known and char != " "
            )
        self._lengths["words"].append(words.lengths.astype(np.int32))
        self._lengths["tokens"].append(np.diff(starts).astype(np.int32))

    def lengths(self, unit: str) -> npt.NDArray[np.int32]:
        """Return the lengths of all rows, `(N,)`.

        Args:
            unit: "words" or "tokens"; tokens are those of the uncut text.
        """
        return np.concatenate([np.empty(0, np.int32), *self._lengths[unit]])


def summarise_lengths(lengths: npt.NDArray[np.int32]) -> LengthSummary:
    """Summarise the lengths of at least one text, `(N,)`."""
    found = np.percentile(lengths, _QUANTILES, method="inverted_cdf")
    return LengthSummary(
        min=int(lengths.min()),
        mean=round(float(lengths.mean()), 2),
        quantiles={f"p{q}": int(value) for q, value in zip(_QUANTILES, found, strict=True)},
        max=int(lengths.max()),
    )


def make_histogram(lengths: dict[str, npt.NDArray[np.int32]]) -> Histogram:
    """Count the rows of each split by length, in equal bins that hold 99.5 % of them and more.

    Args:
        lengths: `(N,)` by split.
    """
    together = np.concatenate(list(lengths.values()))
    low = int(together.min())
    high = int(np.percentile(together, 99.5, method="inverted_cdf"))
    width = max(1, -(-(high + 1 - low) // _BINS))
    bins = max(1, -(-(high + 1 - low) // width))
    counts = {
        split: np.bincount(
            np.minimum((values.astype(np.int64) - low) // width, bins - 1), minlength=bins
        ).tolist()
        for split, values in lengths.items()
    }
    return Histogram(edges=[low + width * index for index in range(bins + 1)], counts=counts)


def list_missing(missing: Counter[str], *, limit: int) -> list[MissingCharacter]:
    """Return the most frequent of the characters that the vocabulary lacks."""
    ranked = sorted(missing.items(), key=lambda item: (-item[1], item[0]))[:limit]
    return [
        MissingCharacter(
            character=character,
            code_point=f"U+{ord(character):04X}",
            name=unicodedata.name(character, "unnamed"),
            count=count,
        )
        for character, count in ranked
    ]
