from __future__ import annotations

import io
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from export.lookup.arrays import make_aligned, map_array, release_pages, write_array
from export.lookup.config import ArraySpec
from export.lookup.errors import (
    ArrayHeaderError,
    ArrayShapeError,
    ArrayTypeError,
    FileSizeError,
)

SPEC = ArraySpec((3, 4), "<f4")
ARRAY = np.arange(12, dtype=np.float32).reshape(3, 4)


def read(path, spec=SPEC):
    with path.open("rb") as file:
        return map_array(file, path.stat().st_size, spec, "x.npy")


def save(path, array, **options):
    with path.open("wb") as file:
        np.lib.format.write_array(file, array, **options)
    return path


def save_header(path, header: bytes, data: bytes = bytes(48)):
    """Write a version 1.0 file with a header of our own, padded as NumPy does."""
    header += b" " * (-(10 + len(header) + 1) % 64) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data)
    return path


def test_mapping_gives_what_was_written(tmp_path):
    write_array(tmp_path / "x.npy", ARRAY)
    np.testing.assert_array_equal(read(tmp_path / "x.npy"), ARRAY)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy", allow_pickle=False), ARRAY)


@pytest.mark.parametrize("dtype", ["<f4", "<f2", "<i2", "|i1", "|u1", "<u4", "<i4"])
@pytest.mark.parametrize("shape", [(3, 4), (5,), (0,)])
def test_every_type_of_the_format_comes_back(tmp_path, dtype, shape):
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    write_array(tmp_path / "x.npy", array)
    found = read(tmp_path / "x.npy", ArraySpec(shape, dtype))
    assert found.dtype.str == dtype
    np.testing.assert_array_equal(found, array)


def test_writing_puts_any_byte_order_into_little_endian(tmp_path):
    write_array(tmp_path / "x.npy", ARRAY.astype(">f4"))
    np.testing.assert_array_equal(read(tmp_path / "x.npy"), ARRAY)


def test_mapping_is_a_plain_read_only_array(tmp_path):
    write_array(tmp_path / "x.npy", ARRAY)
    array = read(tmp_path / "x.npy")
    assert type(array) is np.ndarray
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1


def test_writing_puts_any_layout_into_c_order(tmp_path):
    write_array(tmp_path / "x.npy", np.asfortranarray(ARRAY))
    np.testing.assert_array_equal(read(tmp_path / "x.npy"), ARRAY)


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (ARRAY.astype(np.float64), "'<f8' in C order"),
        (ARRAY.astype(">f4"), "'>f4' in C order"),
        (ARRAY.astype(np.int32), "'<i4' in C order"),
        (np.asfortranarray(ARRAY), "'<f4' in Fortran order"),
    ],
)
def test_other_types_and_orders_are_refused(tmp_path, array, found):
    path = save(tmp_path / "x.npy", array, version=(1, 0))
    message = (
        f"x.npy: expected dtype '<f4' in C order, found {found}. "
        "Copy the artifact again, or export the run again."
    )
    with pytest.raises(ArrayTypeError, match=re.escape(message)):
        read(path)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("the pickle was loaded",))


def test_pickled_objects_are_refused_without_being_loaded(tmp_path):
    path = save(tmp_path / "x.npy", np.array([Bomb()], dtype=object), version=(1, 0))
    assert b"the pickle was loaded" in path.read_bytes()
    with pytest.raises(ArrayTypeError, match=re.escape("found '|O' in C order")):
        read(path, ArraySpec((1,), "<f4"))


def test_a_bare_pickle_is_no_array(tmp_path):
    path = tmp_path / "x.npy"
    path.write_bytes(pickle.dumps([1.0]))
    with pytest.raises(ArrayHeaderError, match=r"expected a \.npy file of version 1\.0, found it"):
        read(path)


def test_other_npy_versions_are_refused(tmp_path):
    path = save(tmp_path / "x.npy", ARRAY, version=(2, 0))
    with pytest.raises(ArrayHeaderError, match=re.escape(r"begins with b'\x93NUMPY\x02\x00'")):
        read(path)


def test_a_huge_header_is_refused_before_it_is_parsed(tmp_path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }" + b" " * 5000
    path = save_header(tmp_path / "x.npy", header)
    with pytest.raises(ArrayHeaderError, match="header of at most 1024 bytes inside the file, "):
        read(path)


def test_a_header_that_ends_behind_the_file_is_refused(tmp_path):
    path = tmp_path / "x.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00\x76\x00{'descr'")
    with pytest.raises(ArrayHeaderError, match="inside the file, found one of 128"):
        read(path)


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False}",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), 'more': 1}",
        b"{'descr': 'nonsense', 'fortran_order': False, 'shape': (3, 4)}",
        b"{'descr': '<f4', 'fortran_order': 0, 'shape': (3, 4)}",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': [3, 4]}",
        b"__import__('os').getcwd()",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-3, -4), }",
        b"{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (3, 4), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"1" * 800 + b"!), }",
        b"((((((",
        b"\xff\xfe",
    ],
)
def test_malformed_headers_are_refused(tmp_path, header):
    path = save_header(tmp_path / "x.npy", header)
    with pytest.raises(
        ArrayHeaderError, match=r"x\.npy: expected a \.npy header as NumPy writes it, "
    ):
        read(path)


def test_unaligned_data_is_refused(tmp_path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }\n"
    path = tmp_path / "x.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(48))
    with pytest.raises(ArrayHeaderError, match="at a multiple of 64 bytes, found it at 70"):
        read(path)


@pytest.mark.parametrize("shape", [(4, 3), (12,), (3, 4, 1), (2**40, 4), ()])
def test_a_shape_other_than_the_manifests_is_refused(tmp_path, shape):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    path = save_header(tmp_path / "x.npy", header)
    message = f"expected shape (3, 4) from manifest.json, found {shape}."
    with pytest.raises(ArrayShapeError, match=re.escape(message)):
        read(path)


@pytest.mark.parametrize("change", [-1, 1])
def test_cut_off_or_grown_data_is_refused(tmp_path, change):
    path = tmp_path / "x.npy"
    write_array(path, ARRAY)
    data = path.read_bytes()
    path.write_bytes(data[:change] if change < 0 else data + b"\0")
    message = f"expected {len(data)} bytes for shape (3, 4), found {len(data) + change}."
    with pytest.raises(FileSizeError, match=re.escape(message)):
        read(path)


def test_an_empty_file_is_refused():
    with pytest.raises(ArrayHeaderError, match="found it begins with b''"):
        map_array(io.BytesIO(), 0, SPEC, "x.npy")


@pytest.mark.parametrize("shape", [(1,), (7, 3), (129, 384)])
def test_aligned_arrays_start_at_a_cache_line(shape):
    array = make_aligned(shape)
    assert (array.shape, array.dtype) == (shape, np.float32)
    assert array.flags.c_contiguous and array.flags.writeable
    assert array.ctypes.data % 64 == 0


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").is_file(), reason="needs Linux")
def test_released_pages_are_no_memory_of_the_process_and_still_there(tmp_path):
    array = np.arange(2**22, dtype=np.float32).reshape(2**12, -1)  # 16 MB
    write_array(tmp_path / "a.npy", array)
    mapped = read(tmp_path / "a.npy", ArraySpec(array.shape, "<f4"))

    def resident_kb() -> int:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("Rss:")).split()[1])

    assert mapped.sum() > 0
    before = resident_kb()
    release_pages(mapped)
    assert resident_kb() < before - 15_000
    np.testing.assert_array_equal(mapped, array)
    release_pages(array)  # not mapped: nothing to release
