"""Texts as 64-bit signatures of their words, in NumPy arrays.

A signature is a sum over words, so it does not know their order, and a text without one of its
words costs one subtraction. Sums of well mixed 64-bit numbers collide by chance about once in
10^19 pairs. The hash is BLAKE2b, the same in every process.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_WORD = np.uint64(0x9E3779B97F4A7C15)
"""Added for every word, so that a word which hashes to 0 would still count."""
_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True, kw_only=True)
class WordHashes:
    """The words of N texts, W in all.

    Attributes:
        exact: `(W,)` uint64, of each word.
        without_digits: `(W,)` uint64, of each word with every number in it made one and the same.
        starts: `(N + 1,)` int64, where each text begins; the last is W.
    """

    exact: npt.NDArray[np.uint64]
    without_digits: npt.NDArray[np.uint64]
    starts: npt.NDArray[np.int64]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Words of each text, `(N,)` int64."""
        return np.diff(self.starts)


def _hash(word: str) -> bytes:
    return hashlib.blake2b(word.encode(), digest_size=8).digest()


def hash_words(normal_texts: Sequence[str]) -> WordHashes:
    """Hash the words of normalised texts, each distinct word once.

    Args:
        normal_texts: N texts of `pipeline.normalisation.normalise`: words between single spaces.
    """
    numbers: defaultdict[str, int] = defaultdict(itertools.count().__next__)
    ids: list[int] = []
    starts = np.zeros(len(normal_texts) + 1, dtype=np.int64)
    for row, text in enumerate(normal_texts, start=1):
        ids.extend(map(numbers.__getitem__, text.split()))
        starts[row] = len(ids)
    exact = [_hash(word) for word in numbers]
    without = [
        _hash(_DIGITS.sub("0", word)) if _DIGITS.search(word) else digest
        for word, digest in zip(numbers, exact, strict=True)
    ]
    words = np.array(ids, dtype=np.int64)  # (W,)
    return WordHashes(
        exact=np.frombuffer(b"".join(exact), dtype="<u8").astype(np.uint64)[words],
        without_digits=np.frombuffer(b"".join(without), dtype="<u8").astype(np.uint64)[words],
        starts=starts,
    )


def sum_words(
    hashes: npt.NDArray[np.uint64], starts: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint64]:
    """Return the signature of each text's bag of words, `(N,)` uint64.

    Args:
        hashes: `(W,)`, `exact` or `without_digits`.
        starts: `(N + 1,)`.
    """
    sums = np.zeros(len(hashes) + 1, dtype=np.uint64)
    np.cumsum(hashes + _WORD, out=sums[1:])  # wraps modulo 2^64, and so do the differences
    return sums[starts[1:]] - sums[starts[:-1]]


def leave_one_out(
    hashes: npt.NDArray[np.uint64], starts: npt.NDArray[np.int64], rows: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Return the signatures that texts have without one word each.

    Two texts that differ in one word share one of these; a text with one word more than another
    has the other's whole signature among them.

    Args:
        hashes: `(W,)`, `exact` or `without_digits`.
        starts: `(N + 1,)`.
        rows: `(N,)`, which texts.

    Returns:
        `(L,)` uint64 signatures, one for each word of the chosen texts, and `(L,)` int64, the text
        each belongs to.
    """
    lengths = np.diff(starts)
    of_word = np.repeat(rows, lengths)  # (W,)
    texts = np.repeat(np.arange(len(rows)), lengths)[of_word]  # (L,)
    return sum_words(hashes, starts)[texts] - (hashes[of_word] + _WORD), texts
