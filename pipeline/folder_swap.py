"""Folders that appear whole or not at all, one writer at a time.

A new folder is filled under a hidden name beside its target and renamed. Where it replaces an
older one, that one is renamed away first; a process killed between the two renames leaves the
older one under its hidden name, and the next `locked_folder` puts it back.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from pipeline.tables.source import DataError
from pipeline.whole_file import sync


class FolderBusyError(DataError):
    """Another process holds the lock of a folder; it may be free in a moment."""


def _partial(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.partial")


def _replaced(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.replaced")


def _unwritable(folder: Path, err: OSError) -> DataError:
    return DataError(
        f"{folder}: expected a place that can be written, found {err.strerror or err}. Choose "
        "another one with GATETABLE_BUILD, or free space."
    )


def _check_ours(folder: Path) -> None:
    """Refuse to replace what another hand put there."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: expected a folder or nothing there, found a file. Move it.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "data.json").exists():
        raise DataError(
            f"{folder}: expected a data folder or nothing there, found a folder without data.json. "
            "Move it, or delete it if it is not needed."
        )


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, after clearing away what a killed process left.

    Raises:
        FolderBusyError: Another process holds it.
        DataError: The place cannot be written, or something that is no data folder stands there.
    """
    lock = filelock.FileLock(folder.with_name(f".{folder.name}.lock"), blocking=False)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout as err:
        raise FolderBusyError(
            f"{folder}: another process is preparing this folder. Wait for it to end, or stop it."
        ) from err
    except OSError as err:
        raise _unwritable(folder, err) from err
    try:
        if _replaced(folder).exists():
            if folder.exists():
                shutil.rmtree(_replaced(folder))
            else:
                _replaced(folder).rename(folder)
        shutil.rmtree(_partial(folder), ignore_errors=True)
        _check_ours(folder)
        yield
    finally:
        lock.release()


@contextmanager
def publish_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder to fill; publish it under its name when the block ends well.

    The caller holds `locked_folder`. When the block raises, nothing of it remains and an older
    folder of that name is untouched.

    Raises:
        DataError: The place cannot be written (the block's own errors of that kind included).
    """
    partial = _partial(folder)
    try:
        partial.mkdir()
        yield partial
        for path in sorted(partial.rglob("*")):
            sync(path)
        sync(partial)
        if folder.exists():
            folder.rename(_replaced(folder))
        partial.rename(folder)
        sync(folder.parent)
        if _replaced(folder).exists():
            shutil.rmtree(_replaced(folder))
    except OSError as err:
        raise _unwritable(folder, err) from err
    finally:
        shutil.rmtree(partial, ignore_errors=True)
