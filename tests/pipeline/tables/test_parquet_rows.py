"""Rows of a Parquet file, and the rejected ones."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from pipeline.tables import parquet_rows
from pipeline.tables.parquet_rows import read_parquet_rows
from pipeline.tables.row_batch import Reject, TableLayout
from pipeline.tables.source import DataError, SourceConfig
from pipeline.tables.source_bytes import SourceLimits


def write(path: Path, texts: Any, labels: Any, **options: Any) -> SourceConfig:
    table = pyarrow.table({"id": range(len(texts)), "title": texts, "category": labels})
    # Statistics hold whole cells: without them a file can be as small as an attacker likes.
    parquet.write_table(table, path, write_statistics=False, **options)
    return SourceConfig(path=path)


def read(source: SourceConfig, **limits: int) -> tuple[list[Any], list[Reject]]:
    rows: list[Any] = []
    rejects: list[Reject] = []
    for batch in read_parquet_rows(source, TableLayout(), SourceLimits(**limits)):
        rows.extend(zip(batch.rows, batch.texts, batch.labels, strict=True))
        rejects.extend(batch.rejects)
    return rows, rejects


@pytest.mark.parametrize(
    "kind",
    [
        pyarrow.string(),
        pyarrow.large_string(),
        pyarrow.binary(),
        pyarrow.string_view(),
        pyarrow.dictionary(pyarrow.int32(), pyarrow.string()),
    ],
)
def test_every_kind_of_string_is_read(tmp_path: Path, kind: Any) -> None:
    texts = pyarrow.array(["a", "뉴스"], pyarrow.string()).cast(kind)
    source = write(tmp_path / "a.parquet", texts, texts)
    assert read(source) == ([(1, "a", "a"), (2, "뉴스", "뉴스")], [])


def test_whole_numbers_are_labels_and_batches_continue_row_numbers(tmp_path: Path) -> None:
    source = write(tmp_path / "a.parquet", ["x"] * 3000, list(range(3000)), row_group_size=700)
    rows, rejects = read(source)
    assert rows == [(number + 1, "x", str(number)) for number in range(3000)]
    assert rejects == []


def test_rejects_carry_their_row_and_reason(tmp_path: Path) -> None:
    raw = [b"a", b"\xff", None, b"x" * 100, b"b", b"c"]
    texts = pyarrow.array(raw, pyarrow.binary())
    labels = pyarrow.array([b"1", b"1", b"1", b"1", b"\xfe", None], pyarrow.binary())
    rows, rejects = read(write(tmp_path / "a.parquet", texts, labels), block_bytes=50)
    assert rows == [(1, "a", "1")]
    assert [(reject.row, reject.reason) for reject in rejects] == [
        (2, "undecodable_text"),
        (3, "missing_text"),
        (4, "row_too_long"),
        (5, "undecodable_label"),
        (6, "missing_label"),
    ]
    assert [reject.sample for reject in rejects[:2]] == ["\\xff | 1", " | 1"]


@pytest.mark.parametrize(
    ("names", "texts", "match"),
    [
        (["a", "category"], ["x"], r"expected one column 'title', found none among 'a', 'categ"),
        (["title", "b"], ["x"], r"expected one column 'category', found none among 'title', 'b'"),
        (["title", "category"], [1.5], r"expected strings in the column 'title', found double\."),
        (["title", "category"], [["x"]], r"in the column 'title', found list<"),
    ],
)
def test_columns_that_cannot_be_used_are_named(
    tmp_path: Path, names: list[str], texts: list[Any], match: str
) -> None:
    table = pyarrow.table([pyarrow.array(texts), pyarrow.array(["y"])], names=names)
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match=match):
        read(SourceConfig(path=tmp_path / "a.parquet"))


def test_label_of_another_type_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "a.parquet", ["x"], [1.5])
    with pytest.raises(DataError, match=r"strings or whole numbers in the column 'category', foun"):
        read(source)


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"title,category\na,b\n"])
def test_file_that_is_no_parquet_is_refused(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(damage)
    with pytest.raises(DataError, match=r"a\.parquet: expected a Parquet file, found one that can"):
        read(SourceConfig(path=tmp_path / "a.parquet"))


def test_damaged_page_is_explained(tmp_path: Path) -> None:
    source = write(
        tmp_path / "a.parquet", [f"text {number}" for number in range(5000)], ["a"] * 5000
    )
    content = bytearray(source.path.read_bytes())
    content[20_000:30_000] = bytes(10_000)
    source.path.write_bytes(content)
    with pytest.raises(DataError, match=r"found one that cannot be read at or after row \d+ \("):
        read(source)


def test_truncated_file_is_explained(tmp_path: Path) -> None:
    source = write(tmp_path / "a.parquet", ["x"], ["a"])
    source.path.write_bytes(source.path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"expected a Parquet file, found one that cannot be read"):
        read(source)


def test_announced_sizes_are_bounded_before_anything_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["0" * 2000 + str(number) for number in range(1000)]
    source = write(tmp_path / "a.parquet", texts, texts, compression="zstd", use_dictionary=False)
    with pytest.raises(DataError, match=r"at most 200 times .* a decompression bomb\."):
        read(source, ratio_from_bytes=2**16)
    with pytest.raises(DataError, match=r"expected at most 1000 bytes of table, found more\."):
        read(source, max_bytes=1000)
    monkeypatch.setattr(parquet_rows, "MAX_ROW_GROUP_BYTES", 1000)
    with pytest.raises(
        DataError, match=r"row groups of at most 1000 bytes, found \d+ in the one n"
    ):
        read(source)


def test_what_a_dictionary_unpacks_to_is_counted(tmp_path: Path) -> None:
    source = write(tmp_path / "a.parquet", ["0" * 10_000] * 1000, ["a"] * 1000)
    assert source.path.stat().st_size < 50_000
    with pytest.raises(DataError, match=r"this looks like a decompression bomb\."):
        read(source, ratio_from_bytes=2**20)


def test_parquet_in_a_zip_is_refused_with_a_way_out(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.parquet", b"PAR1")
    source = SourceConfig(path=tmp_path / "a.zip", member="a.parquet")
    with pytest.raises(DataError, match=r"found Parquet in a ZIP\. Unpack it, and name the file"):
        read(source)
