from __future__ import annotations

import re

import numpy as np
import pytest

from export.lookup import values
from export.lookup.values import (
    check_kernel_integers,
    check_padding_row,
    check_scale,
    is_finite,
)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 7, 11])
def test_a_value_that_is_not_finite_is_found_anywhere(dtype, value, place, monkeypatch):
    monkeypatch.setattr(values, "_BLOCK", 5)
    array = np.full((4, 3), -60_000, dtype)
    assert is_finite(array)
    array.reshape(-1)[place] = value
    assert not is_finite(array)


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
def test_integers_are_finite(dtype):
    assert is_finite(np.full(3, np.iinfo(dtype).min, dtype))


@pytest.mark.parametrize("value", [0, -1, np.nan])
def test_scales_not_above_zero_are_refused(value):
    check_scale(np.float32([1e-30, 1]))
    with pytest.raises(ValueError, match=rf"expected scales above 0, found {value}"):
        check_scale(np.float32([1, value]))


@pytest.mark.parametrize(("dtype", "limit"), [(np.int16, 32767), (np.int8, 127)])
def test_kernel_integers_have_the_same_bound_on_both_sides(dtype, limit):
    kernel = np.zeros((3, 6), dtype)
    kernel[1, 2:4] = limit, -limit
    check_kernel_integers(kernel)
    kernel[1, 2] = -limit - 1
    message = f"expected integers from {-limit} to {limit}, found {-limit - 1}."
    with pytest.raises(ValueError, match=re.escape(message)):
        check_kernel_integers(kernel)


def test_kernel_columns_may_add_up_to_what_int32_can_hold():
    kernel = np.zeros((5, 6), np.int16)
    kernel[:, 4] = (32767, -32767, 32767, -32767, 3)
    check_kernel_integers(kernel)
    assert np.abs(kernel[:, 4].astype(np.int64)).sum() * 2**14 < 2**31
    kernel[4, 4] = -4
    message = "expected columns whose magnitudes add up to at most 131071, found 131072 in column 4"
    with pytest.raises(ValueError, match=re.escape(message)):
        check_kernel_integers(kernel)


@pytest.mark.parametrize("shape", [(3,), (3, 4)])
def test_the_padding_row_is_the_unknown_row_to_the_bit(shape):
    table = np.zeros(shape, np.float32)
    check_padding_row(table)
    table[0] = -0.0
    message = "expected row 0 (padding) equal to row 1 (unknown), found them to differ."
    with pytest.raises(ValueError, match=re.escape(message)):
        check_padding_row(table)
