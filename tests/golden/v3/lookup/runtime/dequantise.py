"""Compressed arrays back to float32: gate tables row by row, recurrent kernels once at load.

A table stays compressed in memory and on disk; only the rows that a text asks for are turned into
float32. An integer stands for itself times the scale of its row (tables) or column (kernels).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import Float32Array, LookupArrays


class CompressedTable:
    """A gate table of float16, int16 or int8 that gives float32 rows, as a float32 array would.

    Args:
        stored: (V, 3H) as it lies in the file.
        scale: (V,) of a table of integers, None for float16.
    """

    def __init__(self, stored: NDArray[Any], scale: Float32Array | None) -> None:
        self._stored = stored
        self._scale = scale

    def take(
        self,
        ids: NDArray[np.integer],
        axis: int = 0,
        out: Float32Array | None = None,
        mode: str = "clip",
    ) -> Float32Array:
        """Return rows as float32; called like `ndarray.take`, so that nobody has to ask which.

        Args:
            ids: (N,), 0 <= id < V.
            axis: 0.
            out: (N, 3H) to write to; a new array when None.
            mode: "clip": the ids are checked, and this spares a second look.

        Returns:
            (N, 3H).
        """
        rows = self._stored.take(ids, axis, None, "clip")
        if out is None:
            out = np.empty(rows.shape, np.float32)
        if self._scale is None:
            out[...] = rows
        else:
            np.multiply(rows, self._scale.take(ids, 0, None, "clip")[:, None], out)
        return out


def load_table(arrays: LookupArrays, suffix: str) -> Float32Array | CompressedTable:
    """Return the gate table of a direction, `""` or `"_backward"`: itself if it is float32."""
    table = arrays[f"gate_table{suffix}"]
    if table.dtype == np.float32:
        return table
    return CompressedTable(table, arrays.get(f"gate_table_scale{suffix}"))


def load_kernel(arrays: LookupArrays, prefix: str, suffix: str) -> Float32Array:
    """Return a recurrent kernel (H, 3H) as float32: itself if it is stored so."""
    kernel = arrays[f"{prefix}recurrent_kernel{suffix}"]
    if kernel.dtype == np.float32:
        return kernel
    values: Float32Array = kernel * arrays[f"{prefix}recurrent_kernel_scale{suffix}"]
    return values
