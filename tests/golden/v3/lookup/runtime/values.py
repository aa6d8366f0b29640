"""What the numbers of a lookup folder must satisfy, for its writer and its reader alike.

The bounds of integer kernels are those that integer arithmetic needs: an engine may multiply them
with states rounded to 14 fractional bits, at most 2**14, and add a column's products in int32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_COLUMN_SUM = 2**17 - 1
"""Times 2**14 it is just below 2**31."""
MAX_INTEGERS = {"int16": 2**15 - 1, "int8": 2**7 - 1}
"""Option to the largest magnitude of an integer: both signs alike, so the lowest is left out."""

_BLOCK = 2**20
"""Numbers looked at together where looking needs a copy."""


def is_finite(array: NDArray[Any]) -> bool:
    """Tell whether an array holds neither NaN nor infinity; integers never do."""
    if array.dtype.kind != "f":
        return True
    if array.dtype.itemsize == 2:
        # As integers: NumPy compares float16 by way of float32, at several times the price.
        bits = array.view(np.uint16)
        rows = max(1, _BLOCK // bits[0].size)
        return all(
            (bits[start : start + rows] & 0x7FFF).max() < 0x7C00
            for start in range(0, len(bits), rows)
        )
    # The extremes carry NaN and infinities along, without a boolean array as large as the table.
    return bool(np.isfinite(array.max()) and np.isfinite(array.min()))


def check_padding_row(table: NDArray[Any]) -> None:
    """Check that padding where a token should be counts as an unknown token.

    Args:
        table: A gate table or its scales.

    Raises:
        ValueError: Rows 0 and 1 differ in a bit.
    """
    if table[0].tobytes() != table[1].tobytes():
        raise ValueError("expected row 0 (padding) equal to row 1 (unknown), found them to differ.")


def check_scale(scale: NDArray[np.float32]) -> None:
    """Check the scales of a compressed array.

    Raises:
        ValueError: One is not above 0.
    """
    if not scale.min() > 0:
        raise ValueError(f"expected scales above 0, found {scale.min()}.")


def check_kernel_integers(kernel: NDArray[Any]) -> None:
    """Check the integers (H, 3H), int16 or int8, of a compressed recurrent kernel.

    Raises:
        ValueError: One is too large, or a column's magnitudes add up to too much.
    """
    limit = MAX_INTEGERS[str(kernel.dtype)]
    if kernel.min() < -limit:
        raise ValueError(f"expected integers from {-limit} to {limit}, found {kernel.min()}.")
    sums = np.abs(kernel).sum(axis=0, dtype=np.int64)  # (3H,)
    if sums.max() > MAX_COLUMN_SUM:
        raise ValueError(
            f"expected columns whose magnitudes add up to at most {MAX_COLUMN_SUM}, found "
            f"{sums.max()} in column {sums.argmax()}."
        )
