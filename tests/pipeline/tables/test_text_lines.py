"""Lines of bounded length."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.tables.row_batch import Reject
from pipeline.tables.source import DataError, SourceConfig
from pipeline.tables.source_bytes import SourceLimits
from pipeline.tables.text_lines import batch_lines, read_lines


def read(path: Path, content: bytes, block_bytes: int = 1024) -> list[tuple[int, str | Reject]]:
    path.write_bytes(content)
    return list(read_lines(SourceConfig(path=path), SourceLimits(block_bytes=block_bytes)))


def test_line_ends_blank_lines_and_a_byte_order_mark_do_not_matter(tmp_path: Path) -> None:
    found = read(tmp_path / "a", b"\xef\xbb\xbfone\r\n\n \t\ntwo words \n\x0cthree")
    assert found == [(1, "one"), (4, "two words "), (5, "\x0cthree")]


def test_undecodable_line_costs_itself_only(tmp_path: Path) -> None:
    found = read(tmp_path / "a", b"one\n\xfftwo\nthree\n")
    reject = Reject(row=2, reason="undecodable_line", sample="\\xfftwo")
    assert found == [(1, "one"), (2, reject), (3, "three")]


@pytest.mark.parametrize("length", [63, 64, 65, 127, 128, 200])
def test_line_that_is_too_long_costs_itself_only(tmp_path: Path, length: int) -> None:
    found = read(tmp_path / "a", b"one\n" + b"x" * length + b"\nthree\n", block_bytes=64)
    long = "x" * length if length < 64 else Reject(row=2, reason="line_too_long", sample="x" * 64)
    assert found == [(1, "one"), (2, long), (3, "three")]


def test_long_line_without_an_end(tmp_path: Path) -> None:
    ((number, reject),) = read(tmp_path / "a", b"x" * 300, block_bytes=64)
    assert (number, isinstance(reject, Reject)) == (1, True)


def test_utf_16_and_nothing_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected UTF-8, found UTF-16\. Save the table as"):
        read(tmp_path / "a", "one\n".encode("utf-16"))
    with pytest.raises(DataError, match=r"expected rows, found an empty file\."):
        read(tmp_path / "a", b"")


def test_batches_are_bounded_by_rows_and_by_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x\n" * 20_000)
    (tmp_path / "b").write_bytes(b"x" * 50 + b"\n" + b"y" * 50 + b"\n")
    rows = [len(batch) for batch in batch_lines(SourceConfig(path=tmp_path / "a"), SourceLimits())]
    assert rows == [8192, 8192, 3616]
    limits = SourceLimits(block_bytes=60)
    rows = [len(batch) for batch in batch_lines(SourceConfig(path=tmp_path / "b"), limits)]
    assert rows == [2, 0]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.binary(max_size=40), max_size=12))
def test_every_line_that_is_not_blank_comes_back(tmp_path: Path, lines: list[bytes]) -> None:
    lines = [b"|" + line.replace(b"\n", b"") for line in lines]
    found = read(tmp_path / "a", b"\n".join([b"first", *lines]), block_bytes=24)
    assert [number for number, _ in found] == list(range(1, len(lines) + 2))
    for line, (_, text) in zip(lines, found[1:], strict=True):
        if isinstance(text, str):
            assert text == line.decode().rstrip("\r")
