from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from export.fold import CHUNK_ROWS, fold_gate_table, fold_weights
from export.lookup import ArraySpec, LookupConfig, array_specs
from export.weights import GruWeights
from tests.export.tiny import make_config, make_weights


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def keras_step(x: np.ndarray, h: np.ndarray, gru: GruWeights) -> np.ndarray:
    """One GRU step from the equations of Keras's GRUCell with reset_after, in float64."""
    units = len(h)
    kernel, recurrent, bias = (
        array.astype(np.float64) for array in (gru.kernel, gru.recurrent_kernel, gru.bias)
    )
    from_input, from_state = x @ kernel + bias[0], h @ recurrent + bias[1]
    z = sigmoid(from_input[:units] + from_state[:units])
    r = sigmoid(from_input[units : 2 * units] + from_state[units : 2 * units])
    candidate = np.tanh(from_input[2 * units :] + r * from_state[2 * units :])
    return z * h + (1 - z) * candidate


def folded_step(row: np.ndarray, h: np.ndarray, recurrent: np.ndarray, rest: np.ndarray):
    """The same step from a table row."""
    units = len(h)
    from_state = h @ recurrent.astype(np.float64)
    z = sigmoid(row[:units] + from_state[:units])
    r = sigmoid(row[units : 2 * units] + from_state[units : 2 * units])
    candidate = np.tanh(row[2 * units :] + r * (from_state[2 * units :] + rest))
    return z * h + (1 - z) * candidate


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    vocab=st.integers(3, 9),
    embed=st.integers(1, 6),
    units=st.integers(1, 5),
    scale=st.sampled_from([1e-3, 0.5, 5.0]),
)
def test_a_step_from_the_table_is_a_step_of_the_cell(
    seed: int, vocab: int, embed: int, units: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(0, scale, shape).astype(np.float32)

    embedding = draw(vocab, embed)
    gru = GruWeights(
        kernel=draw(embed, 3 * units),
        recurrent_kernel=draw(units, 3 * units),
        bias=draw(2, 3 * units),
    )
    table = fold_gate_table(embedding, gru)
    h = rng.uniform(-1, 1, units)
    for token in range(vocab):
        expected = keras_step(embedding[token].astype(np.float64), h, gru)
        found = folded_step(
            table[token].astype(np.float64), h, gru.recurrent_kernel, gru.bias[1, 2 * units :]
        )
        # The table was rounded to float32 once: relative 6e-8 of its largest entry.
        np.testing.assert_allclose(found, expected, atol=1e-6 * max(1, np.abs(table).max()))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), units=st.integers(1, 4), embed=st.integers(1, 5))
def test_table_entries_are_the_nearest_float32(seed: int, units: int, embed: int) -> None:
    rng = np.random.default_rng(seed)
    embedding = rng.normal(size=(4, embed)).astype(np.float32)
    gru = GruWeights(
        kernel=rng.normal(size=(embed, 3 * units)).astype(np.float32),
        recurrent_kernel=np.zeros((units, 3 * units), np.float32),
        bias=rng.normal(size=(2, 3 * units)).astype(np.float32),
    )
    added = gru.bias[0].astype(np.longdouble)
    added[: 2 * units] += gru.bias[1, : 2 * units]
    exact = embedding.astype(np.longdouble) @ gru.kernel.astype(np.longdouble) + added
    table = fold_gate_table(embedding, gru)
    half_ulp = np.spacing(np.abs(table)).astype(np.longdouble) / 2
    # Double rounding through float64 may add one part in 2**29 of an ulp.
    assert (np.abs(table - exact) <= half_ulp * (1 + 1e-6) + 1e-15).all()


def test_rows_are_the_same_on_both_sides_of_a_chunk_border() -> None:
    rng = np.random.default_rng(0)
    row = rng.normal(size=(1, 3)).astype(np.float32)
    gru = GruWeights(
        kernel=rng.normal(size=(3, 6)).astype(np.float32),
        recurrent_kernel=np.zeros((2, 6), np.float32),
        bias=np.zeros((2, 6), np.float32),
    )
    table = fold_gate_table(np.repeat(row, CHUNK_ROWS + 2, axis=0), gru)
    assert (table == table[0]).all()


def test_names_and_shapes_are_those_the_lookup_format_wants() -> None:
    for layers in (1, 3):
        for bidirectional in (False, True):
            config = make_config(layers=layers, bidirectional=bidirectional)
            arrays = fold_weights(make_weights(config))
            expected = array_specs(
                LookupConfig(
                    vocab_size=config.vocab_size,
                    embed_dim=config.embed_dim,
                    units=config.units,
                    num_classes=config.num_classes,
                    layers=layers,
                    bidirectional=bidirectional,
                )
            )
            assert {
                name: ArraySpec(array.shape, array.dtype.str) for name, array in arrays.items()
            } == expected


def test_padding_row_equals_unknown_row() -> None:
    arrays = fold_weights(make_weights(make_config()))
    for name in ("gate_table", "gate_table_backward"):
        np.testing.assert_array_equal(arrays[name][0], arrays[name][1])
