"""The format of a file, and several files as one table."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from pipeline.config import TableFormat
from pipeline.tables.source import DataError, SourceConfig, SourceFiles, resolve_source
from pipeline.tables.table import Reject, find_format, read_rows

ROWS = [("a cat", "animal"), ("gold", "metal"), ("뉴스", "ko")]


def write_csv(delimiter: str) -> bytes:
    lines = [("title", "category"), *ROWS]
    return "".join(f"{text}{delimiter}{label}\n" for text, label in lines).encode()


JSON = "".join(json.dumps({"title": text, "category": label}) + "\n" for text, label in ROWS)
CONTENTS: dict[str, bytes] = {
    "csv": write_csv(","),
    "tsv": write_csv("\t"),
    "jsonl": JSON.encode(),
    "txt": "".join(f"__label__{label} {text}\n" for text, label in ROWS).encode(),
}


def read(source: SourceConfig | SourceFiles, **options: str) -> list[tuple[str, str]]:
    batches = read_rows(source, text_column="title", label_column="category", **options)  # type: ignore[arg-type]
    return [pair for batch in batches for pair in zip(batch.texts, batch.labels, strict=True)]


@pytest.mark.parametrize("ending", CONTENTS)
def test_every_format_gives_the_same_rows_plain_packed_and_in_a_zip(
    tmp_path: Path, ending: str
) -> None:
    content = CONTENTS[ending]
    (tmp_path / f"a.{ending}").write_bytes(content)
    (tmp_path / f"a.{ending}.gz").write_bytes(gzip.compress(content))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(f"a.{ending.upper()}", content)
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr(f"a.{ending}.gz", gzip.compress(content))
    for name in (f"a.{ending}", f"a.{ending}.gz", "a.zip", "b.zip"):
        assert read(resolve_source(path=tmp_path / name)) == ROWS


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.csv", "csv"),
        ("a.b.CSV.GZ", "csv"),
        ("a.tab", "tsv"),
        ("a.ndjson.gz", "jsonl"),
        ("a.pq", "parquet"),
        ("a.txt", "fasttext"),
    ],
)
def test_format_goes_by_the_ending(name: str, expected: TableFormat) -> None:
    assert find_format(SourceConfig(path=Path(name))) == expected
    assert find_format(SourceConfig(path=Path("a.zip"), member=f"x/{name}")) == expected


@pytest.mark.parametrize("name", ["csv", "table", "a.json", "a.gz"])
def test_unknown_ending_asks_for_the_format(tmp_path: Path, name: str) -> None:
    content = CONTENTS["csv"]
    (tmp_path / name).write_bytes(gzip.compress(content) if name == "a.gz" else content)
    source = SourceConfig(path=tmp_path / name)
    with pytest.raises(DataError, match=r"a name that ends in \.csv, .*such as --format csv\."):
        read(source)
    assert read(source, format="csv") == ROWS


def test_missing_file_of_an_unknown_ending_is_missing_first_of_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found no such file"):
        read(SourceConfig(path=tmp_path / "none"))


def test_delimiter_is_for_tables_of_columns(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(CONTENTS["jsonl"])
    with pytest.raises(DataError, match=r"expected a CSV where --delimiter is given, found jsonl"):
        read(SourceConfig(path=tmp_path / "a.jsonl"), delimiter=";")


@pytest.fixture
def make_files(tmp_path: Path) -> Callable[[Iterable[str]], SourceFiles]:
    """Give a function that writes a file of each ending and names them as one table."""

    def make(endings: Iterable[str]) -> SourceFiles:
        for ending in endings:
            (tmp_path / f"{ending}.{ending}").write_bytes(CONTENTS[ending])
        source = resolve_source(path=f"{tmp_path}/*")
        assert isinstance(source, SourceFiles)
        return source

    return make


def test_files_of_several_formats_are_one_table(
    make_files: Callable[[Iterable[str]], SourceFiles],
) -> None:
    assert read(make_files(CONTENTS)) == ROWS * 4


def test_rejects_of_several_files_name_theirs(
    make_files: Callable[[Iterable[str]], SourceFiles],
) -> None:
    source = make_files(["csv", "jsonl"])
    with source.files[1].path.open("a") as file:
        file.write("{\n")
    batches = read_rows(source, text_column="title", label_column="category")
    rejects = [reject for batch in batches for reject in batch.rejects]
    assert rejects == [Reject(row=4, reason="bad_json", sample="{", file="jsonl.jsonl")]
