"""The bytes of one table, opened safely.

Nothing is ever extracted to disk; what is read is bounded in size and in ratio, so that a
decompression bomb is refused. Which table is meant is the business of `pipeline.tables.source`, its
rows are that of `pipeline.tables.table`.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import IO

from pipeline.tables.source import (
    ZIP_MAGIC,
    DataError,
    Source,
    SourceConfig,
    SourceFiles,
    describe_members,
)

_GZIP_MAGIC = b"\x1f\x8b"
_ENCRYPTED_FLAG = 0x1


@dataclass(frozen=True, kw_only=True)
class SourceLimits:
    """Bounds on what a source may make us read.

    Attributes:
        max_bytes: Decompressed size.
        max_ratio: Decompressed by compressed size. Text reaches 3 to 30, a bomb up to 1032.
        ratio_from_bytes: The ratio is not looked at below this decompressed size.
        block_bytes: Memory of one block of rows, so also the bound on one row.
    """

    max_bytes: int = 64 * 2**30
    max_ratio: float = 200.0
    ratio_from_bytes: int = 64 * 2**20
    block_bytes: int = 8 * 2**20


def check_size(
    source: SourceConfig, size_bytes: int, packed_bytes: int, limits: SourceLimits
) -> None:
    """Check how much a source unpacks to.

    Args:
        source: For the message.
        size_bytes: What was read of it so far, or what it announces.
        packed_bytes: Its size on disk.
        limits: What is allowed.

    Raises:
        DataError: It is too large, or too large for its packed size.
    """
    if size_bytes > limits.max_bytes:
        raise DataError(
            f"{source}: expected at most {limits.max_bytes} bytes of table, found more. Split the "
            "table."
        )
    ratio = size_bytes / max(1, packed_bytes)
    if size_bytes > limits.ratio_from_bytes and ratio > limits.max_ratio:
        raise DataError(
            f"{source}: expected at most {limits.max_ratio:g} times the packed size of "
            f"{packed_bytes} bytes, found {size_bytes} bytes and more: this looks like a "
            "decompression bomb. Unpack it yourself if you trust it."
        )


class BoundedStream(io.RawIOBase):
    """Reads decompressed bytes, counts them, and turns every damage into a `DataError`."""

    def __init__(
        self,
        inner: IO[bytes] | gzip.GzipFile,
        source: SourceConfig,
        packed_bytes: int,
        limits: SourceLimits,
    ) -> None:
        self._inner = inner
        self._source = source
        self._packed_bytes = packed_bytes
        self._limits = limits
        self._read_bytes = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill `buffer` with the next bytes and return how many; 0 at the end."""
        try:
            content = self._inner.read(len(buffer))
        except EOFError as err:
            raise DataError(
                f"{self._source}: expected whole compressed data, found it truncated after "
                f"{self._read_bytes} decompressed bytes. Copy or download the file again."
            ) from err
        except (zlib.error, zipfile.BadZipFile, gzip.BadGzipFile, OSError) as err:
            raise DataError(
                f"{self._source}: expected readable data, found it damaged after "
                f"{self._read_bytes} bytes ({err}). Copy or download the file again."
            ) from err
        self._read_bytes += len(content)
        check_size(self._source, self._read_bytes, self._packed_bytes, self._limits)
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        """Close what it reads as well."""
        if not self.closed:
            self._inner.close()
        super().close()


