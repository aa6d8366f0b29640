"""What lies in a lookup folder, looked at from outside: entries, names, lengths, checksums.

First and last line of the reader's distrust: nothing is opened before `scan_folder` has seen that
it is a regular file of bounded size, and nothing is used before `check_hash` if it is asked for.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from .arrays import MAX_HEADER_BYTES
from .errors import (
    REMEDY,
    ChecksumError,
    FileSizeError,
    FileTooLargeError,
    MissingFileError,
    UnexpectedFileError,
    UnsafeFileError,
)
from .manifest import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    RUNTIME_FOLDER,
    SIDE_FILE_CAPS,
    LookupManifest,
)

_ARRAY_CAP = MAX_HEADER_BYTES + 4 * 1_000_000 * 3 * 4096
"""Bytes of the largest array the axis limits allow; a bound on disk, not on memory."""


def scan_folder(folder: Path) -> dict[str, int]:
    """Return the length of every file in `folder` after refusing links and oversized files."""
    if not folder.is_dir():
        raise MissingFileError(
            f"{folder}: expected a lookup folder, found none. Give the path of an artifact's "
            "lookup/ folder."
        )
    with os.scandir(folder) as scan:
        entries = sorted(scan, key=lambda entry: entry.name)
    sizes = {}
    for entry in entries:
        status = entry.stat(follow_symlinks=False)
        if entry.name == RUNTIME_FOLDER and stat.S_ISDIR(status.st_mode):
            continue
        if not stat.S_ISREG(status.st_mode):
            kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "something else"
            raise UnsafeFileError(
                f"{folder / entry.name}: expected a regular file, found {kind}. Copy the files "
                "themselves into the folder."
            )
        cap = {MANIFEST_FILE: MAX_MANIFEST_BYTES, **SIDE_FILE_CAPS}.get(entry.name, _ARRAY_CAP)
        if status.st_size > cap:
            raise FileTooLargeError(
                f"{folder / entry.name}: expected at most {cap} bytes, found {status.st_size}. "
                f"{REMEDY}"
            )
        sizes[entry.name] = status.st_size
    if MANIFEST_FILE not in sizes:
        raise MissingFileError(
            f"{folder / MANIFEST_FILE}: no such file, so {folder} is not a lookup folder. Give "
            "the path of an artifact's lookup/ folder."
        )
    return sizes


def check_names(folder: Path, sizes: Mapping[str, int], manifest: LookupManifest) -> None:
    """Compare the files on disk with the manifest: names, then lengths."""
    for name in sorted(manifest.files.keys() - sizes.keys()):
        raise MissingFileError(
            f"{folder / name}: listed in {MANIFEST_FILE}, found no such file. {REMEDY}"
        )
    for name in sorted(sizes.keys() - manifest.files.keys() - {MANIFEST_FILE}):
        raise UnexpectedFileError(
            f"{folder / name}: expected only files that {MANIFEST_FILE} lists, found this one. "
            "Remove it, or copy the artifact again."
        )
    for name, record in sorted(manifest.files.items()):
        if sizes[name] != record.size:
            raise FileSizeError(
                f"{folder / name}: expected {record.size} bytes from {MANIFEST_FILE}, found "
                f"{sizes[name]}. {REMEDY}"
            )


def check_hash(path: Path, data: bytes | None, expected: str) -> None:
    """Compare the sha256 of `data`, or of the whole file where that is None."""
    if data is not None:
        found = hashlib.sha256(data).hexdigest()
    else:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise ChecksumError(
            f"{path}: expected sha256 {expected} from {MANIFEST_FILE}, found {found}. {REMEDY}"
        )
