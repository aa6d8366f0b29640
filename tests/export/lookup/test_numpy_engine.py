from __future__ import annotations

import itertools

import numpy as np
import pytest

from export.lookup import LookupConfig
from export.lookup.model import softmax
from export.lookup.numpy_engine import NumpyEngine

TOLERANCE = 2e-6
"""float32 rounding through at most 2 layers of 12 steps, against float64."""
LONGEST = 12

SHAPES = [
    pytest.param(
        {"bidirectional": bidirectional, "layers": layers, "pooling": pooling, "relu": relu},
        id=f"{'bi' if bidirectional else 'uni'}-{layers}-{pooling}{'-relu' if relu else ''}",
    )
    for bidirectional, layers, pooling, relu in itertools.product(
        (False, True), (1, 2), ("last", "max", "mean"), (False, True)
    )
]


def make_batch(batch: int, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows in turn: one token, longest, all unknown, others; two columns of extra padding."""
    rng = np.random.default_rng(batch)
    lengths = rng.integers(1, LONGEST + 1, batch).astype(np.int32)
    ids = rng.integers(0, vocab_size, (batch, LONGEST + 2)).astype(np.int32)
    for row, length in enumerate((1, LONGEST, 5)[:batch]):
        lengths[row] = length
    if batch > 2:
        ids[2] = 1
    return ids, lengths


@pytest.mark.parametrize("changes", SHAPES)
def test_engine_equals_the_equations(raw_model, changes):
    model = raw_model(**changes)
    engine = NumpyEngine(model.config, model.fold())
    for batch in (1, 2, 3, 8, 32):
        ids, lengths = make_batch(batch, model.config.vocab_size)
        found = softmax(engine.logits(ids, lengths))
        expected = [
            model.probabilities(row[:length]) if length else model.probabilities([1])
            for row, length in zip(ids.tolist(), lengths.tolist(), strict=True)
        ]
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
