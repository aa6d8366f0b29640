from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from export.lookup.gru import make_packing, make_state, pool_batch, prepare_weights

falling_lengths = st.lists(st.integers(1, 9), min_size=1, max_size=12).map(
    lambda lengths: np.array(sorted(lengths, reverse=True), np.int32)
)


@given(falling_lengths)
def test_packing_holds_every_step_of_every_row_once_in_order_of_steps(lengths):
    packing = make_packing(lengths)
    pairs = list(zip(packing.steps.tolist(), packing.rows.tolist(), strict=True))
    assert pairs == sorted(
        (step, row) for row, length in enumerate(lengths.tolist()) for step in range(length)
    )
    for step, (start, stop) in enumerate(zip(packing.offsets, packing.offsets[1:], strict=False)):
        assert set(packing.steps[start:stop]) == {step}
        assert packing.rows[start:stop].tolist() == list(range(stop - start))
    assert packing.offsets[-1] == lengths.sum()


@given(falling_lengths)
def test_mirror_counts_each_row_from_its_own_end_and_is_its_own_inverse(lengths):
    packing = make_packing(lengths)
    np.testing.assert_array_equal(packing.rows[packing.mirror], packing.rows)
    np.testing.assert_array_equal(
        packing.steps[packing.mirror], lengths[packing.rows] - 1 - packing.steps
    )
    np.testing.assert_array_equal(packing.mirror[packing.mirror], np.arange(len(packing.rows)))


def test_prepared_weights_negate_the_sigmoid_columns_and_hold_the_candidate_bias(raw_model):
    model = raw_model(bidirectional=False)
    arrays = model.fold()
    prepared = prepare_weights(model.config, arrays).first[0]
    kernel = arrays["recurrent_kernel"]
    np.testing.assert_array_equal(prepared.recurrent[:-1, :12], -kernel[:, :12])
    np.testing.assert_array_equal(prepared.recurrent[:-1, 12:], kernel[:, 12:])
    np.testing.assert_array_equal(prepared.recurrent[-1, :12], np.zeros(12))
    np.testing.assert_array_equal(prepared.recurrent[-1, 12:], arrays["candidate_bias"])
    assert np.shares_memory(prepared.table, arrays["gate_table"])


def test_state_starts_at_zero_with_a_constant_one_behind():
    np.testing.assert_array_equal(make_state(2, 3), [[0, 0, 0, 1]] * 2)


def test_saturated_gates_give_finite_answers(raw_model):
    model = raw_model(layers=2)
    arrays = model.fold()
    for suffix in ("", "_backward"):
        arrays[f"gate_table{suffix}"] = arrays[f"gate_table{suffix}"] * np.float32(1e6)
    ids, lengths = np.array([[3, 4, 5], [6, 7, 0]], np.int32), np.array([3, 2], np.int32)
    with np.errstate(over="ignore"):
        pooled = pool_batch(model.config, prepare_weights(model.config, arrays), ids, lengths)
    assert np.isfinite(pooled).all()
    assert np.abs(pooled).max() <= 1
