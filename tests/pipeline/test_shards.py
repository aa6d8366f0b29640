"""TFRecord shards written and read without TensorFlow."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.shards import read_shard, write_shard
from pipeline.source import DataError

ROWS = st.lists(st.tuples(st.binary(max_size=300), st.integers(0, 2**40)), max_size=20)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
def test_reader_inverts_writer(tmp_path: Path, rows: list[tuple[bytes, int]]) -> None:
    texts, labels = [text for text, _ in rows], [label for _, label in rows]
    write_shard(tmp_path / "a", texts, labels)
    assert read_shard(tmp_path / "a") == (texts, labels)


@pytest.mark.parametrize("length", [4095, 4096, 4097, 8192, 20_000])
def test_checksum_of_a_long_record_is_that_of_its_bytes(length: int) -> None:
    from pipeline.shards import _CRC_TABLE, _masked_crcs

    record = bytes(number * 7 % 251 for number in range(length))
    register = 0xFFFFFFFF
    for byte in record:
        register = int(_CRC_TABLE[(register ^ byte) & 0xFF]) ^ (register >> 8)
    crc = register ^ 0xFFFFFFFF
    expected = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    assert _masked_crcs([b"short", record]).tolist()[1] == expected


def test_checksum_is_the_published_one(tmp_path: Path) -> None:
    # CRC-32C of "123456789" is 0xE3069283 (RFC 3720); masked as in record_writer.h.
    from pipeline.shards import _masked_crcs

    rotated = ((0xE3069283 >> 15) | (0xE3069283 << 17)) & 0xFFFFFFFF
    expected = (rotated + 0xA282EAD8) & 0xFFFFFFFF
    assert _masked_crcs([b"", b"123456789", b"12345"])[1] == expected


def test_one_huge_record_among_small_ones_survives(tmp_path: Path) -> None:
    texts = [b"x", b"y" * 300_000, b""]
    write_shard(tmp_path / "a", texts, [0, 1, 2])
    assert read_shard(tmp_path / "a") == (texts, [0, 1, 2])


@pytest.mark.parametrize("position", [3, 9, 20, -1])
def test_flipped_bit_is_found(tmp_path: Path, position: int) -> None:
    write_shard(tmp_path / "a", [b"a cat", b"a dog"], [1, 2])
    content = bytearray((tmp_path / "a").read_bytes())
    content[position] ^= 4
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DataError, match=r"expected whole records, found damage near byte \d+"):
        read_shard(tmp_path / "a")


def test_truncated_shard_is_found(tmp_path: Path) -> None:
    write_shard(tmp_path / "a", [b"a cat", b"a dog"], [1, 2])
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[:-5])
    with pytest.raises(DataError, match=r"expected whole records, found damage"):
        read_shard(tmp_path / "a")


def test_missing_shard_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a shard, found No such file or directory\."):
        read_shard(tmp_path / "none")


@pytest.mark.slow
def test_bytes_are_those_of_tensorflow(tmp_path: Path) -> None:
    import tensorflow as tf

    texts = [b"", "뉴스".encode(), b"x" * 200, b"y" * 70_000]
    labels = [0, 127, 128, 2**31]
    write_shard(tmp_path / "ours", texts, labels)
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for text, label in zip(texts, labels, strict=True):
            features = {
                "text": tf.train.Feature(bytes_list=tf.train.BytesList(value=[text])),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString(deterministic=True))
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
