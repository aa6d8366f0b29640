"""Merging equal texts, against a plain-Python reference."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pipeline.tables.clean_rows import CleanRows, RowTexts, merge_rows
from pipeline.tables.text_spool import TextSpool

ROWS = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 3)), min_size=1, max_size=40)


def build_clean_rows(pairs: list[tuple[str, int]], spool: TextSpool) -> CleanRows:
    rows = CleanRows(texts=spool, label_names=["zero", "one", "two", "three"])
    for text, label in pairs:
        rows.texts.append(text.encode())
        rows.label_ids.append(label)
        rows.hashes += hashlib.blake2b(text.encode(), digest_size=16).digest()
    spool.finish()
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
    with TextSpool(Path(tempfile.gettempdir())) as spool:
        merged = merge_rows(build_clean_rows(pairs, spool))
        found = {
            text.decode(): (int(label), int(row))
            for text, label, row in zip(
                RowTexts(spool, merged.rows), merged.labels, merged.rows, strict=True
            )
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
    with TextSpool(Path(tempfile.gettempdir())) as spool:
        merged = merge_rows(build_clean_rows(pairs, spool))
    assert merged.hashes.tolist() == sorted(merged.hashes.tolist())
