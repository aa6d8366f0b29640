"""Simulated remote storage costs what it says, and parallel readers share the cost."""

from __future__ import annotations

import time

import pytest

pytestmark = pytest.mark.slow

OPEN_MS = 120.0
READ_MS = 40.0


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """4 shards of 30 records."""
    from pipeline.shards import write_shard

    folder = tmp_path_factory.mktemp("shards")
    for number in range(4):
        write_shard(folder / f"{number}.tfrecord", [b"text"] * 30, range(30))
    return sorted(str(path) for path in folder.iterdir())


def read_s(shards: list[str], *, parallel: bool) -> float:
    import tensorflow as tf

    from pipeline.ablation.storage import Latency, make_opener

    opener = make_opener(Latency(open_ms=OPEN_MS, read_ms=READ_MS, records_per_read=10))
    paths = tf.data.Dataset.from_tensor_slices(shards)
    records = (
        paths.interleave(opener, cycle_length=4, num_parallel_calls=4)
        if parallel
        else paths.flat_map(opener)
    )
    started = time.perf_counter()
    assert sum(1 for _ in records.batch(64)) == 2  # 120 records
    return time.perf_counter() - started


def test_a_sequential_reader_waits_for_every_open_and_read(shards: list[str]) -> None:
    from pipeline.ablation.storage import Latency

    delay_s = Latency(open_ms=OPEN_MS, read_ms=READ_MS, records_per_read=10).expect_s(30)
    assert delay_s == pytest.approx(0.12 + 3 * 0.04)
    assert read_s(shards, parallel=False) >= 4 * delay_s * 0.99


def test_parallel_readers_wait_at_the_same_time(shards: list[str]) -> None:
    sequential_s = 4 * (0.12 + 3 * 0.04)
    # The least of three: another process on this machine may take the cores from any of them.
    assert min(read_s(shards, parallel=True) for _ in range(3)) < 0.75 * sequential_s


def test_local_storage_is_the_plain_reader() -> None:
    import tensorflow as tf

    from pipeline.ablation.storage import make_opener

    assert make_opener(None) is tf.data.TFRecordDataset


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"open_ms": -1.0}, "open_ms: expected a value from 0 to 60000 ms, found -1.0."),
        ({"read_ms": 1e9}, "read_ms: expected a value from 0 to 60000 ms, found 1000000000.0."),
        ({"records_per_read": 0}, "records_per_read: expected a value from 1 to 1000000, found 0."),
    ],
)
def test_latency_out_of_range_is_refused(fields: dict[str, float], message: str) -> None:
    from pipeline.ablation.storage import Latency

    with pytest.raises(ValueError, match=message):
        Latency(**fields)  # type: ignore[arg-type]


def test_a_reader_can_be_dropped_in_the_middle(shards: list[str]) -> None:
    """With a `flat_map` under the sleeping op, this hung on about every second try."""
    import tensorflow as tf

    from pipeline.ablation.storage import Latency, make_opener

    opener = make_opener(Latency(open_ms=5, read_ms=1, records_per_read=2))
    paths = tf.data.Dataset.from_tensor_slices(shards * 10)
    for _ in range(10):
        records = paths.interleave(opener, cycle_length=4, num_parallel_calls=4).prefetch(1)
        next(iter(records.batch(16)))
