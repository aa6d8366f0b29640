from __future__ import annotations

import csv
import gzip
import io
import json
import random
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from export import text_table
from export.text_table import TextTable, count_blank, open_table, read_slices, read_texts
from export.utf8_stream import TableError


def write_csv(path: Path, rows: list[list[str]], quoting: int = csv.QUOTE_MINIMAL) -> Path:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=quoting).writerows(rows)
    data = text.getvalue().encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def read_rows(source: TextTable, rows: int, folder: Path) -> list[dict[str, Any]]:
    slices = [piece.table for piece in read_slices(source, rows, folder / "rejects")]
    assert all(piece.num_rows == rows for piece in slices[:-1])
    return [row for piece in slices for row in piece.to_pylist()]


def read_rejects(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rejects").read_text().splitlines()]


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(st.tuples(*[st.text(st.characters(codec="utf-8"), max_size=8)] * 2), max_size=20),
    size=st.integers(1, 25),
    packed=st.booleans(),
)
def test_every_cell_of_a_csv_arrives_as_it_was_written(
    tmp_path: Path, rows: list[tuple[str, str]], size: int, packed: bool
) -> None:
    path = write_csv(
        tmp_path / ("t.csv.gz" if packed else "t.csv"),
        [["title", "number"], *map(list, rows)],
        csv.QUOTE_ALL,
    )
    found = read_rows(open_table(path, "title"), size, tmp_path)
    assert [(row["title"], row["number"]) for row in found] == rows
    assert read_rejects(tmp_path) == []


def test_numbers_and_words_for_nothing_stay_text(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", [["title", "id"], ["NA", "007"], ["null", "1e3"]])
    source = open_table(path, "title")
    assert source.schema.types == [pyarrow.string()] * 2
    assert read_rows(source, 9, tmp_path) == [
        {"title": "NA", "id": "007"},
        {"title": "null", "id": "1e3"},
    ]


@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.integers(0, 40),
    size=st.integers(1, 50),
    group=st.integers(1, 20),
    kind=st.sampled_from(["string", "large_string", "string_view", "dictionary", "null"]),
)
def test_a_parquet_file_arrives_with_its_types(
    tmp_path: Path, rows: int, size: int, group: int, kind: str
) -> None:
    type_ = (
        pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
        if kind == "dictionary"
        else getattr(pyarrow, kind)()
    )
    texts = [None if kind == "null" or row % 3 == 0 else f"text {row}" for row in range(rows)]
    plain = pyarrow.array(texts, pyarrow.string() if kind != "null" else pyarrow.null())
    table = pyarrow.table({"title": plain.cast(type_), "list": [[row] for row in range(rows)]})
    parquet.write_table(table, tmp_path / "t.parquet", row_group_size=group)
    source = open_table(tmp_path / "t.parquet", "title")
    slices = [piece.table for piece in read_slices(source, size, tmp_path / "rejects")]
    assert [text for piece in slices for text in read_texts(piece, "title")] == [
        text or "" for text in texts
    ]
    assert sum(count_blank(piece, "title") for piece in slices) == texts.count(None)
    found = pyarrow.concat_tables([source.schema.empty_table(), *slices])
    assert found.to_pylist() == table.to_pylist()


def test_blank_texts_are_null_empty_or_white_space() -> None:
    table = pyarrow.table({"title": ["a", "", None, " \t\n", "\u3000", ".", " b "]})
    assert count_blank(table, "title") == 4
    assert count_blank(table.slice(0, 0), "title") == 0
    assert read_texts(table, "title") == ["a", "", "", " \t\n", "\u3000", ".", " b "]


