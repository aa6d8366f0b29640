"""The bytes of a text file, checked to be UTF-8 on the way.

A parser that meets an undecodable byte knows the cell, at best; the stream knows the line, which
is what an editor asks for.
"""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from pathlib import Path
from typing import IO


class TableError(Exception):
    """A table that cannot be read, or cannot be written in the format that is asked for."""


class Utf8Stream(io.RawIOBase):
    """Passes on bytes after checking them. One thread may read it; others may look at its place.

    Args:
        inner: What it reads: a file, or a gzip file. Closing the stream leaves it open.
        path: Named in errors.
        raw: The file on disk beneath `inner`, if that is another one.

    Attributes:
        place: Bytes read from the stream, and bytes of the file on disk read for them; one tuple,
            so that another thread never sees half of a step.

    Raises:
        TableError: While reading: the bytes are not UTF-8, or the gzip data is damaged.
    """

    def __init__(
        self, inner: IO[bytes] | gzip.GzipFile, path: Path, raw: IO[bytes] | None = None
    ) -> None:
        self._inner = inner
        self._path = path
        self._raw = raw or inner
        self.place = (0, 0)
        self._lines = 1
        self._pending = b""

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill `buffer` with the next bytes and return how many; 0 at the end."""
        try:
            content = self._inner.read(len(buffer))
        except (EOFError, gzip.BadGzipFile, zlib.error) as err:
            raise TableError(
                f"{self._path}: expected whole gzip data, found it damaged near line "
                f"{self._lines} ({err}). Copy or download the file again."
            ) from err
        data = self._pending + content
        try:
            _, used = codecs.utf_8_decode(data, "strict", not content)
        except UnicodeDecodeError as err:
            line = self._lines + data.count(b"\n", 0, err.start)
            raise TableError(
                f"{self._path}: expected UTF-8, found the byte 0x{data[err.start]:02x} in line "
                f"{line}. Save the table as UTF-8."
            ) from err
        self._lines += data.count(b"\n", 0, used)
        self._pending = data[used:]
        self.place = (self.place[0] + len(content), self._raw.tell())
        buffer[: len(content)] = content
        return len(content)
