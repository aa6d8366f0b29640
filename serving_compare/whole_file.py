"""Files that appear whole or not at all: written beside their place, synced, renamed.

Killed at any time, a reader finds the new file or the one before it; of two processes that write
one file, the later one wins. Imports the standard library only: cold starts are timed with it.
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
    leaves `.<name>.<its id>.partial`.

    Raises:
        OSError: The place cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_whole(path: Path, text: str) -> None:
    """Write text as UTF-8, its line ends as they are, in the place of `path`.

    Raises:
        OSError: The place cannot be written.
    """
    with open_whole(path) as file:
        file.write(text.encode())
