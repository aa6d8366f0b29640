"""Groups of near-constant texts."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data_card.text_patterns import LargePattern, find_patterns

ROWS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), max_size=40)


@given(ROWS, st.integers(0, 4))
def test_patterns_are_the_groups_of_equal_signatures(
    rows: list[tuple[int, int]], limit: int
) -> None:
    sizes = Counter(signature for signature, _ in rows)
    labels = defaultdict(set)
    for signature, label in rows:
        labels[signature].add(label)
    shared = {signature: size for signature, size in sizes.items() if size > 1}
    found = find_patterns(
        np.array([signature for signature, _ in rows], dtype=np.uint64),
        np.array([label for _, label in rows], dtype=np.int32),
        limit=limit,
    )
    assert (found.shared, found.rows) == (len(shared), sum(shared.values()))
    assert found.disputed_rows == sum(n for s, n in shared.items() if len(labels[s]) > 1)
    ranked = sorted(shared.items(), key=lambda item: (-item[1], item[0]))[:limit]
    assert found.largest == [
        LargePattern(signature=signature, rows=size, classes=len(labels[signature]))
        for signature, size in ranked
    ]


def test_signatures_use_all_64_bits() -> None:
    signatures = np.array([2**64 - 1, 2**64 - 1, 2**63], dtype=np.uint64)
    found = find_patterns(signatures, np.zeros(3, dtype=np.int32), limit=5)
    assert [pattern.signature for pattern in found.largest] == [2**64 - 1]
