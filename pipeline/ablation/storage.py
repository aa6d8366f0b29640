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
        """Return the delay of reading one shard of `records` in sequence, in seconds.

        The read that finds the end of the shard costs as much as any other.
        """
        reads = -(-records // self.records_per_read) + 1
        return (self.open_ms + reads * self.read_ms) / 1000


def delay_elements(dataset: tf.data.Dataset, delay_ms: float) -> tf.data.Dataset:
    """Return `dataset` with a delay before each of its elements, and before its end.

    TensorFlow's own `SleepDataset` waits in C++ without holding Python's lock or a thread of the
    op pool. A `tf.py_function` that sleeps holds both: with 2 cores two sleepers would stop
    everything else, and "parallel" reads would overlap at most twice.
    """
    spec = dataset.element_spec
    variant = tf.raw_ops.SleepDataset(
        input_dataset=tf.data.experimental.to_variant(dataset),
        sleep_microseconds=tf.constant(round(delay_ms * 1000), tf.int64),
        output_types=[spec.dtype],
        output_shapes=[spec.shape],
    )
    return tf.data.experimental.from_variant(variant, spec)


def make_opener(latency: Latency | None) -> OpenShard:
    """Return how a shard is opened: from a scalar path to a dataset of serialised examples.

    Args:
        latency: Of the simulated storage; None reads the local disk.
    """
    if latency is None:
        return tf.data.TFRecordDataset

    def open_remote(path: tf.Tensor) -> tf.data.Dataset:
        # take(1): without it the end of the one-element dataset would be waited for as well.
        opened = delay_elements(tf.data.Dataset.from_tensors(path), latency.open_ms).take(1)
        blocks = opened.flat_map(tf.data.TFRecordDataset).batch(latency.records_per_read)
        return delay_elements(blocks, latency.read_ms).flat_map(tf.data.Dataset.from_tensor_slices)

    return open_remote
