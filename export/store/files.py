"""Small files that appear whole, where signatures lie, and locks that refuse to wait."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from export.store.errors import StoreError

SIGNATURE_BYTES = 64
"""Of Ed25519."""


def signature_path(version_folder: Path) -> Path:
    """Return where the signature of a version's manifest lies: beside the version's folder."""
    return version_folder.with_name(f"{version_folder.name}.sig")


def sync_folder(folder: Path) -> None:
    """Put a folder's entries on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file so that readers see the old or the new content, whatever happens."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


@contextmanager
def be_only(path: Path, what: str, *, wait_s: float = 0.0) -> Iterator[None]:
    """Be the only process at something, by a lock file.

    Args:
        path: The lock file.
        what: Others may be doing, for the message.
        wait_s: Seconds to wait for the other one.

    Raises:
        StoreError: Another process is at it.
    """
    try:
        with FileLock(path, timeout=wait_s):
            yield
    except Timeout as err:
        raise StoreError(
            f"{path.parent}: expected no other {what} here, found one at work. Wait for it to end."
        ) from err
