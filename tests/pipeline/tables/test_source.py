"""Which table is meant, and what its dataset is called."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from pipeline.tables.source import (
    EMBEDDED_DATASET,
    DataError,
    Source,
    SourceConfig,
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


def test_nothing_named_means_the_embedded_dataset_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = resolve_source(zipfile_name="", file_name=None)
    assert source == SourceConfig(path=EMBEDDED_DATASET)
    assert source.path.is_file()
    assert source.name == "wordnet31"


def test_path_beats_the_zip_variable(tmp_path: Path) -> None:
    source = resolve_source(path=Path("x.csv"), zipfile_name="news.zip")
    assert source == SourceConfig(path=Path("x.csv"))


def test_member_of_a_zip_anywhere(data_folder: Path) -> None:
    source = resolve_source(path=data_folder / "news.zip", file_name="more/old.csv")
    assert source == SourceConfig(path=data_folder / "news.zip", member="more/old.csv")


@pytest.mark.parametrize("name", ["only.csv", "deep/only.TSV.gz", "only.ndjson", "only.txt"])
def test_only_table_of_a_zip_needs_no_name(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, CSV)
        archive.writestr("__MACOSX/._only.csv", "what Finder leaves")
        archive.writestr("LICENSE", "no table")
    by_path = resolve_source(path=tmp_path / "a.zip")
    by_variable = resolve_source(zipfile_name="a.zip", data_folder=tmp_path)
    assert by_path == by_variable == SourceConfig(path=tmp_path / "a.zip", member=name)
    assert by_path.name == "only"


def test_zip_without_a_table_shows_what_it_holds(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w") as archive:
        archive.writestr("sheet.xml", "")
    with pytest.raises(
        DataError, match=r"which holds none of them, found nothing\. It holds: 'sheet\.xml'\."
    ):
        resolve_source(path=tmp_path / "a.xlsx")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """news/b.csv, news/a.csv, news/2023/c.csv and a text."""
    folder = tmp_path / "news"
    (folder / "2023").mkdir(parents=True)
    for name in ("b.csv", "a.csv", "2023/c.csv", "notes.md"):
        (folder / name).write_bytes(CSV)
    return folder


def list_names(source: Source) -> list[str]:
    return [source.name_file(file) for file in source.files]


def test_pattern_gives_its_files_in_order(folder: Path) -> None:
    source = resolve_source(path=f"{folder}/*.csv")
    assert (source.name, list_names(source)) == ("news", ["a.csv", "b.csv"])
    source = resolve_source(path=f"{folder}/**/*.csv")
    assert (source.name, list_names(source)) == ("news", ["2023/c.csv", "a.csv", "b.csv"])
    assert str(source) == f"{folder}/2023/c.csv, {folder}/a.csv, {folder}/b.csv"


def test_several_sources_are_one_table_and_each_file_is_read_once(folder: Path) -> None:
    source = resolve_source(path=[f"{folder}/b.csv", f"{folder}/*.csv", folder / "2023/c.csv"])
    assert (source.name, list_names(source)) == ("b-and-2-more", ["2023/c.csv", "a.csv", "b.csv"])


@pytest.mark.parametrize(
    ("pattern", "name"), [("part-*.csv.gz", "part"), ("x[0-9]?.tsv", "x"), ("*", "news")]
)
def test_name_of_a_pattern_does_not_depend_on_what_it_matches(
    folder: Path, pattern: str, name: str
) -> None:
    (folder / "part-1.csv.gz").write_bytes(CSV)
    (folder / "x12.tsv").write_bytes(CSV)
    assert resolve_source(path=f"{folder}/{pattern}").name == name


def test_file_whose_name_looks_like_a_pattern_is_that_file(folder: Path) -> None:
    (folder / "a[1].csv").write_bytes(CSV)
    source = resolve_source(path=str(folder / "a[1].csv"))
    assert source == SourceConfig(path=folder / "a[1].csv")


def test_pattern_without_a_match_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"\*\.parquet: expected a pattern that matches files"):
        resolve_source(path=f"{folder}/*.parquet")


def test_too_many_files_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.tables.source.MAX_FILES", 1)
    with pytest.raises(DataError, match=r"--source: expected at most 1 files, found 2\."):
        resolve_source(path=f"{folder}/*.csv")


def test_name_can_be_given(folder: Path) -> None:
    assert resolve_source(path=folder / "a.csv", name="mine").name == "mine"
    assert resolve_source(path=f"{folder}/*.csv", name="mine").name == "mine"
    assert resolve_source(name="mine").files == (SourceConfig(path=EMBEDDED_DATASET),)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a" * 101, "news.csv", "뉴스"])
def test_name_that_is_no_folder_name_is_refused(name: str) -> None:
    with pytest.raises(DataError, match=r"--data-name: expected 1 to 100 letters, .*, found '"):
        resolve_source(name=name)


def test_both_variables_name_a_member(data_folder: Path) -> None:
    source = resolve_source(
        zipfile_name="news.zip", file_name="more/old.csv", data_folder=data_folder
    )
    assert source == SourceConfig(path=data_folder / "news.zip", member="more/old.csv")
    assert source.name == "old"


def test_zip_is_looked_for_under_data_of_the_working_directory(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data_folder.parent)
    source = resolve_source(zipfile_name="news.zip", file_name="news.csv")
    assert source == SourceConfig(path=Path("data/news.zip"), member="news.csv")


def test_missing_file_name_lists_the_tables(data_folder: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"^FILE_NAME: expected .* holds 2 of them, .* 'news\.csv', 'more/old\.csv'\. Name",
    ):
        resolve_source(zipfile_name="news.zip", data_folder=data_folder)


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
