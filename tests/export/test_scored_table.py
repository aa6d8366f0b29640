from __future__ import annotations

import csv
import gzip
import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from export import scored_table
from export.scored_table import (
    add_scores,
    find_format,
    make_schema,
    publish_file,
    read_part,
    write_part,
    write_table,
)
from export.utf8_stream import TableError

TABLE = pyarrow.table({"title": ['a, "b"\nc', "", None], "id": [1, 2, 3]})


def write(path: Path, tables: list[Any]) -> bytes:
    write_table(path, path.with_name("partial"), tables[0].schema, tables, lambda table: None)
    assert not path.with_name("partial").exists()
    return path.read_bytes()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.csv", "csv"), ("a.b.CSV.gz", "csv.gz"), ("A.PARQUET", "parquet"), (".csv", "csv")],
)
def test_the_ending_chooses_the_format(name: str, expected: str) -> None:
    assert find_format(Path("folder.parquet") / name) == expected


def test_another_ending_is_refused() -> None:
    with pytest.raises(
        TableError,
        match=r"out\.tsv: expected a name that ends in \.csv, \.csv\.gz or \.parquet, found 'out.t",
    ):
        find_format(Path("out.tsv"))


def test_scores_stand_behind_the_columns_of_the_input() -> None:
    scored = add_scores(
        TABLE,
        ["x", "y"],
        np.array([[1, 0], [0, 1], [1, 0]]),
        np.array([[0.75, 0.25], [0.5, 0.5], [1, 0]], np.float32),
    )
    assert scored.schema == make_schema(TABLE.schema, 2, Path("out.csv"))
    assert scored.drop_columns(["title", "id"]).to_pylist()[0] == {
        "label_1": "y",
        "probability_1": 0.75,
        "label_2": "x",
        "probability_2": 0.25,
    }
    assert scored.select(["title", "id"]) == TABLE


def test_a_table_that_was_scored_before_is_refused() -> None:
    with pytest.raises(
        TableError,
        match="column probability_2: expected a new name, found it in the input. Rename the",
    ):
        make_schema(pyarrow.schema([("probability_2", pyarrow.string())]), 2, Path("out.csv"))


def test_columns_that_the_format_cannot_hold_are_refused() -> None:
    for kind in (
        pyarrow.list_(pyarrow.string()),
        pyarrow.binary(),
        pyarrow.binary(4),
        pyarrow.dictionary(pyarrow.int8(), pyarrow.large_binary()),
    ):
        schema = pyarrow.schema([("tags", kind)])
        make_schema(schema, 1, Path("out.parquet"))
        with pytest.raises(
            TableError,
            match="out.csv: expected columns that a CSV can hold, found 'tags' of .*(bin|list)",
        ):
            make_schema(schema, 1, Path("out.csv"))
    twice = pyarrow.schema([("x", pyarrow.string())] * 2)
    make_schema(twice, 1, Path("out.csv"))
    with pytest.raises(
        TableError, match="out.parquet: expected columns of distinct names, found x more than once"
    ):
        make_schema(twice, 1, Path("out.parquet"))


def test_a_csv_reads_back_as_it_was(tmp_path: Path) -> None:
    plain = write(tmp_path / "t.csv", [TABLE.slice(0, 1), TABLE.slice(1)])
    assert gzip.decompress(write(tmp_path / "t.csv.gz", [TABLE])) == plain
    assert list(csv.reader(io.StringIO(plain.decode(), newline=""))) == [
        ["title", "id"],
        ['a, "b"\nc', "1"],
        ["", "2"],
        ["", "3"],
    ]


def test_a_table_without_rows_has_its_header(tmp_path: Path) -> None:
    assert write(tmp_path / "t.csv", [TABLE.slice(0, 0)]) == b'"title","id"\n'
    write(tmp_path / "t.parquet", [TABLE.slice(0, 0)])
    assert parquet.read_table(tmp_path / "t.parquet") == TABLE.slice(0, 0)


@settings(deadline=None, max_examples=25)
@given(cuts=st.lists(st.integers(0, 300), max_size=6), data=st.data())
@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet"])
def test_the_bytes_do_not_depend_on_how_the_rows_are_cut(
    tmp_path_factory: pytest.TempPathFactory, ending: str, cuts: list[int], data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scored_table, "ROW_GROUP_ROWS", data.draw(st.sampled_from([1, 64, 1000])))
        table = pyarrow.table({"title": [f"text {row % 7}" for row in range(300)]})
        bounds = [0, *sorted(cuts), 300]
        pieces = [table.slice(start, stop - start) for start, stop in itertools.pairwise(bounds)]
        assert write(folder / f"a.{ending}", pieces) == write(folder / f"b.{ending}", [table])


def test_row_groups_are_of_one_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scored_table, "ROW_GROUP_ROWS", 4)
    write(tmp_path / "t.parquet", [TABLE] * 3)
    metadata = parquet.read_metadata(tmp_path / "t.parquet")
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    assert sizes == [4, 4, 1]


def test_a_part_reads_back_as_it_was(tmp_path: Path) -> None:
    words = [pyarrow.array(word).dictionary_encode() for word in (["a", None], ["b", "a"])]
    table = pyarrow.table({"word": pyarrow.chunked_array(words), "list": [[1], [], None, [2, 3]]})
    write_part(tmp_path / "part", table)
    assert read_part(tmp_path / "part").to_pylist() == table.to_pylist()
    assert [path.name for path in tmp_path.iterdir()] == ["part"]


def test_a_damaged_part_is_refused(tmp_path: Path) -> None:
    write_part(tmp_path / "part", TABLE)
    whole = (tmp_path / "part").read_bytes()
    for damaged in (whole[:-9], b"ARROW1", b"nothing at all, but long enough"):
        (tmp_path / "part").write_bytes(damaged)
        with pytest.raises(
            TableError,
            match=r"part: expected a whole part, found it damaged \(.*\)\. Delete it and run the",
        ):
            read_part(tmp_path / "part")


def test_a_file_that_is_not_finished_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with (
        pytest.raises(RuntimeError),
        publish_file(tmp_path / "file", tmp_path / "partial") as file,
    ):
        file.write(b"new")
        raise RuntimeError
    assert (tmp_path / "file").read_bytes() == b"old"
