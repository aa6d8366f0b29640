"""Arrays in files and in memory: writing a version 1.0 `.npy`, mapping one with distrust.

The header is read by hand up to a small bound and compared with what the manifest's axes call
for before a single page is mapped, so a header cannot ask for memory, name another type or carry
a pickle. Source: the format description in `numpy.lib.format`.
"""

from __future__ import annotations

import math
import mmap
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .config import ArraySpec
from .errors import REMEDY, ArrayHeaderError, ArrayShapeError, ArrayTypeError, FileSizeError

Float32Array = NDArray[np.float32]
LookupArrays = Mapping[str, NDArray[Any]]
"""Manifest name to array, of the shapes and types that `array_specs` gives."""

MAX_HEADER_BYTES = 1024
"""NumPy writes 128 bytes for every shape of ours; a longer header is not ours."""
ALIGNMENT = 64
"""Array data starts at a multiple of this, as NumPy's own padding gives: one cache line."""

_HEADER = re.compile(
    rb"\{'descr': '([!-&(-~]{1,16})', 'fortran_order': (False|True), "
    rb"'shape': \(((?:\d{1,18}, ?){0,3}\d{0,18})\), \} *\n"
)
"""The one form NumPy writes. Its own reader evaluates any Python literal, which is far more."""


def make_aligned(shape: tuple[int, ...]) -> Float32Array:
    """Return an uninitialised array whose data starts at a multiple of `ALIGNMENT` bytes.

    NumPy's own arrays start 16 bytes behind one, where every other vector load of a matrix
    product touches two cache lines: 9 % of its time at H=128.
    """
    size = 4 * math.prod(shape)
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(np.float32).reshape(shape)


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write `array` in its own type, little-endian and in C order; inverse of `map_array`."""
    with path.open("wb") as file:
        np.lib.format.write_array(
            file,
            np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")),
            version=(1, 0),
            allow_pickle=False,
        )


def _read_header(file: IO[bytes], place: str) -> tuple[str, bool, tuple[int, ...]]:
    """Return dtype, whether Fortran order, and shape; leave `file` at the data."""
    head = file.read(MAX_HEADER_BYTES)
    if head[:8] != b"\x93NUMPY\x01\x00":
        raise ArrayHeaderError(
            f"{place}: expected a .npy file of version 1.0, found it begins with {head[:8]!r}. "
            f"{REMEDY}"
        )
    length = 10 + int.from_bytes(head[8:10], "little")
    if length > len(head):
        raise ArrayHeaderError(
            f"{place}: expected a header of at most {MAX_HEADER_BYTES} bytes inside the file, "
            f"found one of {length}. {REMEDY}"
        )
    fields = _HEADER.fullmatch(head[10:length])
    if fields is None:
        raise ArrayHeaderError(
            f"{place}: expected a .npy header as NumPy writes it, found {head[10:80]!r}. {REMEDY}"
        )
    if length % ALIGNMENT:
        raise ArrayHeaderError(
            f"{place}: expected the data at a multiple of {ALIGNMENT} bytes, found it at "
            f"{length}. {REMEDY}"
        )
    file.seek(length)
    dtype, order, sizes = (field.decode("ascii") for field in fields.groups())
    return dtype, order == "True", tuple(int(size) for size in re.findall(r"\d+", sizes))


def map_array(file: IO[bytes], size: int, spec: ArraySpec, place: str) -> NDArray[Any]:
    """Map the array of an open `.npy` read-only after checking its header.

    Args:
        file: The file, open for reading at its start.
        size: Its length in bytes.
        spec: Shape and type that the manifest's axes and options call for.
        place: Its path, for messages.

    Returns:
        A read-only view of the mapped file. It is a plain ndarray: indexing an `np.memmap` costs
        1.3 us a row, a view over it 0.12 us.

    Raises:
        ArrayHeaderError: The header is not one NumPy writes for such an array.
        ArrayTypeError: Another type, or Fortran order.
        ArrayShapeError: Another shape.
        FileSizeError: Data cut off, or followed by something.
    """
    dtype, is_fortran, found = _read_header(file, place)
    if dtype != spec.dtype or is_fortran:
        order = "Fortran" if is_fortran else "C"
        raise ArrayTypeError(
            f"{place}: expected dtype {spec.dtype!r} in C order, found {dtype!r} in {order} "
            f"order. {REMEDY}"
        )
    if found != spec.shape:
        raise ArrayShapeError(
            f"{place}: expected shape {spec.shape} from manifest.json, found {found}. {REMEDY}"
        )
    offset = file.tell()
    expected = offset + spec.size
    if size != expected:
        raise FileSizeError(
            f"{place}: expected {expected} bytes for shape {spec.shape}, found {size}. {REMEDY}"
        )
    if not spec.size:
        return np.empty(spec.shape, spec.dtype)  # no system maps nothing
    return np.asarray(
        np.memmap(file, dtype=np.dtype(spec.dtype), mode="r", offset=offset, shape=spec.shape)
    )


def release_pages(array: NDArray[Any]) -> None:
    """Let the system take back the pages of a mapped array that was only looked through.

    They stay in its file cache, but count no longer as this process's memory: a reader that
    checked 35 MB of tables holds what its texts have asked for.
    """
    owner: Any = array
    while owner is not None and not isinstance(owner, mmap.mmap):
        owner = getattr(owner, "base", None)
    if owner is not None and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)
