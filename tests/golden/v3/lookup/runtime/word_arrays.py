"""The arrays of a word table, and the checks that make them safe to search.

A word table maps the raw UTF-8 bytes of a word to its token ids: words lie one after another,
sorted, so that a search needs no index, and ids likewise. Its meaning is in
`docs/artifact_format.md`; how it is used, in the modules that encode text.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .config import WordTableSizes

_BLOCK = 2**20
"""Bytes decoded together: a string of them may take four times as much memory."""
_BLOCK_WORDS = 2**16
"""Words compared together: their ends become Python integers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class WordArrays:
    """Words and their ids. Never changed once made, so safe to share between threads.

    Attributes:
        word_bytes: (N,) uint8, the words' UTF-8 bytes one after another.
        word_ends: (W,) uint32, where each word ends in `word_bytes`; rising.
        word_ids: (M,) int32, the words' ids one after another.
        word_id_ends: (W,) uint32, where each word's ids end in `word_ids`; never falling.
    """

    word_bytes: NDArray[np.uint8]
    word_ends: NDArray[np.uint32]
    word_ids: NDArray[np.int32]
    word_id_ends: NDArray[np.uint32]

    @property
    def sizes(self) -> WordTableSizes:
        """How large the table is."""
        return WordTableSizes(
            words=len(self.word_ends),
            word_bytes=len(self.word_bytes),
            word_ids=len(self.word_ids),
        )


def check_word_bounds(words: WordArrays, vocab_size: int) -> None:
    """Check what memory safety rests on: every end lies inside its array, every id in the table.

    Args:
        words: Arrays of the shapes and types that `word_specs` gives.
        vocab_size: V.

    Raises:
        ValueError: Ends do not rise, do not end with their array, or an id is out of range.
    """
    ends, id_ends, ids = words.word_ends, words.word_id_ends, words.word_ids
    if not ends[0] or not (ends[1:] > ends[:-1]).all():
        raise ValueError("word_ends: expected rising ends of words that are not empty.")
    if ends[-1] != len(words.word_bytes):
        raise ValueError(
            f"word_ends: expected the last to be {len(words.word_bytes)}, the length of "
            f"word_bytes, found {ends[-1]}."
        )
    if not (id_ends[1:] >= id_ends[:-1]).all():
        raise ValueError("word_id_ends: expected ends that never fall.")
    if id_ends[-1] != len(ids):
        raise ValueError(
            f"word_id_ends: expected the last to be {len(ids)}, the length of word_ids, found "
            f"{id_ends[-1]}."
        )
    low, high = ids.min(initial=0), ids.max(initial=0)
    if low < 0 or high >= vocab_size:
        raise ValueError(
            f"word_ids: expected 0 to {vocab_size - 1}, found {low if low < 0 else high}."
        )


def check_word_content(words: WordArrays) -> None:
    """Check that the words are what can be searched for: UTF-8, without a space, sorted, distinct.

    Args:
        words: Arrays that `check_word_bounds` let pass.

    Raises:
        ValueError: They are not.
    """
    data, ends = words.word_bytes, words.word_ends
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(data), _BLOCK):
        block = data[start : start + _BLOCK]
        if (block == 0x20).any():
            raise ValueError("word_bytes: expected words without the space 0x20, found one in it.")
        try:
            decoder.decode(block.tobytes(), final=start + _BLOCK >= len(data))
        except UnicodeDecodeError as err:
            raise ValueError(f"word_bytes: expected UTF-8, found a defect: {err}.") from err
    # All bytes together are UTF-8; so is each word if none begins inside a character.
    if ((data[ends[:-1]] & 0xC0) == 0x80).any():
        raise ValueError("word_ends: expected ends between characters, found one inside.")
    previous, start = b"", 0
    for first in range(0, len(ends), _BLOCK_WORDS):
        stops = ends[first : first + _BLOCK_WORDS].tolist()
        base = start
        block_bytes = data[base : stops[-1]].tobytes()
        for stop in stops:
            word = block_bytes[start - base : stop - base]
            if not previous < word:
                raise ValueError(
                    f"word_bytes: expected distinct words sorted by bytes, found {word!r:.60} "
                    f"behind {previous!r:.60}."
                )
            previous, start = word, stop
