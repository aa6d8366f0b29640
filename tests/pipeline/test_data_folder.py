"""Reading a data folder, whole and damaged."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.data_folder import PreparedData, name_shard, read_key, read_prepared, write_split
from pipeline.tables.source import DataError

pytestmark = pytest.mark.slow  # writing shards takes TensorFlow


@pytest.fixture
def folder(prepared: PreparedData, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(prepared.folder, tmp_path / "pets"))


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    fields = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    change(fields)
    (folder / "data.json").write_text(json.dumps(fields), encoding="utf-8")


def test_copied_folder_reads_the_same(prepared: PreparedData, folder: Path) -> None:
    data = read_prepared(folder)
    same = dataclasses.replace(prepared, folder=folder)
    for name in ("name", "fingerprint", "labels", "vocab_size", "max_tokens", "counts"):
        assert getattr(data, name) == getattr(same, name)
    assert data.tokenizer_path == folder / "tokenizer.model"
    assert [split.read_rows() for _, split in data.splits()] == [
        split.read_rows() for _, split in prepared.splits()
    ]
    assert read_key(folder) == read_key(prepared.folder)


def test_shards_are_named_and_none_is_empty(tmp_path: Path) -> None:
    sizes = write_split(tmp_path, "test", [b"a", b"b", b"c"], [0, 1, 0], shards=16)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"test-0000{index}-of-00003.tfrecord" for index in range(3)]
    assert [(tmp_path / name).stat().st_size for name in names] == sizes
    assert name_shard("train", 7, 16) == "train-00007-of-00016.tfrecord"


def test_missing_folder_is_explained(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"not a finished data folder\. Prepare it with `make data`"
    ):
        read_prepared(tmp_path / "none")
    assert read_key(tmp_path / "none") is None


def test_newer_schema_is_refused(folder: Path) -> None:
    edit(folder, lambda fields: fields.update(schema_version=2))
    with pytest.raises(DataError, match=r"expected schema_version 1 to 1, found 2\. Upgrade"):
        read_prepared(folder)


def test_data_json_that_is_no_json_is_refused(folder: Path) -> None:
    (folder / "data.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"data\.json: expected JSON, found .*`make data`"):
        read_prepared(folder)


def test_huge_data_json_is_not_parsed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.json_file.MAX_JSON_BYTES", 10)
    with pytest.raises(DataError, match=r"data\.json: expected at most 10 bytes, found \d+\."):
        read_prepared(folder)


@pytest.mark.parametrize("field", ["name", "splits", "counts", "vocab_size", "num_classes"])
def test_missing_field_is_named(folder: Path, field: str) -> None:
    edit(folder, lambda fields: fields.pop(field))
    with pytest.raises(DataError, match=rf"data\.json: KeyError\('{field}'\)\. .*`make data`"):
        read_prepared(folder)


def test_missing_shard_is_found(folder: Path) -> None:
    (folder / "train-00001-of-00003.tfrecord").unlink()
    with pytest.raises(DataError, match=r"train-00001.*bytes as in data\.json, found no such file"):
        read_prepared(folder)


def test_truncated_shard_is_found(folder: Path) -> None:
    shard = folder / "test-00000-of-00001.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"expected \d+ bytes as in data\.json, found \d+\."):
        read_prepared(folder)


def test_wrong_number_of_labels_is_found(folder: Path) -> None:
    (folder / "labels.json").write_text('["one"]', encoding="utf-8")
    with pytest.raises(DataError, match=r"labels\.json: expected 2 labels .*, found 1\."):
        read_prepared(folder)


def test_missing_tokenizer_is_found(folder: Path) -> None:
    (folder / "tokenizer.model").unlink()
    with pytest.raises(DataError, match=r"tokenizer\.model: no such file\. Prepare again"):
        read_prepared(folder)


def test_missing_rows_are_found_when_read(folder: Path) -> None:
    edit(folder, lambda fields: fields["splits"]["test"].update(count=1000))
    with pytest.raises(DataError, match=r"expected 1000 rows as in data\.json, found \d+\."):
        read_prepared(folder).test.read_rows()
