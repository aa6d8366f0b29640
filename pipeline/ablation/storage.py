"""Where shards are read from: the local disk, or simulated remote storage.

Simulated is what makes object stores slow for small reads: a delay before the first byte of every
shard (connection, request, look-up) and one before every block of records. The delay is spent
inside the graph, in the thread that asks for the next record, exactly where a blocking read would
spend it: it burns no CPU, a parallel interleave overlaps it, a sequential one adds it up.

Not simulated: bandwidth (the bytes themselves come at disk speed), jitter and slow outliers,
retries, throttling by the store, and read-ahead by a file system client. Real stores can be
better (read-ahead) or worse (throttling) than what is printed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import tensorflow as tf

StorageName = Literal["local", "remote"]
OpenShard = Callable[[tf.Tensor], tf.data.Dataset]


@dataclass(frozen=True, kw_only=True)
class Latency:
    """What remote storage costs.

    Attributes:
        open_ms: Delay before the first record of a shard, milliseconds.
        read_ms: Delay before each block of records.
        records_per_read: Records that one read brings.
    """

    open_ms: float = 100.0
    read_ms: float = 10.0
    records_per_read: int = 256

    def __post_init__(self) -> None:
        for name, value in (("open_ms", self.open_ms), ("read_ms", self.read_ms)):
            if not 0 <= value <= 60_000:
                raise ValueError(f"{name}: expected a value from 0 to 60000 ms, found {value}.")
        if not 1 <= self.records_per_read <= 1_000_000:
            raise ValueError(
                "records_per_read: expected a value from 1 to 1000000, found "
                f"{self.records_per_read}."
            )

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    def expect_s(self, records: int) -> float:
        """Return the delay of reading one shard of `records` in sequence, in seconds."""
        reads = -(-records // self.records_per_read)
        return (self.open_ms + reads * self.read_ms) / 1000


def delay_element(element: tf.Tensor, delay_ms: float) -> tf.data.Dataset:
    """Return a dataset of `element` alone, which takes `delay_ms` to appear.

    TensorFlow's own `SleepDataset` waits in C++ without holding Python's lock or a thread of the
    op pool. A `tf.py_function` that sleeps holds both: with 2 cores two sleepers would stop
    everything else, and "parallel" reads would overlap at most twice.

    It must only ever stand on a plain tensor. While it waits for its input it holds a lock that
    its cancellation wants as well; with a `flat_map` underneath, an iterator that was dropped in
    the middle of an epoch hung for ever.
    """
    variant = tf.raw_ops.SleepDataset(
        input_dataset=tf.data.experimental.to_variant(tf.data.Dataset.from_tensors(element)),
        sleep_microseconds=tf.constant(round(delay_ms * 1000), tf.int64),
        output_types=[element.dtype],
        output_shapes=[element.shape],
    )
    spec = tf.TensorSpec(element.shape, element.dtype)
    # take(1): it sleeps before every answer, and "there is no more" is one.
    return tf.data.experimental.from_variant(variant, spec).take(1)


def make_opener(latency: Latency | None) -> OpenShard:
    """Return how a shard is opened: from a scalar path to a dataset of serialised examples.

    Args:
        latency: Of the simulated storage; None reads the local disk.
    """
    if latency is None:
        return tf.data.TFRecordDataset

    def read_block(records: tf.Tensor) -> tf.data.Dataset:
        return delay_element(records, latency.read_ms).flat_map(tf.data.Dataset.from_tensor_slices)

    def open_remote(path: tf.Tensor) -> tf.data.Dataset:
        opened = delay_element(tf.convert_to_tensor(path), latency.open_ms)
        records = opened.flat_map(tf.data.TFRecordDataset)
        return records.batch(latency.records_per_read).flat_map(read_block)

    return open_remote
