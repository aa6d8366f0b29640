"""Held-out texts that equal a training text but for word order, numbers, or one word.

Such a text is answered from memory, so its accuracy says nothing about new texts. Exact up to
chance collisions of 64-bit signatures, in bounded memory: the signatures of the held-out rows are
kept and sorted, those of the training rows only pass by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.data_card.word_hashes import WordHashes, leave_one_out, sum_words

KINDS = ("word_order", "numbers", "one_word")
"""How little two texts differ; a row counts for the first kind that applies to it."""
MIN_WORDS = 6
"""One word of fewer than six is no small difference: "genus of herbs", "genus of ferns"."""
MAX_WORDS = 64
"""Longer texts are compared whole only: leaving out each word in turn takes a signature a word."""
MAX_SIGNATURES = 6_000_000
"""Of one split, about 150 MB while they are sorted. Rows beyond are not compared for one word."""
_KEPT_ROWS = 200
"""Training rows kept of a kind until it is known which held-out rows count for it."""

TextLabel = tuple[str, int]
"""A row: its raw text and label id."""


@dataclass(frozen=True, kw_only=True)
class Signatures:
    """What N texts are compared by.

    Attributes:
        word_order: `(N,)` uint64, the words without their order.
        numbers: `(N,)` uint64, the same with all numbers made equal.
        one_word: `(L,)` uint64, `numbers` whole and without each word in turn, of texts of
            `MIN_WORDS` to `MAX_WORDS` words.
        texts: `(L,)` int64, the text each of `one_word` belongs to.
    """

    word_order: npt.NDArray[np.uint64]
    numbers: npt.NDArray[np.uint64]
    one_word: npt.NDArray[np.uint64]
    texts: npt.NDArray[np.int64]


def make_signatures(words: WordHashes) -> Signatures:
    """Return the signatures of texts."""
    numbers = sum_words(words.without_digits, words.starts)
    chosen = (words.lengths >= MIN_WORDS) & (words.lengths <= MAX_WORDS)
    parts, texts = leave_one_out(words.without_digits, words.starts, chosen)
    return Signatures(
        word_order=sum_words(words.exact, words.starts),
        numbers=numbers,
        one_word=np.concatenate([numbers[chosen], parts]),
        texts=np.concatenate([np.flatnonzero(chosen), texts]),
    )


class _Table:
    """Sorted signatures of held-out rows, and whether a training text has had the same."""

    def __init__(self, signatures: npt.NDArray[np.uint64], rows: npt.NDArray[np.int32]) -> None:
        order = np.argsort(signatures, kind="stable")
        self._keys = signatures[order]
        self._rows = rows[order]
        self._met = np.zeros(len(order), dtype=bool)
        self._kept: dict[int, TextLabel] = {}

    def meet(
        self,
        signatures: npt.NDArray[np.uint64],
        texts: npt.NDArray[np.int64],
        training_rows: Sequence[TextLabel],
    ) -> None:
        """Mark the rows whose signature is among those of training texts."""
        if not len(self._keys):
            return
        # Looked up in their order, neighbours are found in the cache.
        order = np.argsort(signatures, kind="stable")
        sought, texts = signatures[order], texts[order]
        places = np.searchsorted(self._keys, sought)
        places[places == len(self._keys)] = 0
        new = (self._keys[places] == sought) & ~self._met[places]
        keys, firsts = np.unique(places[new], return_index=True)
        self._met[keys] = True  # the first of equal signatures stands for all
        for key, text in zip(keys, texts[new][firsts], strict=True):
            if len(self._kept) >= _KEPT_ROWS:
                break
            self._kept[int(key)] = training_rows[text]

    def rows_met(self) -> npt.NDArray[np.int32]:
        """Return the rows that a training text has met."""
        met = self._keys[self._met]
        return np.unique(self._rows[np.isin(self._keys, met)])

    def kept_pairs(self) -> list[tuple[int, TextLabel]]:
        """Return (row, training row) pairs, by row."""
        return sorted(
            (int(self._rows[row]), kept)
            for key, kept in self._kept.items()
            for row in range(key, int(np.searchsorted(self._keys, self._keys[key], side="right")))
        )


@dataclass(frozen=True, kw_only=True)
class Leak:
    """What was found for one held-out split of N rows.

    Attributes:
        rows: Row numbers by kind; a row is in one of them at most.
        pairs: (row, training row) by kind, of some of these rows.
        rows_compared_for_one_word: The others have too few or too many words, or came too late.
    """

    rows: dict[str, npt.NDArray[np.int32]]
    pairs: dict[str, list[tuple[int, TextLabel]]]
    rows_compared_for_one_word: int


class HeldOutSplit:
    """The signatures of one held-out split: `add` all its rows, then `meet` all training rows."""

    def __init__(self) -> None:
        self._signatures: dict[str, list[npt.NDArray[np.uint64]]] = {kind: [] for kind in KINDS}
        self._rows: dict[str, list[npt.NDArray[np.int32]]] = {kind: [] for kind in KINDS}
        self._count = 0
        self._one_word_rows = 0
        self._one_word_signatures = 0
        self._tables: dict[str, _Table] = {}

    def add(self, signatures: Signatures) -> None:
        """Add the next rows."""
        count = len(signatures.word_order)
        rows = np.arange(self._count, self._count + count, dtype=np.int32)
        self._count += count
        for kind in ("word_order", "numbers"):
            self._signatures[kind].append(getattr(signatures, kind))
            self._rows[kind].append(rows)
        if self._one_word_signatures + len(signatures.one_word) > MAX_SIGNATURES:
            return
        self._one_word_signatures += len(signatures.one_word)
        self._one_word_rows += len(np.unique(signatures.texts))
        self._signatures["one_word"].append(signatures.one_word)
        self._rows["one_word"].append(rows[signatures.texts])

    def meet(self, signatures: Signatures, training_rows: Sequence[TextLabel]) -> None:
        """Compare all rows with the next training rows."""
        if not self._tables:
            for kind in KINDS:
                parts, rows = self._signatures.pop(kind), self._rows.pop(kind)
                self._tables[kind] = _Table(
                    np.concatenate([np.empty(0, np.uint64), *parts]),
                    np.concatenate([np.empty(0, np.int32), *rows]),
                )
        whole = np.arange(len(training_rows))
        self._tables["word_order"].meet(signatures.word_order, whole, training_rows)
        self._tables["numbers"].meet(signatures.numbers, whole, training_rows)
        # A training text may have one word less than a held-out one, however short it is.
        self._tables["one_word"].meet(
            np.concatenate([signatures.numbers, signatures.one_word]),
            np.concatenate([whole, signatures.texts]),
            training_rows,
        )

    def find_leak(self) -> Leak:
        """Return what the training texts have met so far."""
        free = np.ones(self._count, dtype=bool)
        rows: dict[str, npt.NDArray[np.int32]] = {}
        pairs: dict[str, list[tuple[int, TextLabel]]] = {}
        for kind in KINDS:
            met = self._tables[kind].rows_met() if self._tables else np.empty(0, np.int32)
            rows[kind] = met[free[met]]
            free[rows[kind]] = False
            of_kind = set(rows[kind].tolist())
            found = self._tables[kind].kept_pairs() if self._tables else []
            pairs[kind] = [pair for pair in dict(found[::-1]).items() if pair[0] in of_kind]
        return Leak(
            rows=rows,
            pairs={kind: sorted(found) for kind, found in pairs.items()},
            rows_compared_for_one_word=self._one_word_rows,
        )
