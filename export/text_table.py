"""The table that bulk scoring reads: CSV, gzipped CSV or Parquet, slice by slice.

Every column of a CSV is text here, so that `007` stays `007`; columns of a Parquet file keep their
types. Memory is bounded by one block of CSV, or what one Parquet row group needs, and the slice
that is being gathered. What becomes of the slices is `export.score` and `export.scored_table`.

The pipeline has readers of its own, in `pipeline.tables`: they give two columns of a table as
Python strings and turn undecodable cells into rejects. This one carries every column through.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow
from pyarrow import compute, parquet
from pyarrow import csv as arrow_csv

from export.utf8_stream import TableError, Utf8Stream

BLOCK_BYTES = 2 * 2**20
"""One block of CSV, so also the bound on one row. Arrow reads several ahead: at 8 MiB that took
twice the memory and no less time."""
_PARQUET_BATCH_ROWS = 8_192
_PARQUET_BUFFER_BYTES = 2**20
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff")
_STRAY_SEPARATORS = ";\t|"


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """A table on disk with a column of text.

    Attributes:
        path: Where it lies.
        format: "csv", "csv.gz" or "parquet", told by its first bytes and not by its name.
        text_column: Name of the text's column.
        schema: The pyarrow schema of all its columns.
        size_bytes: Length of the file.
    """

    path: Path
    format: str
    text_column: str
    schema: Any
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class TableSlice:
    """Some rows in the order of the file.

    Attributes:
        table: The rows, a pyarrow table.
        bytes_read: So much of the file has been read, for a progress bar.
    """

    table: Any
    bytes_read: int


@contextmanager
def _open_csv(path: Path, format_: str) -> Iterator[Utf8Stream]:
    """Give the checked, decompressed bytes."""
    with path.open("rb") as raw:
        inner = gzip.GzipFile(fileobj=raw) if format_ == "csv.gz" else raw
        with closing(Utf8Stream(inner, path, raw)) as stream:
            yield stream


def _detect_format(path: Path) -> str:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except IsADirectoryError as err:
        raise TableError(
            f"{path}: expected a CSV, gzipped CSV or Parquet file, found a folder."
        ) from err
    except FileNotFoundError as err:
        raise TableError(
            f"{path}: expected a CSV, gzipped CSV or Parquet file, found no such file."
        ) from err
    except OSError as err:
        raise TableError(f"{path}: expected a readable file, found {err.strerror}.") from err
    if magic == b"PAR1":
        return "parquet"
    if magic.startswith(b"\x1f\x8b"):
        return "csv.gz"
    if magic.startswith(_WIDE_BOMS):
        raise TableError(f"{path}: expected UTF-8, found UTF-16. Save the table as UTF-8.")
    for ending, kind in ((".parquet", "Parquet"), (".gz", "gzip")):
        if path.name.lower().endswith(ending):
            raise TableError(
                f"{path}: expected {kind} data, found a file that starts with {magic!r}. Copy it "
                "again, or rename it if it is a plain CSV."
            )
    if magic == b"PK\x03\x04":
        raise TableError(f"{path}: expected a CSV or Parquet file, found a ZIP. Unpack it first.")
    return "csv"


def _read_csv_schema(path: Path, format_: str) -> Any:
    with _open_csv(path, format_) as stream:
        head = stream.read(BLOCK_BYTES) or b""
    # A row cut off in mid-character is not in the header.
    text = head.decode("utf-8-sig", errors="ignore")
    try:
        for names in csv.reader(io.StringIO(text, newline="")):
            if names:
                return pyarrow.schema([(name, pyarrow.string()) for name in names])
    except csv.Error as err:
        raise TableError(
            f"{path}: expected a header of short names, found {err}. Probably a quote is opened "
            "in the first line and never closed."
        ) from err
    raise TableError(f"{path}: expected a header, found an empty file.")


def _check_text_column(path: Path, schema: Any, column: str) -> None:
    names = list(schema.names)
    if names.count(column) != 1:
        found = f"{names.count(column)} of that name" if column in names else "none"
        hint = "Name yours with --text-column."
        if len(names) == 1 and any(mark in names[0] for mark in _STRAY_SEPARATORS):
            hint = "Separate the columns by commas."
        shown = ", ".join(repr(name[:50]) for name in names[:20])
        raise TableError(
            f"{path}: expected one column {column!r}, found {found} among {shown}. {hint}"
        )
    kind = schema.field(column).type
    if pyarrow.types.is_dictionary(kind):
        kind = kind.value_type
    if not any(
        check(kind)
        for check in (
            pyarrow.types.is_string,
            pyarrow.types.is_large_string,
            pyarrow.types.is_string_view,
            pyarrow.types.is_null,
        )
    ):
        raise TableError(
            f"{path}: expected text in column {column!r}, found {kind}. Name another one with "
            "--text-column, or write the column as strings."
        )


@contextmanager
def _open_parquet(path: Path) -> Iterator[Any]:
    """Open a Parquet file for reading a piece at a time; errors inside are told as damage."""
    try:
        # Without a buffer, or with pre-buffering, whole column chunks are held at once.
        with parquet.ParquetFile(path, pre_buffer=False, buffer_size=_PARQUET_BUFFER_BYTES) as file:
            yield file
    except (pyarrow.ArrowException, OSError) as err:
        raise TableError(
            f"{path}: expected a whole Parquet file with UTF-8 text, found it damaged "
            f"({str(err).strip()}). Copy or write the file again."
        ) from err


def open_table(path: Path, text_column: str) -> TextTable:
    """Look at a table: its format, its columns, and whether the text's column is there.

    Raises:
        TableError: It cannot be read, or has no such column of text.
    """
    format_ = _detect_format(path)
    if format_ == "parquet":
        with _open_parquet(path) as file:
            schema = file.schema_arrow
    else:
        schema = _read_csv_schema(path, format_)
    _check_text_column(path, schema, text_column)
    return TextTable(
        path=path,
        format=format_,
        text_column=text_column,
        schema=schema,
        size_bytes=path.stat().st_size,
    )


def read_slices(source: TextTable, rows: int, rejects: Path) -> Iterator[TableSlice]:
    """Read a table in slices of `rows` rows; only the last may have fewer.

    Args:
        source: Which table.
        rows: Rows of a slice, at least 1.
        rejects: Written anew with the rows of a CSV that have another number of fields than its
            header, one JSON object a line: `row` (the header being 1, blank lines not counted),
            `expected` and `found` fields, and the whole `text`.

    Yields:
        The slices in the order of the file.

    Raises:
        TableError: The file is damaged or not UTF-8, or one row is larger than a block.
        OSError: `rejects` cannot be written.
    """
    with rejects.open("w", encoding="utf-8") as file:
        blocks = _read_parquet(source) if source.format == "parquet" else _read_csv(source, file)
        gathered: list[Any] = []
        count = bytes_read = 0
        for block, bytes_read in blocks:
            gathered.append(block)
            count += block.num_rows
            while count >= rows:
                table = pyarrow.Table.from_batches(gathered)
                yield TableSlice(table=table.slice(0, rows), bytes_read=bytes_read)
                gathered = table.slice(rows).to_batches()
                count -= rows
        if count:
            yield TableSlice(table=pyarrow.Table.from_batches(gathered), bytes_read=bytes_read)


def read_texts(table: Any, column: str) -> list[str]:
    """Return the texts of a slice, "" where there is none."""
    texts: list[str] = table.column(column).cast(pyarrow.string()).fill_null("").to_pylist()
    return texts


def count_blank(table: Any, column: str) -> int:
    """Return how many texts of a slice are null, empty or nothing but white space."""
    texts = table.column(column).cast(pyarrow.string()).fill_null("")
    trimmed = compute.utf8_trim_whitespace(texts)
    blank: int = len(trimmed) - (compute.sum(compute.not_equal(trimmed, "")).as_py() or 0)
    return blank


def _read_parquet(source: TextTable) -> Iterator[tuple[Any, int]]:
    with _open_parquet(source.path) as file:
        rows = 0
        for batch in file.iter_batches(batch_size=_PARQUET_BATCH_ROWS):
            # Strings of a Parquet file are taken on trust until here.
            batch.column(batch.schema.get_field_index(source.text_column)).validate(full=True)
            rows += batch.num_rows
            yield batch, source.size_bytes * rows // file.metadata.num_rows


def _read_csv(source: TextTable, rejects: IO[str]) -> Iterator[tuple[Any, int]]:
    invalid: list[Any] = []

    def skip(row: Any) -> str:
        invalid.append(row)
        return "skip"

    names = source.schema.names
    with _open_csv(source.path, source.format) as stream:
        try:
            blocks = arrow_csv.open_csv(
                pyarrow.PythonFile(stream, mode="r"),
                # One thread: only then does the handler learn the row's number.
                read_options=arrow_csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
                parse_options=arrow_csv.ParseOptions(
                    newlines_in_values=True,
                    invalid_row_handler=skip,
                    # In a table of one column a blank line is a row without text.
                    ignore_empty_lines=len(names) > 1,
                ),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pyarrow.string()),
                    check_utf8=False,  # the stream has
                    strings_can_be_null=False,
                ),
            )
            if blocks.schema.names != names:
                raise TableError(
                    f"{source.path}: expected the columns {names} in the first line, found "
                    f"{blocks.schema.names}. Remove what stands above the header."
                )
            for count, block in enumerate(blocks, 1):
                _write_rejects(rejects, invalid)
                # Arrow is several blocks ahead, in a short file at its end.
                passed, place = stream.place
                yield block, int(place * min(1.0, count * BLOCK_BYTES / passed))
        except pyarrow.ArrowInvalid as err:
            if "straddl" in str(err):
                raise TableError(
                    f"{source.path}: expected rows of at most {BLOCK_BYTES} bytes, found a longer "
                    "one. Probably a quote is opened and never closed."
                ) from err
            # Arrow calls a header without a line break behind it an empty file.
            if "Empty CSV" not in str(err):
                raise TableError(f"{source.path}: expected a CSV, found {err}.") from err
        _write_rejects(rejects, invalid)


def _write_rejects(rejects: IO[str], invalid: list[Any]) -> None:
    for row in invalid:
        record = {
            "row": row.number,
            "expected": row.expected_columns,
            "found": row.actual_columns,
            "text": row.text,
        }
        rejects.write(json.dumps(record, ensure_ascii=False) + "\n")
    invalid.clear()
