"""Signatures of words: blind to order and numbers, and nothing else."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data_card.word_hashes import hash_words, leave_one_out, sum_words

WORDS = st.lists(st.text(alphabet="ab1é日", min_size=1, max_size=3), min_size=0, max_size=6)
TEXTS = st.lists(WORDS.map(" ".join), min_size=1, max_size=8)


def sign(texts: list[str]) -> list[int]:
    words = hash_words(texts)
    return sum_words(words.exact, words.starts).tolist()


def sign_without_digits(texts: list[str]) -> list[int]:
    words = hash_words(texts)
    return sum_words(words.without_digits, words.starts).tolist()


@given(TEXTS)
def test_texts_have_equal_signatures_if_and_only_if_their_words_are_the_same(
    texts: list[str],
) -> None:
    bags = [tuple(sorted(text.split())) for text in texts]
    assert [a == b for a in sign(texts) for b in sign(texts)] == [
        a == b for a in bags for b in bags
    ]


@given(TEXTS, st.randoms(use_true_random=False))
def test_signature_does_not_depend_on_the_order_of_words(
    texts: list[str], rng: random.Random
) -> None:
    shuffled = []
    for text in texts:
        words = text.split()
        rng.shuffle(words)
        shuffled.append(" ".join(words))
    assert sign(shuffled) == sign(texts)


@given(TEXTS)
def test_leaving_out_a_word_gives_the_signature_of_the_rest(texts: list[str]) -> None:
    words = hash_words(texts)
    rows = np.array([len(text.split()) > 1 for text in texts])
    found, owners = leave_one_out(words.exact, words.starts, rows)
    rests, expected_owners = [], []
    for row, text in enumerate(texts):
        parts = text.split()
        if rows[row]:
            rests += [" ".join(parts[:i] + parts[i + 1 :]) for i in range(len(parts))]
            expected_owners += [row] * len(parts)
    assert found.tolist() == (sign(rests) if rests else [])
    assert owners.tolist() == expected_owners


def test_numbers_are_one_and_the_same_when_asked_for() -> None:
    one, two, other = sign_without_digits(["born in 1970 x9", "x10 born in 8", "born in 8"])
    assert one == two != other
    exact = sign(["born in 1970", "born in 8"])
    assert exact[0] != exact[1]


def test_repeated_words_count() -> None:
    once, twice = sign(["very good", "very very good"])
    assert once != twice


def test_lengths_are_words_a_text() -> None:
    assert hash_words(["a b c", "", "日本語"]).lengths.tolist() == [3, 0, 1]


def test_hashes_are_the_same_in_another_process() -> None:
    code = (
        "from pipeline.data_card.word_hashes import hash_words; "
        "print(hash_words(['a cat 9']).exact.tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == str(hash_words(["a cat 9"]).exact.tolist())
