"""Rows of a source, whatever its format, and a reason for every row that cannot be used.

The format goes by a file's ending unless it is named. Several files are read one after another.
Leaves out what a row means: cleaning is `pipeline.tables.clean_rows`, splitting `pipeline.prepare`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from pipeline.config import TableFormat
from pipeline.tables.csv_rows import read_csv_rows
from pipeline.tables.fasttext_rows import read_fasttext_rows
from pipeline.tables.json_rows import read_json_rows
from pipeline.tables.parquet_rows import read_parquet_rows
from pipeline.tables.row_batch import Reject, RowBatch, RowReader, TableLayout
from pipeline.tables.source import DataError, Source, SourceConfig
from pipeline.tables.source_bytes import SourceLimits, open_source

__all__ = ["Reject", "RowBatch", "find_format", "read_rows"]

_ENDINGS: dict[str, TableFormat] = {
    "csv": "csv",
    "tsv": "tsv",
    "tab": "tsv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "parquet": "parquet",
    "pq": "parquet",
    "txt": "fasttext",
}
_READERS: dict[TableFormat, RowReader] = {
    "csv": read_csv_rows,
    "tsv": read_csv_rows,
    "jsonl": read_json_rows,
    "parquet": read_parquet_rows,
    "fasttext": read_fasttext_rows,
}
_DELIMITERS: dict[TableFormat, str] = {"csv": ",", "tsv": "\t"}


def find_format(source: SourceConfig) -> TableFormat:
    """Return the format that a file's ending tells, a further `.gz` aside.

    Raises:
        DataError: The ending is none we know, or there is no such file.
    """
    name = source.file_name.lower().removesuffix(".gz")
    found = _ENDINGS.get(name.rpartition(".")[2]) if "." in name else None
    if found is None:
        open_source(source).close()  # that the file is missing or a ZIP is the better message
        known = ", ".join(f".{ending}" for ending in _ENDINGS)
        raise DataError(
            f"{source}: expected a name that ends in {known}, perhaps with .gz behind it, found "
            f"{source.file_name!r}. Name its format, such as --format csv."
        )
    return found


def read_rows(
    source: Source,
    *,
    text_column: str,
    label_column: str,
    format: TableFormat | None = None,
    delimiter: str | None = None,
    label_prefix: str = "__label__",
    limits: SourceLimits | None = None,
) -> Iterator[RowBatch]:
    """Read a table in bounded memory.

    Args:
        source: Which table.
        text_column: Name of the text's column or key.
        label_column: Name of the label's column or key.
        format: What the files are; None goes by their endings.
        delimiter: Between the columns of a CSV; None is the format's own.
        label_prefix: Begins the label of a `fasttext` line.
        limits: Bounds on size, ratio and one block of rows.

    Yields:
        Batches in the order of the files, each with the rejects that lie between its rows. The
        readers name their reasons.

    Raises:
        DataError: A file cannot be opened or is damaged, is not of its format, lacks a column, or
            holds a row that is larger than a block.
    """
    limits = limits or SourceLimits()
    for file in source.files:
        found = format or find_format(file)
        if delimiter is not None and found not in _DELIMITERS:
            raise DataError(
                f"{file}: expected a CSV where --delimiter is given, found {found}. Leave it out."
            )
        layout = TableLayout(
            text_column=text_column,
            label_column=label_column,
            delimiter=delimiter or _DELIMITERS.get(found, ","),
            label_prefix=label_prefix,
        )
        name = source.name_file(file)
        for batch in _READERS[found](file, layout, limits):
            batch.file = name
            batch.rejects = [dataclasses.replace(reject, file=name) for reject in batch.rejects]
            yield batch
