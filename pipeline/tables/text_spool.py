"""Texts that are put aside on disk while a table is read, and fetched again in any order.

Memory is 8 bytes a text. The file has no name, so that nothing of it remains, however the process
ends.
"""

from __future__ import annotations

import os
import tempfile
from array import array
from pathlib import Path
from types import TracebackType
from typing import Self


class TextSpool:
    """Texts by number, in the order they were added. Add all, then read; for one process.

    Args:
        folder: Whose file system holds the texts.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(buffering=2**20, dir=folder)  # noqa: SIM115  (closed by __exit__)
        self._ends = array("Q", [0])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def append(self, text: bytes) -> None:
        """Add a text behind the others."""
        self._file.write(text)
        self._ends.append(self._ends[-1] + len(text))

    def finish(self) -> None:
        """Make every text readable; none is added behind this."""
        self._file.flush()

    def read(self, number: int) -> bytes:
        """Return the text of a number from 0, once `finish` was called."""
        start = self._ends[number]
        return os.pread(self._file.fileno(), self._ends[number + 1] - start, start)
