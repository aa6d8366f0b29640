from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.lookup import word_arrays
from export.lookup.config import WordTableSizes
from export.lookup.word_arrays import WordArrays, check_word_bounds, check_word_content

VOCAB_SIZE = 30


def make_words(entries: dict[bytes, list[int]]) -> WordArrays:
    """Return the arrays of words and their ids, in the order given."""
    return WordArrays(
        word_bytes=np.frombuffer(b"".join(entries), np.uint8),
        word_ends=np.cumsum([len(word) for word in entries]).astype(np.uint32),
        word_ids=np.array([token for ids in entries.values() for token in ids], np.int32),
        word_id_ends=np.cumsum([len(ids) for ids in entries.values()]).astype(np.uint32),
    )


WORDS = make_words({b"cat": [2, 3], "고양이".encode(): [], "🙂".encode(): [29]})

tables = st.dictionaries(
    st.text(st.characters(exclude_characters=" ", codec="utf-8"), min_size=1).map(str.encode),
    st.lists(st.integers(0, VOCAB_SIZE - 1)),
    min_size=1,
).map(lambda table: dict(sorted(table.items())))


@given(tables, st.integers(1, 7), st.integers(1, 3))
def test_every_sorted_table_of_words_passes(table, block, block_words):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(word_arrays, "_BLOCK", block)
        patch.setattr(word_arrays, "_BLOCK_WORDS", block_words)
        words = make_words(table)
        check_word_bounds(words, VOCAB_SIZE)
        check_word_content(words)


def test_sizes_are_those_of_the_arrays():
    assert WORDS.sizes == WordTableSizes(words=3, word_bytes=16, word_ids=3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"word_ends": [0, 12, 16]}, "word_ends: expected rising ends of words that are not empty"),
        ({"word_ends": [3, 3, 16]}, "word_ends: expected rising ends of words that are not empty"),
        ({"word_ends": [12, 3, 16]}, "word_ends: expected rising ends of words that are not emp"),
        (
            {"word_ends": [3, 12, 17]},
            "word_ends: expected the last to be 16, the length of word_bytes, found 17.",
        ),
        ({"word_ends": [3, 12, 15]}, "the length of word_bytes, found 15."),
        ({"word_id_ends": [2, 1, 3]}, "word_id_ends: expected ends that never fall."),
        (
            {"word_id_ends": [2, 2, 4]},
            "word_id_ends: expected the last to be 3, the length of word_ids, found 4.",
        ),
        ({"word_ids": [2, 3, 30]}, "word_ids: expected 0 to 29, found 30."),
        ({"word_ids": [2, -1, 29]}, "word_ids: expected 0 to 29, found -1."),
    ],
)
def test_tables_that_lead_outside_are_refused(changes, message):
    arrays = {name: np.array(value, getattr(WORDS, name).dtype) for name, value in changes.items()}
    with pytest.raises(ValueError, match=re.escape(message)):
        check_word_bounds(dataclasses.replace(WORDS, **arrays), VOCAB_SIZE)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([b"a b"], "word_bytes: expected words without the space 0x20, found one in it."),
        ([b"a", b"\xff"], "word_bytes: expected UTF-8, found a defect: 'utf-8' codec can't decode"),
        ([b"a", b"\xed\xa0\x80"], "word_bytes: expected UTF-8, found a defect"),  # a surrogate
        ([b"\xf0\x9f\x99"], "word_bytes: expected UTF-8, found a defect"),
        ([b"\xc3", b"\xa9"], "word_ends: expected ends between characters, found one inside."),
        ([b"b", b"a"], "distinct words sorted by bytes, found b'a' behind b'b'."),
        ([b"a", b"a"], "distinct words sorted by bytes, found b'a' behind b'a'."),
        ([b"aa", b"a"], "distinct words sorted by bytes, found b'a' behind b'aa'."),
    ],
)
@pytest.mark.parametrize("block", [1, 2**16])
def test_words_that_cannot_be_searched_for_are_refused(entries, message, block, monkeypatch):
    monkeypatch.setattr(word_arrays, "_BLOCK", block)
    monkeypatch.setattr(word_arrays, "_BLOCK_WORDS", block)
    words = WordArrays(
        word_bytes=np.frombuffer(b"".join(entries), np.uint8),
        word_ends=np.cumsum([len(word) for word in entries]).astype(np.uint32),
        word_ids=np.zeros(0, np.int32),
        word_id_ends=np.zeros(len(entries), np.uint32),
    )
    check_word_bounds(words, VOCAB_SIZE)
    with pytest.raises(ValueError, match=re.escape(message)):
        check_word_content(words)
