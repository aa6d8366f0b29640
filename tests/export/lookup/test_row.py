from __future__ import annotations

import itertools

import numpy as np
import pytest

from export.lookup.gru import pool_batch, prepare_weights
from export.lookup.row import ForwardRow, TwoWayRow, pool_states


@pytest.mark.parametrize(
    ("bidirectional", "layers", "pooling"),
    list(itertools.product((False, True), (1, 2, 3), ("last", "max", "mean"))),
)
def test_one_row_equals_the_same_row_of_a_batch(raw_model, bidirectional, layers, pooling):
    model = raw_model(bidirectional=bidirectional, layers=layers, pooling=pooling)
    weights = prepare_weights(model.config, model.fold())
    row = (TwoWayRow if bidirectional else ForwardRow)(model.config, weights, 8)
    rng = np.random.default_rng(0)
    # Longest first, so that the short ones find what the long ones left in the scratch.
    lengths = np.array([8, 8, 5, 2, 1], np.int32)
    ids = rng.integers(0, model.config.vocab_size, (5, 8)).astype(np.int32)
    batch = pool_batch(model.config, weights, ids, lengths)
    for tokens, length, expected in zip(ids, lengths, batch, strict=True):
        found = row.pool(tokens[:length], pooling)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_pooling_reduces_over_time():
    states = np.array([[1, -2], [3, -4], [2, -9]], np.float32)
    np.testing.assert_array_equal(pool_states(states, "last"), [2, -9])
    np.testing.assert_array_equal(pool_states(states, "max"), [3, -2])
    np.testing.assert_array_equal(pool_states(states, "mean"), [2, -5])
