"""TFRecord shards: what is written is what is read, and damage is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.shards import read_shard, write_shard
from pipeline.tables.source import DataError

pytestmark = pytest.mark.slow

ROWS = st.lists(st.tuples(st.binary(max_size=300), st.integers(0, 2**40)), max_size=20)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(rows=ROWS)
def test_reader_inverts_writer(tmp_path: Path, rows: list[tuple[bytes, int]]) -> None:
    texts, labels = [text for text, _ in rows], [label for _, label in rows]
    write_shard(tmp_path / "a", texts, labels)
    assert read_shard(tmp_path / "a") == (texts, labels)


@pytest.mark.parametrize("position", [3, 9, 20, -1])
def test_flipped_bit_is_found(tmp_path: Path, position: int) -> None:
    write_shard(tmp_path / "a", [b"a cat", b"a dog"], [1, 2])
    content = bytearray((tmp_path / "a").read_bytes())
    content[position] ^= 4
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DataError, match=r"found damage at or behind record \d .DataLossError."):
        read_shard(tmp_path / "a")


def test_truncated_shard_is_found(tmp_path: Path) -> None:
    write_shard(tmp_path / "a", [b"a cat", b"a dog"], [1, 2])
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[:-5])
    with pytest.raises(DataError, match="expected a TFRecord shard of texts and labels"):
        read_shard(tmp_path / "a")


def test_missing_shard_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found damage at or behind record 0 .NotFoundError."):
        read_shard(tmp_path / "none")


def test_a_record_of_another_kind_is_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(tmp_path / "a")) as writer:
        writer.write(tf.train.Example().SerializeToString())
    with pytest.raises(DataError, match=r"found damage at or behind record 0 .IndexError."):
        read_shard(tmp_path / "a")
