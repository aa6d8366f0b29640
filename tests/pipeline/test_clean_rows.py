"""Merging equal texts, against a plain-Python reference."""

from __future__ import annotations

import hashlib
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pipeline.clean_rows import CleanRows, merge_rows

ROWS = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 3)), min_size=1, max_size=40)


def build_clean_rows(pairs: list[tuple[str, int]]) -> CleanRows:
    rows = CleanRows(label_names=["zero", "one", "two", "three"])
    for text, label in pairs:
        rows.text_bytes += text.encode()
        rows.text_ends.append(len(rows.text_bytes))
        rows.label_ids.append(label)
        rows.hashes += hashlib.blake2b(text.encode(), digest_size=16).digest()
    return rows


@given(pairs=ROWS)
def test_most_frequent_label_wins_and_the_first_seen_of_equals(
    pairs: list[tuple[str, int]],
) -> None:
    votes: dict[str, Counter[int]] = {}
    for text, label in pairs:
        votes.setdefault(text, Counter())[label] += 1
    # Counter.most_common keeps the order of insertion among equals.
    expected = {text: counter.most_common(1)[0] for text, counter in votes.items()}
    rows = build_clean_rows(pairs)
    merged = merge_rows(rows)
    found = {
        rows.text(row).decode(): (int(label), int(row))
        for row, label in zip(merged.rows, merged.labels, strict=True)
    }
    assert found == {
        text: (label, pairs.index((text, label))) for text, (label, _) in expected.items()
    }
    assert merged.duplicates_merged == sum(count - 1 for _, count in expected.values())
    assert merged.conflicting_texts == sum(len(counter) > 1 for counter in votes.values())
    assert len(pairs) == (
        len(merged.rows) + merged.duplicates_merged + merged.conflicting_rows_dropped
    )


@given(pairs=ROWS)
def test_rows_come_in_the_order_of_their_hash(pairs: list[tuple[str, int]]) -> None:
    merged = merge_rows(build_clean_rows(pairs))
    assert merged.hashes.tolist() == sorted(merged.hashes.tolist())
