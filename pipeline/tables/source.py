"""Which table of text and label is meant: one file, a member of a ZIP, or several files.

Gives names and paths only. Their bytes are opened by `pipeline.tables.source_bytes`, their rows are
read by `pipeline.tables.table`.
"""

from __future__ import annotations

import glob
import os
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

REPOSITORY = Path(__file__).resolve().parents[2]
EMBEDDED_DATASET = REPOSITORY / "data" / "wordnet31.csv.gz"
MAX_FILES = 10_000

ZIP_MAGIC = b"PK\x03\x04"
_TABLE_ENDINGS = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson")
_LISTED_MEMBERS = 10
_LISTED_FILES = 3
_NAME_CHARS = 100


class DataError(Exception):
    """Input that cannot become a data folder, or a data folder that cannot be read."""


def _make_name(file_name: str) -> str:
    """Return a file name without endings and wildcards, safe as a folder name; "" if empty."""
    stem = re.sub(
        r"(\.(csv|tsv|tab|jsonl|ndjson|parquet|pq|txt|zip))?(\.gz)?$",
        "",
        re.sub(r"\[[^]]*\]|[*?]", "-", file_name),
        flags=re.IGNORECASE,
    )
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:_NAME_CHARS]


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One table on disk.

    Attributes:
        path: A table, perhaps gzipped, or a ZIP.
        member: Name of the table inside the ZIP; None when `path` is no ZIP.
    """

    path: Path
    member: str | None = None

    @property
    def name(self) -> str:
        """Name of the dataset: the table's file name without endings, safe as a folder name."""
        return _make_name(self.file_name) or "dataset"

    @property
    def file_name(self) -> str:
        """Name of the table's own file, whose ending tells the format."""
        return PurePosixPath(self.member).name if self.member else self.path.name

    @property
    def files(self) -> tuple[SourceConfig, ...]:
        """The one file; see `SourceFiles`."""
        return (self,)

    def name_file(self, _: SourceConfig) -> str:
        """Return "": there is nothing to tell the file from."""
        return ""

    def __str__(self) -> str:
        return f"{self.member} in {self.path}" if self.member else str(self.path)


@dataclass(frozen=True, kw_only=True)
class SourceFiles:
    """Several files that are read one after another as one table.

    Attributes:
        files: At least one, in the order they are read.
        name: Name of the dataset, safe as a folder name.
    """

    files: tuple[SourceConfig, ...]
    name: str

    def name_file(self, file: SourceConfig) -> str:
        """Return what tells a file from the others, if any, and names no place of this machine."""
        if len(self.files) == 1:
            return ""
        common = os.path.commonpath([each.path.absolute().parent for each in self.files])
        relative = PurePosixPath(file.path.absolute().relative_to(common).as_posix())
        return str(relative / file.member) if file.member else str(relative)

    def __str__(self) -> str:
        shown = ", ".join(map(str, self.files[:_LISTED_FILES]))
        more = len(self.files) - _LISTED_FILES
        return f"{shown} and {more} more" if more > 0 else shown


Source = SourceConfig | SourceFiles
"""What can be prepared."""


def _list_members(path: Path) -> list[str]:
    """Return a ZIP's members that are files; none if it cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
    except (OSError, zipfile.BadZipFile):
        return []
    return [name for name in names if not name.startswith("__MACOSX/")]


def _list_tables(path: Path) -> list[str]:
    """Return a ZIP's members that look like tables; text files only where nothing else does."""
    names = _list_members(path)
    endings = [name.lower().removesuffix(".gz") for name in names]
    tables = [
        n for n, ending in zip(names, endings, strict=True) if ending.endswith(_TABLE_ENDINGS)
    ]
    return tables or [
        n for n, ending in zip(names, endings, strict=True) if ending.endswith(".txt")
    ]


def describe_members(path: Path) -> str:
    """Return the tables of a ZIP as text for a message (all members if none is a table)."""
    names = _list_tables(path) or _list_members(path)
    more = f" and {len(names) - _LISTED_MEMBERS} more" if len(names) > _LISTED_MEMBERS else ""
    return f" It holds: {', '.join(map(repr, names[:_LISTED_MEMBERS])) or 'nothing'}{more}."


