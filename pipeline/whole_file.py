"""Files that appear whole or not at all: written beside their place, synced, renamed.

Killed at any time, a reader finds the new file or the one before it. One writer a file at a time;
where several could meet, the caller holds a lock.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def open_whole(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write bytes to; it is put in the place of `path` when the block ends well.

    When the block raises, nothing of it remains and an older file is untouched. A killed process
    leaves `.<name>.partial`, which the next writer of the same file overwrites.

    Raises:
        OSError: The place cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_whole(path: Path, content: str | bytes) -> None:
    """Write bytes, or text as UTF-8 with its line ends as they are, in the place of `path`.

    Raises:
        OSError: The place cannot be written.
    """
    with open_whole(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, would outlast a power cut.

    A rename is whole without it; it may be undone. Only POSIX has this for folders.
    """
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
