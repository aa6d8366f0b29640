"""Lines of a file, each of bounded length.

What the formats of one row a line are read from; a line that is too long costs itself only.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

from pipeline.tables.row_batch import SAMPLE_CHARS, WIDE_BOMS, Reject
from pipeline.tables.source import DataError, SourceConfig
from pipeline.tables.source_bytes import SourceLimits, open_source

_BOM = b"\xef\xbb\xbf"
_BUFFER_BYTES = 2**20
_BATCH_LINES = 8192


def read_lines(source: SourceConfig, limits: SourceLimits) -> Iterator[tuple[int, str | Reject]]:
    """Read a file line by line; lines that hold nothing but blanks are left out.

    Yields:
        The line's number from 1, and the line without its end, or why it cannot be used:
        `line_too_long` or `undecodable_line`.

    Raises:
        DataError: The source cannot be opened, is damaged, is UTF-16, or is empty.
    """
    number = 0
    with (
        open_source(source, limits) as raw,
        io.BufferedReader(raw, buffer_size=_BUFFER_BYTES) as stream,
    ):
        if stream.peek(2).startswith(WIDE_BOMS):
            raise DataError(f"{source}: expected UTF-8, found UTF-16. Save the table as UTF-8.")
        while line := stream.readline(limits.block_bytes):
            number += 1
            if number == 1:
                line = line.removeprefix(_BOM)
            if len(line) >= limits.block_bytes and not line.endswith(b"\n"):
                while (rest := stream.readline(limits.block_bytes)) and not rest.endswith(b"\n"):
                    pass
                yield number, _reject(number, "line_too_long", line)
                continue
            try:
                text = line.decode().rstrip("\r\n")
            except UnicodeDecodeError:
                yield number, _reject(number, "undecodable_line", line)
                continue
            if text and not text.isspace():
                yield number, text
    if not number:
        raise DataError(f"{source}: expected rows, found an empty file.")


def _reject(number: int, reason: str, line: bytes) -> Reject:
    sample = line[: 4 * SAMPLE_CHARS].decode(errors="backslashreplace").rstrip("\r\n")
    return Reject(row=number, reason=reason, sample=sample[:SAMPLE_CHARS])


def batch_lines(
    source: SourceConfig, limits: SourceLimits
) -> Iterator[list[tuple[int, str | Reject]]]:
    """Group what `read_lines` yields, no more than a block of text at a time.

    Raises:
        DataError: See `read_lines`.
    """
    batch: list[tuple[int, str | Reject]] = []
    chars = 0
    for number, line in read_lines(source, limits):
        batch.append((number, line))
        chars += len(line) if isinstance(line, str) else SAMPLE_CHARS
        if len(batch) == _BATCH_LINES or chars >= limits.block_bytes:
            yield batch
            batch, chars = [], 0
    yield batch
