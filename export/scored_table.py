"""The table that bulk scoring writes: the input's columns, and behind them label and probability.

A part is some rows of it as one Arrow IPC file; the whole is written from the parts as CSV, gzipped
CSV or Parquet. Its bytes follow from its rows alone, not from how they were cut into parts.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from export.utf8_stream import TableError

FORMATS = (".csv.gz", ".csv", ".parquet")
"""Endings of a file that can be written."""
ROW_GROUP_ROWS = 65_536
_GZIP_LEVEL = 6


def find_format(target: Path) -> str:
    """Return the format that a file's name asks for: "csv", "csv.gz" or "parquet".

    Raises:
        TableError: The name has another ending.
    """
    for ending in FORMATS:
        if target.name.lower().endswith(ending):
            return ending[1:]
    raise TableError(
        f"{target}: expected a name that ends in .csv, .csv.gz or .parquet, found "
        f"{target.name!r}. The ending chooses the format."
    )


def make_schema(schema: Any, k: int, target: Path) -> Any:
    """Return the schema of the scored table.

    Args:
        schema: The pyarrow schema of the input.
        k: Pairs of label and probability.
        target: File to be written, whose ending names the format.

    Raises:
        TableError: The input already has one of the new columns, or has columns that the format
            cannot hold.
    """
    for rank in range(1, k + 1):
        for name, kind in (("label", pyarrow.string()), ("probability", pyarrow.float32())):
            if f"{name}_{rank}" in schema.names:
                raise TableError(
                    f"column {name}_{rank!s}: expected a new name, found it in the input. Rename "
                    "the input's column; was this table scored before?"
                )
            schema = schema.append(pyarrow.field(f"{name}_{rank}", kind))
    if find_format(target) == "parquet":
        repeated = sorted({name for name in schema.names if schema.names.count(name) > 1})
        if repeated:
            raise TableError(
                f"{target}: expected columns of distinct names, found {', '.join(repeated)} more "
                "than once. Rename them, or let the name of the output end in .csv."
            )
        return schema
    for field in schema:
        if not _fits_csv(field):
            raise TableError(
                f"{target}: expected columns that a CSV can hold, found {field.name!r} of type "
                f"{field.type}. Let the name of the output end in .parquet."
            )
    return schema


def _fits_csv(field: Any) -> bool:
    """Whether a column can be written as CSV whatever it holds; bytes need not be text."""
    kind = field.type.value_type if pyarrow.types.is_dictionary(field.type) else field.type
    types = pyarrow.types
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return False
    try:
        arrow_csv.CSVWriter(pyarrow.BufferOutputStream(), pyarrow.schema([field])).close()
    except pyarrow.ArrowInvalid:
        return False
    return True


def add_scores(
    table: Any,
    labels: Sequence[str],
    label_ids: npt.NDArray[np.integer],
    probabilities: npt.NDArray[np.float32],
) -> Any:
    """Return a table with label_1, probability_1, ... label_k, probability_k appended.

    Args:
        table: N rows, a pyarrow table.
        labels: Label names in id order.
        label_ids: (N, k), most probable first.
        probabilities: (N, k) float32 of those labels.
    """
    names = pyarrow.array(labels, pyarrow.string())
    for rank in range(label_ids.shape[1]):
        ids = pyarrow.array(np.ascontiguousarray(label_ids[:, rank]))
        values = pyarrow.array(np.ascontiguousarray(probabilities[:, rank]))
        table = table.append_column(f"label_{rank + 1}", names.take(ids))
        table = table.append_column(f"probability_{rank + 1}", values)
    return table


@contextmanager
def publish_file(path: Path, partial: Path) -> Iterator[IO[bytes]]:
    """Give a file to fill under the name `partial`; it appears as `path` when all is on disk."""
    with partial.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_part(path: Path, table: Any) -> None:
    """Write some scored rows; the file is there whole or not at all."""
    with publish_file(path, path.with_name(f".{path.name}.partial")) as file:
        _write_ipc(file, table)


def _write_ipc(sink: Any, table: Any) -> None:
    # The slices of a dictionary column may come with a dictionary each; a file holds one.
    options = pyarrow.ipc.IpcWriteOptions(unify_dictionaries=True)
    with pyarrow.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table)


def read_part(path: Path) -> Any:
    """Return the rows that `write_part` wrote, memory-mapped.

    Raises:
        TableError: The file is damaged.
    """
    try:
        with pyarrow.memory_map(str(path)) as source:
            return pyarrow.ipc.open_file(source).read_all()
    except pyarrow.ArrowException as err:
        raise TableError(
            f"{path}: expected a whole part, found it damaged ({err}). Delete it and run the same "
            "command again."
        ) from err


def pack_table(table: Any) -> bytes:
    """Return a pyarrow table as the bytes of an Arrow IPC file, to be sent somewhere."""
    sink = pyarrow.BufferOutputStream()
    _write_ipc(sink, table)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def unpack_table(packed: bytes) -> Any:
    """Return the pyarrow table that `pack_table` packed."""
    return pyarrow.ipc.open_file(packed).read_all()


def write_table(
    path: Path, partial: Path, schema: Any, tables: Iterable[Any], written: Callable[[Any], None]
) -> None:
    """Write a whole table in the format that `path` ends in.

    Args:
        path: Where to; replaced in one rename.
        partial: Name until then, on the same file system.
        schema: The pyarrow schema of the rows.
        tables: The rows, in tables of that schema.
        written: Given rows, a pyarrow table, once they are written.

    Raises:
        OSError: It cannot be written.
    """
    format_ = find_format(path)
    if format_ == "parquet":
        tables = _gather_row_groups(tables)
    with publish_file(path, partial) as file, _open_writer(file, schema, format_) as write:
        for table in tables:
            write(table)
            written(table)


def _gather_row_groups(tables: Iterable[Any]) -> Iterator[Any]:
    """Yield the same rows in tables of one size and one chunk, which give the same bytes."""
    gathered: list[Any] = []
    rows = 0
    for table in tables:
        gathered.append(table)
        rows += table.num_rows
        while rows >= ROW_GROUP_ROWS:
            table = pyarrow.concat_tables(gathered)
            yield table.slice(0, ROW_GROUP_ROWS).combine_chunks()
            gathered = [table.slice(ROW_GROUP_ROWS)]
            rows -= ROW_GROUP_ROWS
    if rows:
        yield pyarrow.concat_tables(gathered).combine_chunks()


@contextmanager
def _open_writer(file: IO[bytes], schema: Any, format_: str) -> Iterator[Callable[[Any], None]]:
    if format_ == "parquet":
        with parquet.ParquetWriter(file, schema) as writer:
            yield writer.write_table
    elif format_ == "csv":
        with arrow_csv.CSVWriter(file, schema) as writer:
            yield writer.write_table
    else:
        # No name and no time in the header: the same rows give the same bytes.
        with (
            gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0) as packed,
            arrow_csv.CSVWriter(pyarrow.PythonFile(packed, mode="w"), schema) as writer,
        ):
            yield writer.write_table