def test_a_blank_line_is_a_row_where_the_text_is_the_only_column(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("title\na\n\nb\n")
    found = read_rows(open_table(tmp_path / "t.csv", "title"), 9, tmp_path)
    assert [row["title"] for row in found] == ["a", "", "b"]
    (tmp_path / "t.csv").write_text("\ntitle,x\na,1\n\nb,2\n")
    found = read_rows(open_table(tmp_path / "t.csv", "title"), 9, tmp_path)
    assert [row["title"] for row in found] == ["a", "b"]


def test_rows_with_another_number_of_fields_are_kept_apart_whole(tmp_path: Path) -> None:
    long = "x" * 1000
    (tmp_path / "t.csv").write_text(f'title,id\na,1\nb,2,{long}\n"c\nd",3\nonly\ne,4\n')
    found = read_rows(open_table(tmp_path / "t.csv", "title"), 2, tmp_path)
    assert [row["title"] for row in found] == ["a", "c\nd", "e"]
    assert read_rejects(tmp_path) == [
        {"row": 3, "expected": 2, "found": 3, "text": f"b,2,{long}"},
        {"row": 5, "expected": 2, "found": 1, "text": "only"},
    ]


@pytest.mark.parametrize("text", ["title,id", "title,id\n", "\ufefftitle,id\r\n"])
def test_a_header_alone_is_a_table_without_rows(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    source = open_table(tmp_path / "t.csv", "title")
    assert source.schema.names == ["title", "id"]
    assert read_rows(source, 5, tmp_path) == []


def test_a_column_that_is_not_the_text_may_be_there_twice(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", [["x", "title", "x"], ["1", "a", "2"]])
    (piece,) = read_slices(open_table(path, "title"), 5, tmp_path / "rejects")
    assert [column.to_pylist() for column in piece.table.columns] == [["1"], ["a"], ["2"]]


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_the_place_reached_is_that_of_the_rows_not_of_the_reader_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # Ten blocks of ten rows, long beside what gzip reads of a file at once, and hard to compress.
    row_bytes = 40_000
    monkeypatch.setattr(text_table, "BLOCK_BYTES", 10 * row_bytes)
    texts = [random.Random(row).randbytes(row_bytes // 2 - 1).hex() for row in range(100)]
    path = write_csv(tmp_path / name, [["title"], *[[text] for text in texts]])
    pieces = read_slices(open_table(path, "title"), 10, tmp_path / "rejects")
    reached = [piece.bytes_read / path.stat().st_size for piece in pieces]
    assert reached == pytest.approx([count / 10 for count in range(1, 11)], abs=0.11)


def test_the_place_reached_grows_to_the_length_of_the_file(tmp_path: Path) -> None:
    for name in ("t.csv", "t.csv.gz"):
        path = write_csv(tmp_path / name, [["title"], *[[f"text {row}"] for row in range(50)]])
        *_, last = read_slices(open_table(path, "title"), 7, tmp_path / "rejects")
        assert last.bytes_read == path.stat().st_size
    parquet.write_table(pyarrow.table({"title": ["a"] * 50}), tmp_path / "t.parquet")
    source = open_table(tmp_path / "t.parquet", "title")
    *_, last = read_slices(source, 7, tmp_path / "rejects")
    assert last.bytes_read == source.size_bytes


NOT_A_TABLE: list[tuple[str, bytes, str]] = [
    ("t.csv", b"", "t.csv: expected a header, found an empty file."),
    ("t.csv", b"\n\n", "t.csv: expected a header, found an empty file."),
    ("t.csv", "title\na\n".encode("utf-16"), "expected UTF-8, found UTF-16. Save the table as"),
    ("t.csv", b"title\ncaf\xe9\n", "t.csv: expected UTF-8, found the byte 0xe9 in line 2."),
    ("t.csv", b"PK\x03\x04rest", "expected a CSV or Parquet file, found a ZIP. Unpack it first."),
    ("t.csv", b"text,id\n", "expected one column 'title', found none among 'text', 'id'. Name"),
    ("t.csv", b"title,title\n", "expected one column 'title', found 2 of that name among"),
    ("t.csv", b"title;id\n", "found none among 'title;id'. Separate the columns by commas."),
    ("t.csv", b'"' + b"x" * 200_000, "expected a header of short names, found field larger than"),
    ("t.parquet", b"title\n", r"expected Parquet data, found a file that starts with b'titl'\."),
    ("t.gz", b"title\n", r"expected gzip data, found a file that starts with b'titl'\. Copy it"),
    ("t.parquet", b"PAR1title", r"expected a whole Parquet file .* found it damaged \(.+\)\. Copy"),
    (
        "t.csv",
        gzip.compress(b"title\na\n" * 99, mtime=0)[:-9],
        "expected whole gzip data, found it damaged",
    ),
]


@pytest.mark.parametrize(("name", "content", "message"), NOT_A_TABLE)
def test_what_is_no_table_is_refused_when_it_is_opened(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError, match=message):
        open_table(tmp_path / name, "title")


def test_a_place_without_a_readable_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="none: expected a CSV, gzipped CSV or Parquet file, .*no"):
        open_table(tmp_path / "none", "title")
    with pytest.raises(TableError, match="expected a CSV, gzipped CSV .* file, found a folder."):
        open_table(tmp_path, "title")
    with pytest.raises(TableError, match="expected a readable file, found File name too long."):
        open_table(tmp_path / ("x" * 300), "title")


def test_a_column_of_another_type_is_refused(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"title": [1, 2]}), tmp_path / "t.parquet")
    with pytest.raises(
        TableError,
        match="expected text in column 'title', found int64. Name another one with --text-column",
    ):
        open_table(tmp_path / "t.parquet", "title")


def test_a_damaged_middle_is_refused_while_reading(tmp_path: Path) -> None:
    text = pyarrow.array([b"sound"] * 99 + [b"\xff\xfe"])
    table = pyarrow.table(
        {"title": pyarrow.Array.from_buffers(pyarrow.string(), 100, text.buffers())}
    )
    parquet.write_table(table, tmp_path / "t.parquet")
    source = open_table(tmp_path / "t.parquet", "title")
    with pytest.raises(
        TableError,
        match=r"expected a whole Parquet file with UTF-8 text, found it damaged \(.*UTF8",
    ):
        list(read_slices(source, 10, tmp_path / "rejects"))


def test_a_row_larger_than_a_block_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_table, "BLOCK_BYTES", 64)
    (tmp_path / "t.csv").write_text("title,id\n" + "a,1\n" * 20 + '"' + "x," * 200)
    source = open_table(tmp_path / "t.csv", "title")
    with pytest.raises(
        TableError,
        match="expected rows of at most 64 bytes, found a longer one. Probably a quote is opened",
    ):
        list(read_slices(source, 5, tmp_path / "rejects"))


def test_what_stands_above_the_header_of_one_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("\ntitle\na\n")
    source = open_table(tmp_path / "t.csv", "title")
    with pytest.raises(
        TableError,
        match=r"expected the columns \['title'\] in the first line, found \[''\]. Remove what",
    ):
        list(read_slices(source, 5, tmp_path / "rejects"))
