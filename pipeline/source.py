"""Where the table of text and label comes from, and its bytes, opened safely.

Knows plain CSV, gzipped CSV, and a CSV inside a ZIP (the classic variables `ZIPFILE_NAME` and
`FILE_NAME`). Nothing is ever extracted to disk; what is read is bounded in size and in ratio, so
that a decompression bomb is refused. Rows are the business of `pipeline.table`.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

REPOSITORY = Path(__file__).resolve().parent.parent
EMBEDDED_DATASET = REPOSITORY / "data" / "wordnet31.csv.gz"

_GZIP_MAGIC = b"\x1f\x8b"
_ZIP_MAGIC = b"PK\x03\x04"
_ENCRYPTED_FLAG = 0x1
_LISTED_MEMBERS = 10


class DataError(Exception):
    """Input that cannot become a data folder, or a data folder that cannot be read."""


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One table on disk.

    Attributes:
        path: A `.csv`, a `.csv.gz`, or a ZIP.
        member: Name of the CSV inside the ZIP; None when `path` is no ZIP.
    """

    path: Path
    member: str | None = None

    @property
    def name(self) -> str:
        """Name of the dataset: the table's file name without endings, safe as a folder name."""
        file_name = PurePosixPath(self.member).name if self.member else self.path.name
        stem = re.sub(r"(\.csv|\.txt)?(\.gz)?$", "", file_name, flags=re.IGNORECASE)
        safe = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")
        return safe[:100] or "dataset"

    def __str__(self) -> str:
        return f"{self.member} in {self.path}" if self.member else str(self.path)


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


def _list_members(path: Path) -> str:
    """Return the CSV members of a ZIP as text for a message (all members if none is a CSV)."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
    except (OSError, zipfile.BadZipFile):
        return ""
    names = [name for name in names if name.lower().endswith(".csv")] or names
    more = f" and {len(names) - _LISTED_MEMBERS} more" if len(names) > _LISTED_MEMBERS else ""
    return f" It holds: {', '.join(map(repr, names[:_LISTED_MEMBERS])) or 'nothing'}{more}."


def resolve_source(
    *,
    path: Path | None = None,
    zipfile_name: str | None = None,
    file_name: str | None = None,
    data_folder: Path | None = None,
) -> SourceConfig:
    """Decide which table is meant.

    Args:
        path: A `.csv` or `.csv.gz` named outright; it beats the variables.
        zipfile_name: The classic `ZIPFILE_NAME`, a ZIP under `data/`; empty means not set.
        file_name: The classic `FILE_NAME`, the CSV inside it; empty means not set.
        data_folder: Where the ZIP lies; by default `data/` of the working directory if the ZIP
            is there, else of the repository.

    Returns:
        The source; the embedded dataset when nothing is named. That it can be read is checked
        when it is opened.

    Raises:
        DataError: Only one of the two variables is set, or the ZIP lies outside `data/`.
    """
    if path is not None:
        return SourceConfig(path=path)
    if not zipfile_name and not file_name:
        return SourceConfig(path=EMBEDDED_DATASET)
    if not zipfile_name:
        raise DataError(
            f"ZIPFILE_NAME: expected the name of a ZIP under data/ that holds "
            f"FILE_NAME={file_name!r}, found nothing. Set both variables, or neither for the "
            "embedded dataset."
        )
    if Path(zipfile_name).is_absolute() or ".." in Path(zipfile_name).parts:
        raise DataError(
            f"ZIPFILE_NAME: expected the name of a ZIP under data/, found {zipfile_name!r}. Put "
            "the file there, or name a CSV anywhere with --source."
        )
    if data_folder is None:
        here = Path("data")
        data_folder = here if (here / zipfile_name).exists() else REPOSITORY / "data"
    zip_path = data_folder / zipfile_name
    if not file_name:
        raise DataError(
            f"FILE_NAME: expected the name of a CSV inside {zip_path}, found nothing."
            f"{_list_members(zip_path)} Set both variables, or neither for the embedded dataset."
        )
    return SourceConfig(path=zip_path, member=file_name)


class _BoundedStream(io.RawIOBase):
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
        self._packed_bytes = max(1, packed_bytes)
        self._limits = limits
        self._read_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
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
        limits = self._limits
        if self._read_bytes > limits.max_bytes:
            raise DataError(
                f"{self._source}: expected at most {limits.max_bytes} bytes of table, found more. "
                "Split the table."
            )
        ratio = self._read_bytes / self._packed_bytes
        if self._read_bytes > limits.ratio_from_bytes and ratio > limits.max_ratio:
            raise DataError(
                f"{self._source}: expected at most {limits.max_ratio:g} times the packed size of "
                f"{self._packed_bytes} bytes, found {self._read_bytes} bytes and more: this looks "
                "like a decompression bomb. Unpack it yourself if you trust it."
            )
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
        super().close()


def _open_member(source: SourceConfig, member: str, limits: SourceLimits) -> _BoundedStream:
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
            f"{_list_members(source.path)} Set FILE_NAME to one of them."
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
        inner = archive.open(info)
    except (NotImplementedError, zipfile.BadZipFile, RuntimeError, OSError) as err:
        archive.close()
        raise DataError(
            f"{source}: expected a stored or deflated member, found one that cannot be read "
            f"({err}). Pack it again."
        ) from err
    archive.close()  # the member keeps the file open for itself
    return _BoundedStream(inner, source, info.compress_size, limits)


def _check_file(source: SourceConfig) -> bytes:
    """Return the first four bytes of the file.

    Raises:
        DataError: There is no file to read.
    """
    path = source.path
    if path.is_dir():
        raise DataError(f"{path}: expected a CSV, a gzipped CSV or a ZIP, found a folder.")
    try:
        with path.open("rb") as file:
            return file.read(4)
    except FileNotFoundError as err:
        raise DataError(
            f"{path}: expected a CSV, a gzipped CSV or a ZIP, found no such file. Check the path "
            "or ZIPFILE_NAME."
        ) from err
    except OSError as err:
        raise DataError(f"{path}: expected a readable file, found {err.strerror}.") from err


def open_source(source: SourceConfig, limits: SourceLimits | None = None) -> _BoundedStream:
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
    if magic.startswith(_ZIP_MAGIC):
        raise DataError(
            f"{source.path}: expected a CSV, found a ZIP.{_list_members(source.path)} Put it under "
            "data/ and set ZIPFILE_NAME and FILE_NAME."
        )
    size = source.path.stat().st_size
    if magic.startswith(_GZIP_MAGIC):
        return _BoundedStream(gzip.GzipFile(source.path), source, size, limits)
    if source.path.suffix.lower() == ".gz":
        raise DataError(
            f"{source.path}: expected gzip data, found a file that starts with {magic!r}. Rename "
            "it if it is a plain CSV, or copy it again."
        )
    return _BoundedStream(source.path.open("rb"), source, size, limits)


def hash_source(source: SourceConfig) -> str:
    """Return the sha256 of the file's bytes as they lie on disk, with the member's name.

    Raises:
        DataError: The file cannot be read.
    """
    _check_file(source)
    digest = hashlib.sha256((source.member or "").encode())
    with source.path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
