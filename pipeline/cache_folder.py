"""Cache folders that own their key: right or absent, never stale, never half.

    <root>/<name>-<mode>-<first half of the key>/
        manifest.json   schema version, whole key, rows, bytes, sha256 of every file
        blocks/         whatever `fill` wrote; see `pipeline.cache`

*A key*: sha256 over the bytes of all input files, the options, the source code that makes the
content and the libraries' versions. *Whole or not at all*: a folder is filled under a hidden name,
counted, and renamed. *Company*: a read-write lock beside each folder, so that of two writers one
waits for the other's result, and `clean_caches` leaves alone what a training is reading. The locks
are the operating system's: those of a killed process are gone with it, and what it left under
hidden names is removed by the next. Imports no TensorFlow.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import filelock

from pipeline.folder_swap import publish_folder
from pipeline.json_file import write_json
from pipeline.tables.source import DataError

CacheMode = Literal["memory", "block", "snapshot", "none"]
CACHE_SCHEMA_VERSION = 1
_LIBRARIES = ("tensorflow", "tensorflow-text")
_KEY_CHARS_IN_NAME = 32
_WRITER_CHECK_S = 0.2
_MANIFEST = "manifest.json"

_held: dict[Path, filelock.ReadWriteLock] = {}
"""Read locks of the caches that this process uses. A dataset opens its files anew each epoch, and
nobody can tell when the last of its copies is gone, so they are held until the process ends."""


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """Where tokenised blocks are kept between epochs.

    Attributes:
        mode: `memory` keeps them in this process from the first epoch on; `block` and `snapshot`
            keep them on disk, in memory bounded by one block and across runs (`Dataset.save` and
            the snapshot op: other writers, alike files); `none` tokenises in every epoch.
        root: Parent of the cache folders; `block` and `snapshot` need it.
        name: Leading part of a cache folder's name.
        notify: Takes sentences a person should read: location, size, what was wrong.
    """

    mode: CacheMode = "memory"
    root: Path | None = None
    name: str = "data"
    notify: Callable[[str], None] = lambda _: None

    def __post_init__(self) -> None:
        if self.mode not in get_args(CacheMode):
            raise ValueError(
                f"cache: expected one of {', '.join(get_args(CacheMode))}, found {self.mode!r}."
            )
        if self.is_on_disk and self.root is None:
            raise ValueError(f"cache: mode {self.mode!r} needs a root folder, found none.")

    @property
    def is_on_disk(self) -> bool:
        """Whether blocks outlive the process."""
        return self.mode in ("block", "snapshot")


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def compute_cache_key(files: Sequence[Path], options: Mapping[str, Any]) -> str:
    """Return the sha256 of everything that decides the blocks.

    Args:
        files: All that is read, in order: shards, tokenizer, and the source code that turns them
            into blocks.
        options: Everything else that decides them, as JSON values.
    """
    parts = {
        "schema_version": CACHE_SCHEMA_VERSION,
        "files": [_hash_file(path) for path in files],
        "options": dict(options),
        "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def open_cache_folder(
    config: CacheConfig, key: str, *, num_rows: int, fill: Callable[[Path], int]
) -> Path:
    """Return the whole cache folder of a key, made first if need be, and hold it for reading.

    Args:
        config: Mode on disk, root, name.
        key: From `compute_cache_key`.
        num_rows: Rows that a whole cache holds.
        fill: Writes the content into an empty folder, reads it back and returns its rows.

    Returns:
        The folder. Until this process ends, `clean_caches` of other processes leaves it alone.

    Raises:
        DataError: The folder cannot be written, or `fill` returns another number of rows.
    """
    assert config.root is not None  # CacheConfig has checked
    folder = config.root / f"{config.name}-{config.mode}-{key[:_KEY_CHARS_IN_NAME]}"
    try:
        config.root.mkdir(parents=True, exist_ok=True)
        _remove_torn(config.root)
        while not _hold_if_whole(folder, key, config.notify):
            _write_if_free(folder, key, num_rows, fill, config.notify)
        manifest = _read_manifest(folder)
    except OSError as err:
        raise DataError(
            f"{folder}: expected a place that can be written, found {err.strerror or err}. Choose "
            "another one with GATETABLE_BUILD, free space, or keep the cache in memory with "
            "--cache memory."
        ) from err
    config.notify(f"Cache: {folder} ({manifest['bytes'] / 1e6:.1f} MB, {manifest['rows']:,} rows).")
    return folder


def _hold_if_whole(folder: Path, key: str, notify: Callable[[str], None]) -> bool:
    """Take the folder's read lock for the rest of the process if the folder is whole."""
    held = _held.pop(folder, None)
    if held is not None:  # one process cannot wait for itself, should the folder be damaged
        held.release()
    lock = _make_lock(folder)
    try:
        lock.acquire_read(timeout=0)
    except filelock.Timeout:
        notify(f"{folder}: another process is writing this cache; waiting for it.")
        lock.acquire_read()
    if not _is_whole(folder, key):
        lock.release()
        return False
    _held[folder] = lock
    return True


