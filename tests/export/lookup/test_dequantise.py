from __future__ import annotations

import numpy as np
import pytest

from export.lookup.dequantise import CompressedTable, load_kernel, load_table

IDS = np.array([3, 0, 3, 4], np.int32)
ROWS = np.array([[1, -2, 3], [0, 0, 0], [4, 5, 6], [-7, 8, -9], [100, -101, 102]])
SCALE = np.array([0.5, 1, 2, 0.1, 1e-3], np.float32)


@pytest.mark.parametrize("dtype", [np.int16, np.int8])
def test_rows_of_integers_are_multiplied_by_the_scale_of_their_row(dtype):
    expected = (ROWS[IDS] * SCALE[IDS, None].astype(np.float64)).astype(np.float32)
    found = CompressedTable(ROWS.astype(dtype), SCALE).take(IDS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-7)


def test_rows_of_half_floats_are_what_they_are():
    stored = (ROWS / 7).astype(np.float16)
    found = CompressedTable(stored, None).take(IDS)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, stored[IDS].astype(np.float32))


@pytest.mark.parametrize("scale", [SCALE, None])
def test_rows_are_written_where_they_are_wanted_as_an_array_would(scale):
    table = CompressedTable(ROWS.astype(np.float16 if scale is None else np.int8), scale)
    out = np.full((4, 3), np.nan, np.float32)
    assert table.take(IDS, 0, out, "clip") is out
    np.testing.assert_array_equal(out, table.take(IDS, axis=0))


def test_exact_arrays_are_used_as_they_are():
    arrays = {"gate_table": np.ones((2, 3), np.float32), "recurrent_kernel": SCALE}
    assert load_table(arrays, "") is arrays["gate_table"]
    assert load_kernel(arrays, "", "") is arrays["recurrent_kernel"]


@pytest.mark.parametrize("dtype", [np.int16, np.int8])
def test_kernels_are_multiplied_by_the_scale_of_their_column(dtype):
    arrays = {
        "layer_1_recurrent_kernel_backward": ROWS.T.astype(dtype),
        "layer_1_recurrent_kernel_scale_backward": SCALE,
    }
    found = load_kernel(arrays, "layer_1_", "_backward")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, ROWS.T.astype(np.float32) * SCALE)
