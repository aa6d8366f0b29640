from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as make_arrays

from export import compress
from export.compress import compress_arrays, compress_columns, compress_rows
from export.lookup import ArraySpec, LookupConfig, array_specs
from export.lookup.values import check_kernel_integers, check_scale

LIMITS = {"int16": 32767, "int8": 127}
CONFIG = LookupConfig(vocab_size=9, embed_dim=2, units=2, num_classes=3, layers=2)

values = st.floats(-1e4, 1e4, width=32)
matrices = st.tuples(st.integers(1, 40), st.integers(1, 6)).flatmap(
    lambda shape: make_arrays(np.float64, shape, elements=values)
)


@given(matrices, st.sampled_from(["int16", "int8"]))
def test_rows_come_back_within_half_a_scale(rows, option):
    stored, scale = compress_rows(rows, option)
    assert (stored.dtype, scale.dtype) == (np.dtype(option), np.float32)
    check_scale(scale)
    assert np.abs(stored.astype(np.int64)).max() <= LIMITS[option]
    error = np.abs(stored * scale[:, None].astype(np.float64) - rows)
    # The scale itself is rounded, so the largest integer may stand for a little less.
    assert (error <= scale[:, None] * 0.51).all()


@given(matrices)
def test_the_largest_value_of_a_row_becomes_the_largest_integer(rows):
    stored, _ = compress_rows(rows, "int16")
    # Below, the smallest scale float32 holds in full is what limits.
    has_value = np.abs(rows).max(axis=1) > 1e-30
    assert (np.abs(stored.astype(np.int64)).max(axis=1)[has_value] == 32767).all()


@given(matrices, st.sampled_from(["int16", "int8"]))
def test_columns_come_back_within_half_a_scale_and_their_sums_fit(kernel, option):
    stored, scale = compress_columns(kernel, option)
    assert (stored.dtype, scale.dtype) == (np.dtype(option), np.float32)
    check_scale(scale)
    check_kernel_integers(stored)
    error = np.abs(stored * scale.astype(np.float64) - kernel)
    assert (error <= scale * 0.51).all()


def test_a_column_of_equal_weights_uses_the_room_of_int32():
    stored, scale = compress_columns(np.full((4096, 3), 0.25, np.float32), "int16")
    sums = np.abs(stored).sum(axis=0, dtype=np.int64)
    assert (sums <= 131071).all()
    assert (sums > 120_000).all()
    np.testing.assert_allclose(stored * scale, 0.25, rtol=0.02)


def test_zeros_and_numbers_too_small_to_scale_become_zeros():
    rows = np.array([[0.0, 0.0], [1e-44, -1e-45]])
    for option in ("int16", "int8"):
        stored, scale = compress_rows(rows, option)
        assert not stored.any()
        assert scale[0] == 1
        assert scale[1] >= np.finfo(np.float32).tiny
        assert not compress_columns(rows.T, option)[0].any()


@given(make_arrays(np.float64, (3, 4), elements=st.floats(-6e4, 6e4)))
def test_half_floats_are_rounded_once(rows):
    stored, scale = compress_rows(rows, "float16")
    assert scale is None
    np.testing.assert_array_equal(stored, rows.astype(np.float16))


def test_values_beyond_half_floats_become_their_largest():
    stored, _ = compress_rows(np.array([[1e6, -1e38]]), "float16")
    assert stored.tolist() == [[65504, -65504]]


@pytest.mark.parametrize("table_dtype", ["float32", "float16", "int16", "int8"])
@pytest.mark.parametrize("recurrent_dtype", ["float32", "int16", "int8"])
@pytest.mark.parametrize("chunk_rows", [4, 4096])
def test_every_combination_gives_the_arrays_of_the_format(
    table_dtype, recurrent_dtype, chunk_rows, monkeypatch
):
    monkeypatch.setattr(compress, "CHUNK_ROWS", chunk_rows)
    rng = np.random.default_rng(0)
    exact = {
        name: rng.normal(size=spec.shape).astype(
            np.float64 if name.startswith("gate_table") else np.float32
        )
        for name, spec in array_specs(CONFIG).items()
    }
    config = dataclasses.replace(CONFIG, table_dtype=table_dtype, recurrent_dtype=recurrent_dtype)
    found = compress_arrays(exact, config)
    specs = {name: ArraySpec(array.shape, array.dtype.str) for name, array in found.items()}
    assert specs == array_specs(config)
    if table_dtype.startswith("int"):
        rows, scale = compress_rows(exact["gate_table_backward"], table_dtype)
        np.testing.assert_array_equal(found["gate_table_backward"], rows)
        np.testing.assert_array_equal(found["gate_table_scale_backward"], scale)