def _open_member(source: SourceConfig, member: str, limits: SourceLimits) -> BoundedStream:
    windows = PureWindowsPath(member)
    if windows.is_absolute() or windows.drive or windows.root or ".." in windows.parts:
        raise DataError(
            f"FILE_NAME: expected the name of a member of {source.path}, found {member!r}, which "
            "points outside of the ZIP. Such members are never read."
        )
    try:
        archive = zipfile.ZipFile(source.path)
    except zipfile.BadZipFile as err:
        raise DataError(
            f"{source.path}: expected a ZIP, found a file that is none or is cut short ({err}). "
            "Copy or download it again."
        ) from err
    matching = [info for info in archive.infolist() if info.filename == member]
    if len(matching) != 1 or matching[0].is_dir():
        found = "a folder" if len(matching) == 1 else f"{len(matching) or 'no'} such member"
        archive.close()
        raise DataError(
            f"{source.path}: expected one file {member!r} inside, found {found}."
            f"{describe_members(source.path)} Set FILE_NAME to one of them."
        )
    info = matching[0]
    if info.flag_bits & _ENCRYPTED_FLAG:
        archive.close()
        raise DataError(
            f"{source}: expected an open member, found it encrypted. Unpack it with its password "
            "and pack it again without one."
        )
    if info.file_size > limits.max_bytes:
        archive.close()
        raise DataError(
            f"{source}: expected at most {limits.max_bytes} bytes of table, found "
            f"{info.file_size} announced. Split the table."
        )
    try:
        inner, again = archive.open(info), archive.open(info)
    except (NotImplementedError, zipfile.BadZipFile, RuntimeError, OSError) as err:
        raise DataError(
            f"{source}: expected a stored or deflated member, found one that cannot be read "
            f"({err}). Pack it again."
        ) from err
    finally:
        archive.close()  # the members keep the file open for themselves
    with BoundedStream(again, source, info.compress_size, limits) as stream:
        magic = stream.read(len(ZIP_MAGIC)) or b""
    if magic.startswith(_GZIP_MAGIC):
        packed = gzip.GzipFile(fileobj=inner)
        return BoundedStream(packed, source, info.compress_size, limits)
    _check_ending(source, magic)
    return BoundedStream(inner, source, info.compress_size, limits)


def _check_file(source: SourceConfig) -> bytes:
    """Return the first four bytes of the file.

    Raises:
        DataError: There is no file to read.
    """
    path = source.path
    if path.is_dir():
        raise DataError(f"{path}: expected a table or a ZIP, found a folder.")
    if path.exists() and not path.is_file():
        # It is read more than once: hashed, its header, its rows.
        raise DataError(f"{path}: expected a file, found a pipe or a device. Save it as a file.")
    try:
        with path.open("rb") as file:
            return file.read(4)
    except FileNotFoundError as err:
        raise DataError(
            f"{path}: expected a table or a ZIP, found no such file. Check the path or "
            "ZIPFILE_NAME."
        ) from err
    except OSError as err:
        raise DataError(f"{path}: expected a readable file, found {err.strerror}.") from err


def open_source(source: SourceConfig, limits: SourceLimits | None = None) -> BoundedStream:
    """Open the table's bytes, decompressed and bounded.

    Args:
        source: Which table.
        limits: Bounds; the defaults suit tables of tens of gigabytes.

    Returns:
        A binary stream. Reading from it raises `DataError` for damage and for bombs.

    Raises:
        DataError: It is missing, is not what its name says, or its member must not be read.
    """
    limits = limits or SourceLimits()
    magic = _check_file(source)
    if source.member is not None:
        return _open_member(source, source.member, limits)
    if magic.startswith(ZIP_MAGIC):
        raise DataError(
            f"{source.path}: expected a table, found a ZIP.{describe_members(source.path)} Name "
            "one with --file-name."
        )
    size = source.path.stat().st_size
    if magic.startswith(_GZIP_MAGIC):
        return BoundedStream(gzip.GzipFile(source.path), source, size, limits)
    _check_ending(source, magic)
    return BoundedStream(source.path.open("rb"), source, size, limits)


def _check_ending(source: SourceConfig, magic: bytes) -> None:
    if source.file_name.lower().endswith(".gz"):
        raise DataError(
            f"{source}: expected gzip data, found a file that starts with {magic!r}. Rename it if "
            "it is not packed, or copy it again."
        )


def hash_source(source: Source) -> str:
    """Return the sha256 of the files' bytes as they lie on disk, with their members' names.

    Raises:
        DataError: A file cannot be read.
    """
    if isinstance(source, SourceFiles):
        hashes = [(source.name_file(file), hash_source(file)) for file in source.files]
        return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()
    _check_file(source)
    digest = hashlib.sha256((source.member or "").encode())
    with source.path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