def _is_zip(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
    except OSError:
        return False  # that it cannot be read is told when it is opened


def _name_member(path: Path, member: str | None) -> SourceConfig:
    """Return the table of a path, which may be a ZIP whose only table needs no name."""
    if member or not _is_zip(path):
        return SourceConfig(path=path, member=member or None)
    tables = _list_tables(path)
    if len(tables) != 1:
        raise DataError(
            f"FILE_NAME: expected the name of a table inside {path}, which holds "
            f"{len(tables) or 'none'} of them, found nothing.{describe_members(path)} Name one "
            "with --file-name."
        )
    return SourceConfig(path=path, member=tables[0])


def _expand(pattern: Path | str) -> list[Path]:
    """Return the path itself, or what a pattern matches (`**` is any depth)."""
    path = Path(pattern)
    if not glob.has_magic(str(pattern)) or path.exists():
        return [path]
    # Not Path.glob: it takes no absolute pattern.
    found = [Path(match) for match in glob.iglob(str(pattern), recursive=True)]  # noqa: PTH207
    found = [match for match in found if not match.is_dir()]
    if not found:
        raise DataError(f"{pattern}: expected a pattern that matches files, found none. Check it.")
    return found


def _resolve_paths(patterns: Sequence[Path | str], member: str | None, name: str | None) -> Source:
    paths = {path.resolve(): path for pattern in patterns for path in _expand(pattern)}
    if len(paths) > MAX_FILES:
        raise DataError(
            f"--source: expected at most {MAX_FILES} files, found {len(paths)}. Join them."
        )
    files = tuple(_name_member(path, member) for path in sorted(paths.values(), key=Path.absolute))
    first = Path(patterns[0])
    is_pattern = glob.has_magic(str(first)) and not first.exists()
    if len(patterns) == 1 and not is_pattern:
        return files[0] if name is None else SourceFiles(files=files, name=name)
    # A name that comes from what was typed stays the same when files are added.
    names = map(_make_name, reversed(first.absolute().parts))
    stem = next(filter(None, names), "dataset")
    if len(patterns) > 1:
        stem = f"{stem}-and-{len(patterns) - 1}-more"
    return SourceFiles(files=files, name=name or stem)


def resolve_source(
    *,
    path: Path | str | Sequence[Path | str] = (),
    zipfile_name: str | None = None,
    file_name: str | None = None,
    data_folder: Path | None = None,
    name: str | None = None,
) -> Source:
    """Decide which table is meant.

    Args:
        path: Tables or ZIPs named outright, or glob patterns of them. Several files are read in
            the order of their paths, each of them once.
        zipfile_name: The classic `ZIPFILE_NAME`, a ZIP under `data/`; empty means not set.
        file_name: The classic `FILE_NAME`, the table inside the ZIP; empty means not set, which
            is enough where the ZIP holds only one.
        data_folder: Where the ZIP lies; by default `data/` of the working directory if the ZIP
            is there, else of the repository.
        name: Name of the dataset, instead of one made from the file's.

    Returns:
        The source; the embedded dataset when nothing is named. That it can be read is checked
        when it is opened.

    Raises:
        DataError: Only `file_name` is set, the ZIP lies outside `data/`, a ZIP holds several
            tables and none is named, a pattern matches nothing, or `name` is no folder name.
    """
    if name is not None and (not name or _make_name(name) != name):
        raise DataError(
            f"--data-name: expected 1 to {_NAME_CHARS} letters, digits, dots, dashes or "
            f"underscores without an ending like .csv, found {name!r}."
        )
    patterns = [path] if isinstance(path, (str, Path)) else list(path)
    if patterns:
        return _resolve_paths(patterns, file_name, name)
    if not zipfile_name and not file_name:
        return _resolve_paths([EMBEDDED_DATASET], None, name)
    if not zipfile_name:
        raise DataError(
            f"ZIPFILE_NAME: expected the name of a ZIP under data/ that holds "
            f"FILE_NAME={file_name!r}, found nothing. Set both variables, or neither for the "
            "embedded dataset."
        )
    if Path(zipfile_name).is_absolute() or ".." in Path(zipfile_name).parts:
        raise DataError(
            f"ZIPFILE_NAME: expected the name of a ZIP under data/, found {zipfile_name!r}. Put "
            "the file there, or name a table anywhere with --source."
        )
    if data_folder is None:
        here = Path("data")
        data_folder = here if (here / zipfile_name).exists() else REPOSITORY / "data"
    return _resolve_paths([data_folder / zipfile_name], file_name, name)