def _write_if_free(
    folder: Path,
    key: str,
    num_rows: int,
    fill: Callable[[Path], int],
    notify: Callable[[str], None],
) -> None:
    """Write and publish the folder, or return after a while if another process holds it.

    That process may be reading already what it has written, for hours: the caller looks again.
    """
    lock = _make_lock(folder)
    try:
        lock.acquire_write(timeout=_WRITER_CHECK_S)
    except filelock.Timeout:
        return
    try:
        if _is_whole(folder, key):
            return
        if folder.exists():
            notify(f"{folder}: this cache is damaged and is made again.")
            shutil.rmtree(folder)
        notify(f"Writing {num_rows:,} tokenised rows to {folder}.")
        with publish_folder(folder) as partial:
            rows = fill(partial)
            if rows != num_rows:
                raise DataError(
                    f"{folder}: expected {num_rows} rows as in data.json, found {rows}. Prepare "
                    "again with `make data`."
                )
            files = _list_files(partial)
            write_json(
                partial / _MANIFEST,
                {
                    "schema_version": CACHE_SCHEMA_VERSION,
                    "key": key,
                    "rows": rows,
                    "bytes": sum(path.stat().st_size for path in files),
                    "files": {str(path.relative_to(partial)): _hash_file(path) for path in files},
                },
            )
    finally:
        lock.release()


def _make_lock(folder: Path) -> filelock.ReadWriteLock:
    return filelock.ReadWriteLock(folder.with_name(f".{folder.name}.lock"), is_singleton=False)


def _list_files(folder: Path) -> list[Path]:
    """Return the files of a cache folder but its manifest, in a stable order."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != _MANIFEST)


def _read_manifest(folder: Path) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    return fields


def _is_whole(folder: Path, key: str) -> bool:
    """Whether the folder is the cache of this key, every byte as it was written."""
    try:
        manifest = _read_manifest(folder)
        files = manifest["files"]
        return (
            manifest["schema_version"] == CACHE_SCHEMA_VERSION
            and manifest["key"] == key
            and {str(path.relative_to(folder)) for path in _list_files(folder)} == set(files)
            and all(_hash_file(folder / name) == digest for name, digest in files.items())
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _remove_torn(root: Path) -> None:
    """Remove what killed writers of any key left under hidden names."""
    for partial in root.glob(".*.partial"):
        lock = _make_lock(root / partial.name.removeprefix(".").removesuffix(".partial"))
        try:
            lock.acquire_write(timeout=0)
        except filelock.Timeout:
            continue  # its writer lives
        try:
            shutil.rmtree(partial, ignore_errors=True)
        finally:
            lock.release()


@dataclass(frozen=True, kw_only=True)
class CleanedCache:
    """One cache folder that `clean_caches` looked at: its size, and whether it was removed."""

    folder: Path
    size_bytes: int
    removed: bool


def clean_caches(root: Path) -> Iterator[CleanedCache]:
    """Remove every cache below `root` that no process is reading or writing.

    Yields:
        Each cache, those in use included.
    """
    _remove_torn(root)
    for manifest in sorted(root.glob(f"*/{_MANIFEST}")):
        folder = manifest.parent
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        lock = _make_lock(folder)
        try:
            lock.acquire_write(timeout=0)
        except filelock.Timeout:
            yield CleanedCache(folder=folder, size_bytes=size, removed=False)
            continue
        try:
            shutil.rmtree(folder)
        finally:
            lock.release()
        yield CleanedCache(folder=folder, size_bytes=size, removed=True)
