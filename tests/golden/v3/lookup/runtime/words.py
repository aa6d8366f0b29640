"""Raw words to token ids, straight from the arrays of a word table.

A text is cut at the ASCII space 0x20 and nowhere else; its ids are those of its words one after
another. That this equals what the tokenizer gives for the whole text is proven at export, see
`docs/artifact_format.md`. This is the reference implementation, in NumPy and Python; the arrays
and their checks are in `word_arrays.py`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .word_arrays import WordArrays

EncodeUnseen = Callable[[str], list[int]]
"""Ids of one word that is not in the word table."""

_BLOCK = 16
"""Words a block. Python objects are made for the first word of each alone, 0.5 ms for 50,000
words; a search then takes 2 us. A dictionary of all of them takes 47 ms and 7 MB at every start,
and a plain binary search over the bytes 12 us a word."""


class WordTable:
    """A word table that can be asked. Safe to share between threads.

    It remembers the ids of words it was asked for, of the table's own words only: at most as many
    entries as it has words, some 150 bytes each.

    Args:
        words: Its arrays, checked.
    """

    def __init__(self, words: WordArrays) -> None:
        self._bytes = words.word_bytes.tobytes()
        self._ends = _with_start(words.word_ends)
        self._ids = words.word_ids
        self._id_ends = _with_start(words.word_id_ends)
        self._numbers = range(len(words.word_ends))
        self._firsts = [self._word(number) for number in self._numbers[::_BLOCK]]
        # Two spaces in a row have the empty word between them, which has no ids.
        self._known: dict[str, tuple[int, ...]] = {"": ()}

    def __len__(self) -> int:
        return len(self._numbers)

    def find(self, word: str) -> tuple[int, ...] | None:
        """Return the ids of a word, None if the table does not hold it.

        Args:
            word: Text that UTF-8 can hold. The empty word is in every table and has no ids.
        """
        ids = self._known.get(word)
        return self._search(word) if ids is None else ids

    def encode(self, text: str, max_tokens: int, encode_unseen: EncodeUnseen) -> list[int]:
        """Return the ids of a text.

        Args:
            text: Text that UTF-8 can hold.
            max_tokens: The first so many ids are returned, and words behind them not looked at.
            encode_unseen: Gives the ids of a word that the table does not hold, alone.

        Returns:
            0 to `max_tokens` ids.
        """
        known = self._known
        ids: list[int] = []
        for word in text.split(" "):
            found = known.get(word)
            if found is None:
                # Here and not at every word: only what is not known yet costs something.
                if len(ids) >= max_tokens:
                    break
                found = self._search(word)
                if found is None:
                    ids += encode_unseen(word)
                    continue
            ids += found
        return ids[:max_tokens]

    def _word(self, number: int) -> bytes:
        return self._bytes[self._ends[number] : self._ends[number + 1]]

    def _search(self, word: str) -> tuple[int, ...] | None:
        key = word.encode()
        first = (bisect_right(self._firsts, key) - 1) * _BLOCK
        if first < 0:
            return None
        end = min(first + _BLOCK, len(self._numbers))
        number = bisect_left(self._numbers, key, first, end, key=self._word)
        if number == end or self._word(number) != key:
            return None
        ids = tuple(self._ids[self._id_ends[number] : self._id_ends[number + 1]].tolist())
        self._known[word] = ids
        return ids


def _with_start(ends: NDArray[np.uint32]) -> memoryview:
    """Return zero and the ends: word n lies between entries n and n + 1.

    A memoryview gives Python's own integers, at a third of what an array's entries cost.
    """
    return np.concatenate((np.zeros(1, np.uint32), ends), dtype=np.uint32).data
