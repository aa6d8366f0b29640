"""The cache stage of the stream: tokenised blocks in memory, or in a folder that owns its key.

tf.data leaves to its user what `pipeline.cache_folder` adds. The fingerprint that `snapshot`
computes of its own graph differed between two equal runs; a torn `save` loads and fails in the
middle of an epoch; a stale lock file of `cache(file)` fails the next run. Here a cache on disk is
written whole in a pass of its own, read back and counted before anybody trains on it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from pipeline.cache_folder import CacheConfig, CacheMode, open_cache_folder

_BLOCKS = "blocks"


def cache_blocks(
    blocks: tf.data.Dataset, config: CacheConfig, *, num_rows: int, make_key: Callable[[], str]
) -> tf.data.Dataset:
    """Put a cache behind `blocks`.

    Args:
        blocks: Yields tuples whose last part is `(b,)` labels; the same rows at each pass.
        config: Which cache, where.
        num_rows: Rows of one pass. A cache on disk that holds another number is not published.
        make_key: Gives the key; called for caches on disk only, as it reads all input.

    Returns:
        A dataset of the same elements in the same order.

    Raises:
        DataError: The folder cannot be written, or `blocks` do not hold `num_rows` rows.
    """
    if config.mode == "none":
        return blocks
    if config.mode == "memory":
        return blocks.cache()
    key = make_key()

    def fill(folder: Path) -> int:
        if config.mode == "block":
            blocks.save(str(folder / _BLOCKS))
        else:
            _count_rows(_snapshot(blocks, folder / _BLOCKS, key))
        return _count_rows(_read_blocks(blocks, config.mode, folder, key))

    folder = open_cache_folder(config, key, num_rows=num_rows, fill=fill)
    return _read_blocks(blocks, config.mode, folder, key)


def _read_blocks(
    blocks: tf.data.Dataset, mode: CacheMode, folder: Path, key: str
) -> tf.data.Dataset:
    if mode == "block":
        # One file, so the order is that of writing.
        return tf.data.Dataset.load(str(folder / _BLOCKS), element_spec=blocks.element_spec)
    return _snapshot(blocks, folder / _BLOCKS, key)


def _snapshot(blocks: tf.data.Dataset, folder: Path, key: str) -> tf.data.Dataset:
    """Return `blocks.snapshot(folder)` under a fingerprint of ours, in one file, in order.

    `Dataset.snapshot` takes no fingerprint, and that of its graph differed between two equal runs,
    each of which then wrote a snapshot of its own. Its default compression cannot read back
    elements above 256 kB.
    """
    spec = blocks.element_spec
    parts = tf.nest.flatten(spec)
    is_ragged = [isinstance(part, tf.RaggedTensorSpec) for part in parts]

    @tf.function(input_signature=[tf.data.DatasetSpec(tf.data.DatasetSpec(spec))])
    def read_in_order(files: tf.data.Dataset) -> tf.data.Dataset:
        return files.flat_map(lambda file: file)

    @tf.function(input_signature=[spec])
    def write_to_one_file(block: tuple[Any, ...]) -> tf.Tensor:
        return tf.constant(0, tf.int64)

    reader, sharder = (
        function.get_concrete_function() for function in (read_in_order, write_to_one_file)
    )
    variant = tf.raw_ops.SnapshotDatasetV2(
        input_dataset=tf.data.experimental.to_variant(blocks),
        path=str(folder),
        reader_func_other_args=reader.captured_inputs,
        shard_func_other_args=sharder.captured_inputs,
        output_types=[
            tf.variant if ragged else part.dtype
            for part, ragged in zip(parts, is_ragged, strict=True)
        ],
        output_shapes=[
            tf.TensorShape([]) if ragged else part.shape
            for part, ragged in zip(parts, is_ragged, strict=True)
        ],
        reader_func=reader,
        shard_func=sharder,
        hash_valid=True,
        hash=int(key[:15], 16),  # 60 bits: the attribute is a signed 64-bit integer
    )
    return tf.data.experimental.from_variant(variant, spec)


def _count_rows(blocks: tf.data.Dataset) -> int:
    rows = blocks.reduce(
        tf.constant(0, tf.int64),
        lambda count, block: count + tf.shape(block[-1], out_type=tf.int64)[0],
    )
    return int(rows)
