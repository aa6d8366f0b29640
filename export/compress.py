"""Smaller arrays for the lookup folder, in NumPy alone: half floats and scaled integers.

Gate tables are compressed row by row, because a row is what a token reads: float16, or int16 and
int8 with one scale a row. Recurrent kernels are compressed column by column, because a column's
products are added up: int16 and int8 with one scale a column. A stored integer stands for itself
times its scale. What the options cost is measured by `export/compression.py`; none is the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.lookup import LookupConfig
from export.lookup.values import MAX_COLUMN_SUM, MAX_INTEGERS

CHUNK_ROWS = 4096
"""Rows of a table compressed at a time, as in `export/fold.py`: 25 MB of float64 at H=256."""
_FLOAT16_MAX = float(np.finfo(np.float16).max)
_SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
"""Below, a scale would lose digits or become 0; integers times it differ from 0 by nothing."""


def _round_scale(scale: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return usable scales: 1 where all values are 0, never below what float32 holds in full."""
    return np.where(scale > 0, np.maximum(scale, _SMALLEST_SCALE), 1.0).astype(np.float32)


def compress_rows(
    rows: NDArray[np.floating], option: str
) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
    """Compress rows of a gate table.

    Args:
        rows: (N, 3H), float64 where there is a choice: everything is rounded once.
        option: `float16`, `int16` or `int8`.

    Returns:
        The rows in that type, and for integers the scales (N,), such that the largest value of a
        row becomes the largest integer. Values beyond float16's range become its largest: gates
        have saturated long before.
    """
    if option == "float16":
        return np.clip(rows, -_FLOAT16_MAX, _FLOAT16_MAX).astype(np.float16), None
    scale = _round_scale(np.abs(rows).max(axis=1).astype(np.float64) / MAX_INTEGERS[option])
    return np.rint(rows / scale[:, None].astype(np.float64)).astype(option), scale


def compress_columns(
    kernel: NDArray[np.floating], option: str
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Compress a recurrent kernel.

    Args:
        kernel: (H, 3H).
        option: `int16` or `int8`.

    Returns:
        The kernel as integers, and the scales (3H,). The magnitudes of a column add up to at most
        `MAX_COLUMN_SUM`, so that its products with 14-bit states cannot overflow int32.
    """
    magnitudes = np.abs(kernel).astype(np.float64)
    # Rounding may add a half to each integer of a column.
    room = MAX_COLUMN_SUM - kernel.shape[0] / 2
    scale = _round_scale(
        np.maximum(magnitudes.max(axis=0) / MAX_INTEGERS[option], magnitudes.sum(axis=0) / room)
    )
    return np.rint(kernel / scale.astype(np.float64)).astype(option), scale


def compress_arrays(
    arrays: Mapping[str, NDArray[np.floating]], config: LookupConfig
) -> dict[str, NDArray[Any]]:
    """Return a lookup folder's arrays as the options of `config` store them.

    Args:
        arrays: Every array of the exact folder by its manifest name; gate tables float64 where
            they exist so, for they are rounded here.
        config: Shape and options.

    Returns:
        The arrays by manifest name, scales added.
    """
    stored: dict[str, NDArray[Any]] = {}
    for name, array in arrays.items():
        if name.startswith("gate_table") and config.table_dtype != "float32":
            chunks = [
                compress_rows(array[start : start + CHUNK_ROWS], config.table_dtype)
                for start in range(0, len(array), CHUNK_ROWS)
            ]
            stored[name] = np.concatenate([rows for rows, _ in chunks])
            scales = [scale for _, scale in chunks if scale is not None]
            if scales:
                stored[name.replace("gate_table", "gate_table_scale")] = np.concatenate(scales)
        elif "recurrent_kernel" in name and config.recurrent_dtype != "float32":
            stored[name], scale = compress_columns(array, config.recurrent_dtype)
            stored[name.replace("recurrent_kernel", "recurrent_kernel_scale")] = scale
        else:
            stored[name] = array.astype(np.float32, copy=False)
    return stored
