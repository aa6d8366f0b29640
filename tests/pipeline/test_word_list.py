"""Raw words of texts: counted in bounded memory, kept one a line."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.word_list import (
    MAX_WORD_BYTES,
    MAX_WORDS,
    rank_words,
    read_words,
    write_words,
)

# Few letters, so that words repeat; every kind of line end and space besides.
odd_texts = st.text("ab \t\n\r\v\f\x00\x1c\x85\u00a0\u2028\u3000é고😀", max_size=30)


def test_words_stand_between_ascii_spaces_and_the_commonest_come_first() -> None:
    assert rank_words([b"a cat", b"a  dog, a cat"]) == ["a", "cat", "dog,"]
    assert rank_words(["a\tb c\u00a0d \u3000".encode()]) == ["a\tb", "c\u00a0d", "\u3000"]


def test_ties_stand_in_the_order_of_their_bytes() -> None:
    # U+FF5E sorts behind U+1F600 as UTF-16 and before it as UTF-8.
    assert rank_words(["😀 ～ b a".encode()]) == ["a", "b", "～", "😀"]


def test_no_text_has_no_words() -> None:
    assert rank_words([]) == rank_words([b"", b"  "]) == []


@pytest.mark.parametrize("end", "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")
def test_words_with_the_end_of_a_line_are_left_out(end: str) -> None:
    assert rank_words([f"a{end}b {end} c".encode()]) == ["c"]


def test_words_of_more_than_64_bytes_are_left_out() -> None:
    longest = "é" * 32
    assert len(longest.encode()) == MAX_WORD_BYTES
    assert rank_words([f"{longest} {longest}a".encode()]) == [longest]


def test_only_so_many_words_are_kept() -> None:
    assert rank_words([b"c c b b a"], max_words=2) == ["b", "c"]
    # A word that is left out takes nobody's place.
    assert rank_words([b"x\ny x\ny b"], max_words=1) == ["b"]


def test_the_rarest_words_are_forgotten_where_there_are_too_many() -> None:
    texts = [b"often often rare"] + [f"word{number} often".encode() for number in range(50)]
    found = rank_words(texts, max_counted=4)
    assert found[0] == "often"
    assert len(found) <= 4


@given(st.lists(odd_texts, max_size=8))
def test_words_are_those_that_counting_gives(texts: list[str]) -> None:
    counts = Counter(word for text in texts for word in text.split(" ") if word)
    expected = sorted(
        (word for word in counts if len(f"{word}|".splitlines()) == 1),
        key=lambda word: (-counts[word], word.encode()),
    )
    assert rank_words(text.encode() for text in texts) == expected


@given(st.lists(odd_texts, max_size=8))
def test_reader_inverts_writer(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("words") / "words.txt"
    words = rank_words(text.encode() for text in texts)
    write_words(path, words)
    assert read_words(path) == words
    assert [entry.name for entry in path.parent.iterdir()] == ["words.txt"]
    # Whatever takes lines apart finds the same ones.
    assert path.read_bytes().decode().splitlines() == words


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["a", "b c"],
            "word 2: expected 1 to 64 bytes without a space or a line feed, found 'b c'",
        ),
        (["a\nb"], "word 1: expected 1 to 64 bytes without a space or a line feed, found 'a\\nb'."),
        ([""], "word 1: expected 1 to 64 bytes without a space or a line feed, found ''."),
        (["é" * 33], "word 1: expected 1 to 64 bytes"),
        (["a", "b", "a"], "expected distinct words, found 'a' twice."),
        (["a"] * (MAX_WORDS + 1), "expected at most 200000 words, found 200001."),
    ],
)
def test_other_words_are_not_written(tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        write_words(tmp_path / "words.txt", words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", None),
        (b"a\nb", "expected each line to end with a line feed, found the last one cut off."),
        (b"a\n\nb\n", "word 2: expected 1 to 64 bytes"),
        (b"a\na\n", "expected distinct words, found 'a' twice."),
        (b"\xff\n", "expected UTF-8, found a defect: 'utf-8' codec can't decode byte 0xff"),
        (b"a" * 13_000_001, "expected at most 13000000 bytes, found 13000001."),
    ],
)
def test_damaged_words_are_refused(tmp_path: Path, content: bytes, message: str | None) -> None:
    (tmp_path / "words.txt").write_bytes(content)
    if message is None:
        assert read_words(tmp_path / "words.txt") == []
        return
    with pytest.raises(ValueError, match=re.escape(message)):
        read_words(tmp_path / "words.txt")
