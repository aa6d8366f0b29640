from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.lookup.word_arrays import WordArrays
from export.lookup.words import WordTable

raw_words = st.text(
    st.characters(exclude_characters=" ", codec="utf-8") | st.sampled_from("ab\0\t\n\u00a0\u3000▁"),
    min_size=1,
    max_size=5,
)
tables = st.dictionaries(raw_words, st.lists(st.integers(0, 9), max_size=4), min_size=1)


def make_table(entries: dict[str, list[int]]) -> WordTable:
    """Return a table of words and their ids."""
    entries = dict(sorted(entries.items(), key=lambda entry: entry[0].encode()))
    encoded = [word.encode() for word in entries]
    return WordTable(
        WordArrays(
            word_bytes=np.frombuffer(b"".join(encoded), np.uint8),
            word_ends=np.cumsum([len(word) for word in encoded], dtype=np.uint32),
            word_ids=np.array(list(itertools.chain(*entries.values())), np.int32),
            word_id_ends=np.cumsum([len(ids) for ids in entries.values()], dtype=np.uint32),
        )
    )


def refuse(word: str) -> list[int]:
    raise LookupError(word)


@given(tables, st.lists(raw_words))
def test_a_table_finds_its_own_words_and_no_others(entries, others):
    table = make_table(entries)
    assert len(table) == len(entries)
    for word in [*entries, *others] * 2:  # the second time from memory
        expected = tuple(entries[word]) if word in entries else None
        assert table.find(word) == expected


@pytest.mark.parametrize("count", [1, 15, 16, 17, 32, 33, 500])
def test_words_are_found_in_every_block(count):
    entries = {f"{number:03}": [number % 10] for number in range(count)}
    table = make_table(entries)
    for word, ids in entries.items():
        assert table.find(word) == tuple(ids)
        # Before the first word, between all others, behind the last.
        assert table.find(word[:-1] + "/") is None
        assert table.find(word + "0") is None


def test_the_empty_word_is_in_every_table_and_has_no_ids():
    assert make_table({"a": [1]}).find("") == ()


@given(tables, st.data())
def test_ids_of_a_text_are_those_of_its_words(entries, data):
    words = data.draw(st.lists(st.sampled_from(sorted(entries)) | raw_words | st.just("")))
    asked = []

    def encode_unseen(word):
        asked.append(word)
        return [11] * len(word)

    expected = [token for word in words for token in entries.get(word, [11] * len(word))]
    table = make_table(entries)
    assert table.encode(" ".join(words), 1000, encode_unseen) == expected
    assert asked == [word for word in words if word and word not in entries]
    assert table.encode(" ".join(words), 3, encode_unseen) == expected[:3]


def test_only_the_ascii_space_parts_words():
    table = make_table({"a\tb": [1], "c\u00a0d": [2], "e\u3000": [3], "\n": [4], "\0": [5]})
    assert table.encode("a\tb c\u00a0d  e\u3000 \n \0", 9, refuse) == [1, 2, 3, 4, 5]


def test_words_behind_the_last_id_are_not_looked_at():
    table = make_table({"a": [1, 2], "nothing": []})
    assert table.encode("a a unseen", 4, refuse) == [1, 2, 1, 2]
    assert table.encode("a a unseen", 3, refuse) == [1, 2, 1]
    with pytest.raises(LookupError, match="unseen"):
        table.encode("a nothing unseen", 3, refuse)


def test_a_table_without_any_id_gives_none():
    table = make_table({"!": [], "?": []})
    assert table.encode("! ? !", 9, refuse) == []


def test_threads_share_one_table():
    entries = {str(number): [number % 7] for number in range(2000)}
    table = make_table(entries)
    texts = [f"{number} {number * 7 % 2000} {number + 1000}" for number in range(1000)] * 2
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda text: table.encode(text, 9, refuse), texts))
    assert found == [[int(word) % 7 for word in text.split(" ")] for text in texts]
