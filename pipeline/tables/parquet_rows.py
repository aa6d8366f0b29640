"""Rows of a Parquet file, by pyarrow, a few at a time.

The sizes a file announces are held against the limits before anything is unpacked, and what comes
out is counted again. A file made to attack its reader can still announce less than it unpacks to
within one page or batch: bound the memory of the process before reading Parquet of strangers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow
from pyarrow import parquet

from pipeline.tables.row_batch import SAMPLE_CHARS, Reject, RowBatch, TableLayout
from pipeline.tables.source import DataError, SourceConfig
from pipeline.tables.source_bytes import SourceLimits, check_size, open_source

_BATCH_ROWS = 1024
_BUFFER_BYTES = 2**20
_METADATA_BYTES = 64 * 2**20
_LISTED_COLUMNS = 20
MAX_ROW_GROUP_BYTES = 2**30
"""Of the two columns, unpacked. Writers' defaults give 2**17 to 2**20 rows, 128 MB and less."""


def _is_text(kind: Any) -> bool:
    types = pyarrow.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    is_string = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    return is_string or types.is_binary(kind) or types.is_large_binary(kind)


def _check_columns(source: SourceConfig, schema: Any, layout: TableLayout) -> None:
    for column in (layout.text_column, layout.label_column):
        count = schema.names.count(column)
        if count != 1:
            shown = ", ".join(repr(name[:50]) for name in schema.names[:_LISTED_COLUMNS])
            found = f"{count} of that name" if count else "none"
            raise DataError(
                f"{source}: expected one column {column!r}, found {found} among {shown}. Name "
                "yours with --text-column and --label-column."
            )
        kind = schema.field(column).type
        is_label = column == layout.label_column
        if not _is_text(kind) and not (is_label and pyarrow.types.is_integer(kind)):
            wanted = "strings or whole numbers" if is_label else "strings"
            raise DataError(
                f"{source}: expected {wanted} in the column {column!r}, found {kind}. Name "
                "another with --text-column or --label-column, or convert it."
            )


def _check_sizes(
    source: SourceConfig, metadata: Any, layout: TableLayout, limits: SourceLimits
) -> None:
    """Hold the unpacked sizes that the file announces for the two columns against the limits."""
    wanted = (layout.text_column, layout.label_column)
    total = 0
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        chunks = [group.column(column) for column in range(group.num_columns)]
        size = sum(chunk.total_uncompressed_size for chunk in chunks if _root(chunk) in wanted)
        if size > MAX_ROW_GROUP_BYTES:
            raise DataError(
                f"{source}: expected row groups of at most {MAX_ROW_GROUP_BYTES} bytes, found "
                f"{size} in the one numbered {index}. Write it again with smaller row groups."
            )
        total += size
    check_size(source, total, source.path.stat().st_size, limits)


def _root(chunk: Any) -> str:
    return str(chunk.path_in_schema).partition(".")[0]


def _decode(cells: Any) -> list[str | bytes | None]:
    """Return a column's texts; bytes where they are not UTF-8, None where there is no value."""
    if pyarrow.types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    if pyarrow.types.is_integer(cells.type):
        return [str(cell) if cell is not None else None for cell in cells.to_pylist()]
    decoded: list[str | bytes | None] = []
    for cell in cells.cast(pyarrow.large_binary()).to_pylist():
        try:
            decoded.append(cell if cell is None else cell.decode())
        except UnicodeDecodeError:
            decoded.append(cell)
    return decoded


def _find_fault(text: str | bytes | None, label: str | bytes | None, max_chars: int) -> str | None:
    if text is None or label is None:
        return "missing_text" if text is None else "missing_label"
    if isinstance(text, bytes) or isinstance(label, bytes):
        return "undecodable_text" if isinstance(text, bytes) else "undecodable_label"
    return "row_too_long" if len(text) + len(label) > max_chars else None


def _show(cell: str | bytes | None) -> str:
    if isinstance(cell, bytes):
        return cell[:SAMPLE_CHARS].decode(errors="backslashreplace")
    return (cell or "")[:SAMPLE_CHARS]


def _batch(block: Any, layout: TableLayout, first: int, limits: SourceLimits) -> RowBatch:
    batch, rejects = RowBatch(), []
    columns = (_decode(block.column(name)) for name in (layout.text_column, layout.label_column))
    for row, (text, label) in enumerate(zip(*columns, strict=True), start=first):
        fault = _find_fault(text, label, limits.block_bytes)
        if fault is None:
            batch.rows.append(row)
            batch.texts.append(str(text))
            batch.labels.append(str(label))
            continue
        sample = " | ".join(map(_show, (text, label)))[:SAMPLE_CHARS]
        rejects.append(Reject(row=row, reason=fault, sample=sample))
    batch.rejects = rejects
    return batch


def read_parquet_rows(
    source: SourceConfig, layout: TableLayout, limits: SourceLimits
) -> Iterator[RowBatch]:
    """Read two columns of a Parquet file in bounded memory.

    Yields:
        Batches in the order of the file, each with the rejects that lie between its rows:
        `missing_text`, `missing_label` (null), `undecodable_text`, `undecodable_label`,
        `row_too_long`.

    Raises:
        DataError: The file is missing or damaged, announces too much, or lacks a usable column.
    """
    if source.member is not None:
        raise DataError(
            f"{source}: expected a table that can be read from front to back, found Parquet in a "
            "ZIP. Unpack it, and name the file with --source."
        )
    open_source(source, limits).close()  # that it is there, and no ZIP and no gzip
    first = 1
    read_bytes = 0
    try:
        with parquet.ParquetFile(
            source.path,
            pre_buffer=False,
            buffer_size=_BUFFER_BYTES,
            thrift_string_size_limit=_METADATA_BYTES,
        ) as file:
            _check_columns(source, file.schema_arrow, layout)
            _check_sizes(source, file.metadata, layout, limits)
            for block in file.iter_batches(
                batch_size=_BATCH_ROWS,
                columns=[layout.text_column, layout.label_column],
                use_threads=False,
            ):
                read_bytes += block.nbytes
                check_size(source, read_bytes, source.path.stat().st_size, limits)
                yield _batch(block, layout, first, limits)
                first += block.num_rows
    except (pyarrow.ArrowException, OSError) as err:
        raise DataError(
            f"{source}: expected a Parquet file, found one that cannot be read at or after row "
            f"{first} ({str(err)[:200]}). Write or copy it again."
        ) from err
