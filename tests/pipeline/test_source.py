"""Which table is meant, and its bytes."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import pytest

from pipeline.source import (
    EMBEDDED_DATASET,
    DataError,
    SourceConfig,
    SourceLimits,
    hash_source,
    open_source,
    resolve_source,
)

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


def test_nothing_named_means_the_embedded_dataset_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = resolve_source(zipfile_name="", file_name=None)
    assert source == SourceConfig(path=EMBEDDED_DATASET)
    assert source.path.is_file()
    assert source.name == "wordnet31"


def test_path_beats_the_variables() -> None:
    source = resolve_source(path=Path("x.csv"), zipfile_name="news.zip", file_name="news.csv")
    assert source == SourceConfig(path=Path("x.csv"))


def test_both_variables_name_a_member(data_folder: Path) -> None:
    source = resolve_source(
        zipfile_name="news.zip", file_name="more/old.csv", data_folder=data_folder
    )
    assert (source.name, read(source)) == ("old", CSV + CSV)


def test_zip_is_looked_for_under_data_of_the_working_directory(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data_folder.parent)
    assert read(resolve_source(zipfile_name="news.zip", file_name="news.csv")) == CSV


def test_missing_file_name_lists_the_tables(data_folder: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"^FILE_NAME: expected .* found nothing\. It holds: 'news\.csv', 'more/old\.csv'\.",
    ):
        resolve_source(zipfile_name="news.zip", data_folder=data_folder)


def test_missing_file_name_is_explained_even_without_the_zip(data_folder: Path) -> None:
    with pytest.raises(DataError, match=r"^FILE_NAME: .* found nothing\. Set both variables"):
        resolve_source(zipfile_name="none.zip", data_folder=data_folder)


def test_missing_zipfile_name_is_explained() -> None:
    with pytest.raises(DataError, match=r"^ZIPFILE_NAME: .*FILE_NAME='news\.csv', found nothing"):
        resolve_source(file_name="news.csv")


@pytest.mark.parametrize(
    ("path", "member", "name"),
    [
        ("a/b/wordnet31.csv.gz", None, "wordnet31"),
        ("News 2024.CSV", None, "News-2024"),
        ("x.zip", "deep/한국.csv", "dataset"),
        ("x.zip", "deep/뉴스-ko.csv", "ko"),
        ("..csv", None, "dataset"),
        ("a" * 300, None, "a" * 100),
    ],
)
def test_name_is_safe_as_a_folder_name(path: str, member: str | None, name: str) -> None:
    assert SourceConfig(path=Path(path), member=member).name == name


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
    with pytest.raises(DataError, match=r"none\.csv: expected a CSV.*, found no such file\."):
        open_source(SourceConfig(path=tmp_path / "none.csv"))


def test_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a CSV.*, found a folder\."):
        open_source(SourceConfig(path=tmp_path))


def test_unreadable_file_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> io.BytesIO:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"expected a readable file, found Permission denied\."):
        open_source(SourceConfig(path=tmp_path / "a.csv"))


def test_zip_given_as_csv_is_explained(data_folder: Path) -> None:
    with pytest.raises(DataError, match=r"found a ZIP\. It holds: 'news\.csv'.* ZIPFILE_NAME and"):
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
