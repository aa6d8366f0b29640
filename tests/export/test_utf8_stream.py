from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.utf8_stream import TableError, Utf8Stream

PLACE = Path("titles.csv")


def read_in_pieces(data: bytes, size: int) -> bytes:
    stream = Utf8Stream(io.BytesIO(data), PLACE)
    return b"".join(iter(lambda: stream.read(size) or b"", b""))


@settings(deadline=None)
@given(text=st.text(), size=st.integers(1, 20))
def test_utf8_passes_unchanged_however_it_is_cut(text: str, size: int) -> None:
    assert read_in_pieces(text.encode(), size) == text.encode()


@settings(deadline=None)
@given(data=st.binary(max_size=40), size=st.integers(1, 20))
def test_exactly_the_undecodable_is_refused(data: bytes, size: int) -> None:
    try:
        data.decode()
    except UnicodeDecodeError as err:
        line = data[: err.start].count(b"\n") + 1
        with pytest.raises(TableError, match=rf"the byte 0x{data[err.start]:02x} in line {line}\."):
            read_in_pieces(data, size)
    else:
        assert read_in_pieces(data, size) == data


def test_a_character_that_ends_with_the_file_is_refused() -> None:
    with pytest.raises(
        TableError,
        match="titles.csv: expected UTF-8, found the byte 0xed in line 2. Save the table as UTF-8.",
    ):
        read_in_pieces("a\n한".encode()[:-1], 3)


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damaged_gzip_data_is_refused(damage: str) -> None:
    packed = bytearray(gzip.compress(b"title\n" + b"a text\n" * 1000))
    if damage == "cut":
        del packed[-10:]
    else:
        packed[-6] ^= 0xFF
    stream = Utf8Stream(gzip.GzipFile(fileobj=io.BytesIO(packed)), PLACE)
    with pytest.raises(
        TableError,
        match=r"titles.csv: expected whole gzip data, found it damaged near line \d+ \(.+\)\. "
        "Copy or download the file again.",
    ):
        while stream.read(1000):
            pass


def test_the_place_is_told_in_bytes_of_the_stream_and_of_the_file_beneath(tmp_path: Path) -> None:
    (tmp_path / "t.gz").write_bytes(gzip.compress(b"a\n" * 1000))
    with (tmp_path / "t.gz").open("rb") as raw:
        stream = Utf8Stream(gzip.GzipFile(fileobj=raw), PLACE, raw)
        assert stream.place == (0, 0)
        stream.read(1500)
        assert stream.place == (1500, (tmp_path / "t.gz").stat().st_size)
    plain = Utf8Stream(io.BytesIO(b"a\n" * 1000), PLACE)
    plain.read(1500)
    assert plain.place == (1500, 1500)
