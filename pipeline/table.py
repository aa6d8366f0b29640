"""Rows of a CSV, block by block, and a reason for every row that cannot be used.

Parsing is pyarrow's streaming reader, in bounded memory. Cells stay bytes until here, so that an
undecodable one costs its own row and not the file. Leaves out what a row means: cleaning and
splitting are `pipeline.prepare`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow
from pyarrow import csv as arrow_csv

from pipeline.source import DataError, SourceConfig, SourceLimits, open_source

SAMPLE_CHARS = 200
"""A reject shows so much of its row."""

_RUNAWAY_LINES = 20
"""A row of more lines and the wrong field count is a quote that swallowed the rows behind it."""
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, kw_only=True)
class Reject:
    """A row that was not used.

    Attributes:
        row: Number of the record, the header being 1; blank lines do not count.
        reason: Short machine-readable cause.
        sample: Beginning of the row or of the cell.
    """

    row: int
    reason: str
    sample: str


@dataclass(frozen=True, kw_only=True)
class RowBatch:
    """Some rows in their order: `rows` (numbers as in `Reject`), `texts`, `labels`, one each."""

    rows: Sequence[int]
    texts: Sequence[str]
    labels: Sequence[str]
    rejects: Sequence[Reject]


def _read_header(source: SourceConfig, limits: SourceLimits) -> list[str]:
    with open_source(source, limits) as stream:
        head = stream.read(min(limits.block_bytes, 2**20)) or b""
    if head.startswith(_WIDE_BOMS):
        raise DataError(f"{source}: expected UTF-8, found UTF-16. Save the table as UTF-8.")
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Rows may hold undecodable bytes, the header's names may not.
        text = head.decode("utf-8-sig", errors="replace")
    for names in csv.reader(io.StringIO(text, newline="")):
        if names:
            return names
    raise DataError(f"{source}: expected a header and rows, found an empty file.")


def _check_columns(source: SourceConfig, names: Sequence[str], wanted: Sequence[str]) -> None:
    for column in wanted:
        if names.count(column) == 1:
            continue
        found = f"{names.count(column)} of that name" if column in names else "none"
        hint = "Name yours with --text-column and --label-column."
        if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
            hint = "Separate the columns by commas."
        shown = ", ".join(repr(name[:50]) for name in names[:20])
        raise DataError(
            f"{source}: expected one column {column!r}, found {found} among {shown}. {hint}"
        )


def _decode(cells: Any) -> list[str | None]:
    """Return the texts of a binary arrow array, None for the undecodable."""
    try:
        return list(cells.cast(pyarrow.string()).to_pylist())
    except pyarrow.ArrowInvalid:
        decoded: list[str | None] = []
        for cell in cells.to_pylist():
            try:
                decoded.append(cell.decode())
            except UnicodeDecodeError:
                decoded.append(None)
        return decoded


class _InvalidRows:
    """Collects the rows of a wrong field count while arrow parses ahead."""

    def __init__(self) -> None:
        self.by_row: dict[int, Reject] = {}

    def __call__(self, invalid: Any) -> str:
        lines = invalid.text.count("\n") + 1
        reason = "quote_never_closed" if lines > _RUNAWAY_LINES else "wrong_field_count"
        found = (
            f"{invalid.actual_columns} of {invalid.expected_columns} fields in {lines} line(s): "
            f"{invalid.text}"
        )
        self.by_row[invalid.number] = Reject(
            row=invalid.number, reason=reason, sample=found[:SAMPLE_CHARS]
        )
        return "skip"


def _open_table(
    stream: Any, columns: Sequence[str], invalid: _InvalidRows, limits: SourceLimits
) -> Any:
    return arrow_csv.open_csv(
        pyarrow.PythonFile(stream, mode="r"),
        # One thread: only then does the handler learn the row's number.
        read_options=arrow_csv.ReadOptions(use_threads=False, block_size=limits.block_bytes),
        parse_options=arrow_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=invalid),
        convert_options=arrow_csv.ConvertOptions(
            include_columns=list(columns),
            column_types={column: pyarrow.binary() for column in columns},
            check_utf8=False,
            strings_can_be_null=False,
        ),
    )


def read_rows(
    source: SourceConfig,
    *,
    text_column: str,
    label_column: str,
    limits: SourceLimits | None = None,
) -> Iterator[RowBatch]:
    """Read a table in bounded memory.

    Args:
        source: Which table.
        text_column: Name of the text's column.
        label_column: Name of the label's column.
        limits: Bounds on size, ratio and one block of rows.

    Yields:
        Batches in the order of the file, each with the rejects that lie between its rows:
        `wrong_field_count`, `quote_never_closed`, `undecodable_text` or `undecodable_label`.

    Raises:
        DataError: The source cannot be opened or is damaged, a column is missing, or one row is
            larger than a block.
    """
    limits = limits or SourceLimits()
    columns = (text_column, label_column)
    _check_columns(source, _read_header(source, limits), columns)
    invalid = _InvalidRows()
    row = 2
    with open_source(source, limits) as stream:
        try:
            table = _open_table(stream, columns, invalid, limits)
            for block in table:
                batch, row = _batch(block, row, invalid)
                yield batch
        except pyarrow.ArrowInvalid as err:
            if "Empty CSV" in str(err):
                raise DataError(f"{source}: expected rows below the header, found none.") from err
            if "straddles two block" not in str(err):
                raise DataError(f"{source}: expected a CSV, found {err}.") from err
            raise DataError(
                f"{source}: expected rows of at most {limits.block_bytes} bytes, found a longer "
                f"one at or after row {row}. Probably a quote is opened there and never closed."
            ) from err
        rest = sorted(invalid.by_row.values(), key=lambda reject: reject.row)
    yield RowBatch(rows=(), texts=(), labels=(), rejects=rest)


def _batch(block: Any, row: int, invalid: _InvalidRows) -> tuple[RowBatch, int]:
    """Return the usable rows of a block, and the number of the row behind it."""
    rows: list[int] = []
    texts: list[str] = []
    labels: list[str] = []
    rejects: list[Reject] = []
    cells = [_decode(block.column(0)), _decode(block.column(1))]
    for index, (text, label) in enumerate(zip(*cells, strict=True)):
        while row in invalid.by_row:
            rejects.append(invalid.by_row.pop(row))
            row += 1
        if text is None or label is None:
            reason, column = ("undecodable_text", 0) if text is None else ("undecodable_label", 1)
            sample = block.column(column)[index].as_py()[:SAMPLE_CHARS]
            rejects.append(
                Reject(row=row, reason=reason, sample=sample.decode(errors="backslashreplace"))
            )
        else:
            rows.append(row)
            texts.append(text)
            labels.append(label)
        row += 1
    return RowBatch(rows=rows, texts=texts, labels=labels, rejects=rejects), row
