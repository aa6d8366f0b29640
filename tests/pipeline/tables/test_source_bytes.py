"""The bytes of a table: packed, damaged, or made to do harm."""

from __future__ import annotations

import gzip
import io
import os
import zipfile
from pathlib import Path

import pytest

from pipeline.tables.source import DataError, SourceConfig, SourceFiles
from pipeline.tables.source_bytes import SourceLimits, hash_source, open_source

CSV = b"title,category\na cat,animal\n"


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    """A `data/` with one ZIP of two tables and a text."""
    folder = tmp_path / "data"
    folder.mkdir()
    with zipfile.ZipFile(folder / "news.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("news.csv", CSV)
        archive.writestr("more/old.csv", CSV + CSV)
        archive.writestr("readme.txt", "no table")
    return folder


def read(source: SourceConfig, limits: SourceLimits | None = None) -> bytes:
    with open_source(source, limits) as stream:
        return stream.read()


def test_members_give_their_bytes_and_gzip_inside_is_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", CSV)
        archive.writestr("b.csv.gz", gzip.compress(CSV + CSV))
        archive.writestr("c.csv.gz", CSV)
    found = [
        SourceConfig(path=tmp_path / "a.zip", member=f"{name}")
        for name in ("a.csv", "b.csv.gz", "c.csv.gz")
    ]
    assert (read(found[0]), read(found[1])) == (CSV, CSV + CSV)
    with pytest.raises(DataError, match=r"c\.csv\.gz in .*expected gzip data, found .* b'titl'"):
        open_source(found[2])


def test_gzip_bomb_inside_a_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv.gz", gzip.compress(b"0" * 2**22))
    source = SourceConfig(path=tmp_path / "a.zip", member="a.csv.gz")
    with pytest.raises(DataError, match=r"this looks like a decompression bomb\."):
        read(source, SourceLimits(ratio_from_bytes=2**16))


def test_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(DataError, match=r"a\.csv: expected a file, found a pipe or a device\."):
        open_source(SourceConfig(path=tmp_path / "a.csv"))


def test_hash_of_several_files_depends_on_names_and_bytes(tmp_path: Path) -> None:
    for name, content in (("a.csv", CSV), ("b.csv", CSV), ("c.csv", b"other")):
        (tmp_path / name).write_bytes(content)

    def hash_files(*names: str) -> str:
        files = tuple(SourceConfig(path=tmp_path / name) for name in names)
        return hash_source(SourceFiles(files=files, name="x"))

    hashes = [hash_files("a.csv", "b.csv"), hash_files("a.csv", "c.csv"), hash_files("b.csv")]
    assert len({*hashes, hash_files("a.csv", "b.csv", "c.csv")}) == 4


def test_plain_and_gzipped_tables_give_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(CSV)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(CSV))
    assert read(SourceConfig(path=tmp_path / "a.csv")) == CSV
    assert read(SourceConfig(path=tmp_path / "a.csv.gz")) == CSV


def test_hash_depends_on_bytes_and_member(data_folder: Path) -> None:
    path = data_folder / "news.zip"
    one, two = (SourceConfig(path=path, member=member) for member in ("news.csv", "more/old.csv"))
    assert hash_source(one) == hash_source(one) != hash_source(two)
    path.write_bytes(path.read_bytes() + b" ")
    assert hash_source(one) != hash_source(SourceConfig(path=path))


def test_missing_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: expected a table.*, found no such file\."):
        open_source(SourceConfig(path=tmp_path / "none.csv"))


def test_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a table.*, found a folder\."):
        open_source(SourceConfig(path=tmp_path))


def test_unreadable_file_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> io.BytesIO:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"expected a readable file, found Permission denied\."):
        open_source(SourceConfig(path=tmp_path / "a.csv"))


def test_zip_given_as_csv_is_explained(data_folder: Path) -> None:
    with pytest.raises(
        DataError, match=r"found a ZIP\. It holds: 'news\.csv'.* one with --file-name"
    ):
        open_source(SourceConfig(path=data_folder / "news.zip"))


def test_gz_ending_without_gzip_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(CSV)
    with pytest.raises(DataError, match=r"expected gzip data, found .* starts with b'titl'"):
        open_source(SourceConfig(path=tmp_path / "a.csv.gz"))


def test_truncated_gzip_is_explained(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(CSV * 50)[:-9])
    with pytest.raises(DataError, match=r"expected whole compressed data, found it truncated"):
        read(SourceConfig(path=tmp_path / "a.csv.gz"))


def test_damaged_gzip_is_explained(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(CSV * 50))
    packed[-6] ^= 1
    (tmp_path / "a.csv.gz").write_bytes(packed)
    with pytest.raises(DataError, match=r"found it damaged after \d+ bytes \(CRC check failed"):
        read(SourceConfig(path=tmp_path / "a.csv.gz"))


def test_gzip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"0" * 2**22))
    limits = SourceLimits(ratio_from_bytes=2**16)
    with pytest.raises(DataError, match=r"at most 200 times .* a decompression bomb\."):
        read(SourceConfig(path=tmp_path / "a.csv.gz"), limits)


def test_small_table_may_be_packed_tightly(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"0" * 2**20))
    assert len(read(SourceConfig(path=tmp_path / "a.csv.gz"))) == 2**20


def test_size_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(CSV * 100)
    with pytest.raises(DataError, match=r"expected at most 1000 bytes of table, found more\."):
        read(SourceConfig(path=tmp_path / "a.csv"), SourceLimits(max_bytes=1000))
