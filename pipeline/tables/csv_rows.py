"""Rows of a CSV, block by block, and a reason for every row that cannot be used.

Parsing is pyarrow's streaming reader, in bounded memory. A byte that is not UTF-8 is marked before
arrow sees it, so that it costs its own row and not the file: arrow itself gives up the whole file
where such a byte stands in a row of the wrong field count.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow
from pyarrow import csv as arrow_csv

from pipeline.tables.row_batch import SAMPLE_CHARS, WIDE_BOMS, Reject, RowBatch, TableLayout
from pipeline.tables.source import DataError, SourceConfig
from pipeline.tables.source_bytes import SourceLimits, open_source

_RUNAWAY_LINES = 20
"""A row of more lines and the wrong field count is a quote that swallowed the rows behind it."""
_HEADER_BYTES = 2**20
_BATCH_ROWS = 8192

_FIRST_MARK = 0x10FE00
"""The undecodable byte b becomes this code point + b, of the last private plane: none has a
meaning there, and a text that holds one of these 128 is taken for undecodable."""
_MARKS = re.compile(f"[{chr(_FIRST_MARK + 0x80)}-{chr(_FIRST_MARK + 0xFF)}]")


def _mark(err: UnicodeError) -> tuple[str, int]:
    if not isinstance(err, UnicodeDecodeError):
        raise err
    wrong = err.object[err.start : err.end]
    return "".join(chr(_FIRST_MARK + byte) for byte in wrong), err.end


codecs.register_error("gatetable_mark", _mark)


def _show(text: str) -> str:
    """Return a sample of a row, marked bytes written in hexadecimal."""
    return _MARKS.sub(lambda mark: f"\\x{ord(mark[0]) - _FIRST_MARK:02x}", text)[:SAMPLE_CHARS]


class _MarkedStream(io.RawIOBase):
    """Passes on UTF-8, with every byte that is none of it marked. For one thread."""

    def __init__(self, inner: io.RawIOBase) -> None:
        self._inner = inner
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="gatetable_mark")
        self._pending = b""
        self._ended = False
        self.has_marks = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        # Arrow wants full blocks: a row may not reach over three, however short they are.
        while len(self._pending) < len(buffer) and not self._ended:
            content = self._inner.read(len(buffer) - len(self._pending)) or b""
            self._ended = not content
            text = self._decoder.decode(content, final=self._ended)
            if not text.isascii() and _MARKS.search(text):
                self.has_marks = True
            self._pending += text.encode()
        given = self._pending[: len(buffer)]
        self._pending = self._pending[len(buffer) :]
        buffer[: len(given)] = given
        return len(given)


def _read_header(source: SourceConfig, layout: TableLayout, limits: SourceLimits) -> list[str]:
    with open_source(source, limits) as stream:
        head = stream.read(min(limits.block_bytes, _HEADER_BYTES)) or b""
    if head.startswith(WIDE_BOMS):
        raise DataError(f"{source}: expected UTF-8, found UTF-16. Save the table as UTF-8.")
    # Rows may hold undecodable bytes, the header's names may not.
    text = head.decode("utf-8-sig", errors="replace")
    for names in csv.reader(io.StringIO(text, newline=""), delimiter=layout.delimiter):
        if names:
            return names
    raise DataError(f"{source}: expected a header and rows, found an empty file.")


def _check_columns(source: SourceConfig, names: Sequence[str], layout: TableLayout) -> None:
    for column in (layout.text_column, layout.label_column):
        if names.count(column) == 1:
            continue
        found = f"{names.count(column)} of that name" if column in names else "none"
        hint = "Name yours with --text-column and --label-column."
        other = next((mark for mark in ",;\t|" if mark in names[0]), None)
        if len(names) == 1 and other is not None:
            hint = f"Name what separates the columns: --delimiter {other!r}."
        shown = ", ".join(repr(name[:50]) for name in names[:20])
        raise DataError(
            f"{source}: expected one column {column!r}, found {found} among {shown}. {hint}"
        )


class _InvalidRows:
    """Collects the rows of a wrong field count while arrow parses ahead."""

    def __init__(self) -> None:
        self.by_row: dict[int, Reject] = {}

    def __call__(self, invalid: Any) -> str:
        lines = invalid.text.count("\n") + 1
        reason = "quote_never_closed" if lines > _RUNAWAY_LINES else "wrong_field_count"
        found = (
            f"{invalid.actual_columns} of {invalid.expected_columns} fields in {lines} line(s): "
            f"{invalid.text[:SAMPLE_CHARS]}"
        )
        self.by_row[invalid.number] = Reject(row=invalid.number, reason=reason, sample=_show(found))
        return "skip"


def _open_table(
    stream: _MarkedStream, layout: TableLayout, invalid: _InvalidRows, limits: SourceLimits
) -> Any:
    columns = [layout.text_column, layout.label_column]
    return arrow_csv.open_csv(
        pyarrow.PythonFile(stream, mode="r"),
        # One thread: only then does the handler learn the row's number.
        read_options=arrow_csv.ReadOptions(use_threads=False, block_size=limits.block_bytes),
        parse_options=arrow_csv.ParseOptions(
            delimiter=layout.delimiter, newlines_in_values=True, invalid_row_handler=invalid
        ),
        convert_options=arrow_csv.ConvertOptions(
            include_columns=columns,
            column_types=dict.fromkeys(columns, pyarrow.string()),
            check_utf8=False,  # the stream is UTF-8 by now
            strings_can_be_null=False,
        ),
    )


def read_csv_rows(
    source: SourceConfig, layout: TableLayout, limits: SourceLimits
) -> Iterator[RowBatch]:
    """Read a CSV with a header in bounded memory; a TSV is one with tabs.

    Yields:
        Batches in the order of the file, each with the rejects that lie between its rows:
        `wrong_field_count`, `quote_never_closed`, `undecodable_text` or `undecodable_label`.

    Raises:
        DataError: The source cannot be opened or is damaged, a column is missing, or one row is
            larger than a block.
    """
    _check_columns(source, _read_header(source, layout, limits), layout)
    invalid = _InvalidRows()
    row = 2
    with open_source(source, limits) as stream:
        marked = _MarkedStream(stream)
        try:
            for block in _open_table(marked, layout, invalid, limits):
                # Slices: a whole block as Python strings takes ten times its own memory.
                for start in range(0, block.num_rows, _BATCH_ROWS):
                    part = block.slice(start, _BATCH_ROWS)
                    batch, row = _batch(part, row, invalid, has_marks=marked.has_marks)
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
    yield RowBatch(rejects=rest)


def _batch(block: Any, row: int, invalid: _InvalidRows, *, has_marks: bool) -> tuple[RowBatch, int]:
    """Return the usable rows of a block, and the number of the row behind it."""
    texts, labels = block.column(0).to_pylist(), block.column(1).to_pylist()
    if not has_marks and not invalid.by_row:
        rows = list(range(row, row + len(texts)))
        return RowBatch(rows=rows, texts=texts, labels=labels), row + len(texts)
    batch, rejects = RowBatch(), []
    for text, label in zip(texts, labels, strict=True):
        while row in invalid.by_row:
            rejects.append(invalid.by_row.pop(row))
            row += 1
        if has_marks and _MARKS.search(text):
            rejects.append(Reject(row=row, reason="undecodable_text", sample=_show(text)))
        elif has_marks and _MARKS.search(label):
            rejects.append(Reject(row=row, reason="undecodable_label", sample=_show(label)))
        else:
            batch.rows.append(row)
            batch.texts.append(text)
            batch.labels.append(label)
        row += 1
    batch.rejects = rejects
    return batch, row
