"""Rows of JSON Lines: one object a line.

The parser is the standard library's. pyarrow's streaming JSON reader was tried: at the first bad
line it gives up the rest of the file, and of two objects on one line it makes two rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from pipeline.tables.row_batch import SAMPLE_CHARS, Reject, RowBatch, TableLayout
from pipeline.tables.source import DataError, SourceConfig
from pipeline.tables.source_bytes import SourceLimits
from pipeline.tables.text_lines import batch_lines

_LISTED_KEYS = 20


class _UnusableError(Exception):
    """A line that is no row; its text is the reason."""


def _parse(line: str, layout: TableLayout) -> tuple[str, str]:
    """Return text and label of a line; a label may be a whole number."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as err:
        raise _UnusableError("bad_json") from err
    if not isinstance(record, dict):
        raise _UnusableError("not_an_object")
    text, label = record.get(layout.text_column), record.get(layout.label_column)
    if text is None or label is None:
        raise _UnusableError("missing_text" if text is None else "missing_label")
    if not isinstance(text, str):
        raise _UnusableError("text_is_no_string")
    if type(label) is int:
        label = str(label)
    elif not isinstance(label, str):
        raise _UnusableError("label_is_no_string")
    try:
        f"{text}{label}".encode()
    except UnicodeEncodeError as err:  # half of a surrogate pair, which JSON can escape
        raise _UnusableError("undecodable_line") from err
    return text, label


def _check_keys(source: SourceConfig, layout: TableLayout, batch: RowBatch, line: object) -> None:
    """Raise if not one row of the file's beginning has the keys that were asked for."""
    reasons = {reject.reason for reject in batch.rejects}
    if batch.rows or not reasons or not reasons <= {"missing_text", "missing_label"}:
        return
    keys = ", ".join(repr(key[:50]) for key in list(json.loads(str(line)))[:_LISTED_KEYS])
    raise DataError(
        f"{source}: expected objects with the keys {layout.text_column!r} and "
        f"{layout.label_column!r}, found {keys or 'none'}. Name yours with --text-column and "
        "--label-column."
    )


def read_json_rows(
    source: SourceConfig, layout: TableLayout, limits: SourceLimits
) -> Iterator[RowBatch]:
    """Read JSON Lines in bounded memory.

    Yields:
        Batches in the order of the file, each with the rejects that lie between its rows:
        `bad_json`, `not_an_object`, `missing_text`, `missing_label` (no such key, or null),
        `text_is_no_string`, `label_is_no_string`, and those of `read_lines`.

    Raises:
        DataError: See `read_lines`; or none of the first rows has both keys.
    """
    is_first = True
    for lines in batch_lines(source, limits):
        batch, rejects = RowBatch(), []
        for number, line in lines:
            if isinstance(line, Reject):
                rejects.append(line)
                continue
            try:
                text, label = _parse(line, layout)
            except _UnusableError as err:
                sample = line[:SAMPLE_CHARS]
                rejects.append(Reject(row=number, reason=str(err), sample=sample))
                continue
            batch.rows.append(number)
            batch.texts.append(text)
            batch.labels.append(label)
        batch.rejects = rejects
        if is_first:
            _check_keys(source, layout, batch, lines[0][1] if lines else "")
            is_first = False
        yield batch
