"""The raw words of the training split, most frequent first: what a word table is made of.

A word is what stands between two ASCII spaces of a raw text, before any normalisation, because
that is where a program can cut a text without knowing the tokenizer's rules. `write_words` and
`read_words` are inverses; the file holds one word a line.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.whole_file import write_whole

MAX_WORDS = 200_000
MAX_WORD_BYTES = 64
"""Longer ones are addresses and damage; they are rare and would not be met again."""
MAX_COUNTED_WORDS = 2_000_000
"""Distinct words held while counting: a bound on memory."""
_LINE_ENDS = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
"""What some reader of lines takes for the end of one."""


def _drop_rarest(words: Counter[bytes], most: int) -> None:
    """Forget the rarest words until at most `most` are left."""
    rarest = 1
    while len(words) > most:
        for word in [word for word, count in words.items() if count <= rarest]:
            del words[word]
        rarest += 1


def rank_words(
    texts: Iterable[bytes],
    *,
    max_words: int = MAX_WORDS,
    max_counted: int = MAX_COUNTED_WORDS,
) -> list[str]:
    """Count the words of raw texts and return the most frequent ones.

    Args:
        texts: Raw texts, UTF-8; read once.
        max_words: Words to return.
        max_counted: Distinct words held at any time. Where there are more, the rarest so far are
            forgotten on the way, so that a word seen seldom and far apart may be missed.

    Returns:
        Distinct words of 1 to `MAX_WORD_BYTES` bytes, most frequent first, ties by their bytes.
        Words that hold the end of a line are left out, because a word is a line of its file.

    Example:
        `rank_words([b"a cat", b"a  dog, a cat"])` is `["a", "cat", "dog,"]`.
    """
    words: Counter[bytes] = Counter()
    for text in texts:
        words.update(word for word in text.split(b" ") if 0 < len(word) <= MAX_WORD_BYTES)
        if len(words) > max_counted:
            _drop_rarest(words, max_counted // 2)
    ranked: list[str] = []
    for word in sorted(words, key=lambda word: (-words[word], word)):
        if len(ranked) == max_words:
            break
        decoded = word.decode()
        if not _LINE_ENDS.search(decoded):
            ranked.append(decoded)
    return ranked


def _check_words(words: Sequence[str]) -> None:
    if len(words) > MAX_WORDS:
        raise ValueError(f"expected at most {MAX_WORDS} words, found {len(words)}.")
    for number, word in enumerate(words, start=1):
        if not 0 < len(word.encode()) <= MAX_WORD_BYTES or " " in word or "\n" in word:
            raise ValueError(
                f"word {number}: expected 1 to {MAX_WORD_BYTES} bytes without a space or a line "
                f"feed, found {word!r:.80}."
            )
    if len(set(words)) != len(words):
        twice = Counter(words).most_common(1)[0][0]
        raise ValueError(f"expected distinct words, found {twice!r} twice.")


def write_words(path: Path, words: Sequence[str]) -> None:
    """Write words through a temporary name.

    Raises:
        ValueError: They are not what `read_words` lets pass.
    """
    _check_words(words)
    write_whole(path, "".join(f"{word}\n" for word in words))


def read_words(path: Path) -> list[str]:
    """Read what `write_words` wrote, in bounded memory.

    Returns:
        At most `MAX_WORDS` distinct words without a space, of 1 to `MAX_WORD_BYTES` bytes each.

    Raises:
        ValueError: It is not that.
    """
    size, most = path.stat().st_size, MAX_WORDS * (MAX_WORD_BYTES + 1)
    if size > most:
        raise ValueError(f"expected at most {most} bytes, found {size}.")
    try:
        words = path.read_bytes().decode().split("\n")
    except UnicodeDecodeError as err:
        raise ValueError(f"expected UTF-8, found a defect: {err}.") from err
    if words.pop():
        raise ValueError("expected each line to end with a line feed, found the last one cut off.")
    _check_words(words)
    return words
