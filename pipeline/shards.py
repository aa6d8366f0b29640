"""TFRecord shards of (text, label) examples: an inverse pair.

A record is a `tf.train.Example {"label": int64, "text": bytes}`, its framing and checksums are
TensorFlow's own. TensorFlow is imported by the functions, so that commands which find their data
folder up to date answer without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.run_folder import import_tensorflow
from pipeline.tables.source import DataError

READ_BATCH = 1024
"""Records handed to Python at once: one by one, the iterator costs 15 times as much."""


def write_shard(path: Path, texts: Sequence[bytes], labels: Sequence[int]) -> None:
    """Write one shard.

    Args:
        path: Written; its folder exists.
        texts: N texts, UTF-8.
        labels: N label ids.
    """
    tf = import_tensorflow()
    # One record for all rows: to build each anew takes twice as long.
    example = tf.train.Example()
    text_value = example.features.feature["text"].bytes_list.value
    label_value = example.features.feature["label"].int64_list.value
    text_value.append(b"")
    label_value.append(0)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for text, label in zip(texts, labels, strict=True):
            text_value[0], label_value[0] = text, label
            writer.write(example.SerializeToString(deterministic=True))


def read_shard(path: Path) -> tuple[list[bytes], list[int]]:
    """Read one shard of `write_shard`, checksums checked.

    Returns:
        N texts and N label ids.

    Raises:
        DataError: The shard is missing, cut short or damaged, or holds other records.
    """
    tf = import_tensorflow()
    texts: list[bytes] = []
    labels: list[int] = []
    try:
        for batch in tf.data.TFRecordDataset(str(path)).batch(READ_BATCH).as_numpy_iterator():
            for record in batch:
                feature = tf.train.Example.FromString(record).features.feature
                texts.append(feature["text"].bytes_list.value[0])
                labels.append(feature["label"].int64_list.value[0])
    except (tf.errors.OpError, ValueError, IndexError) as err:
        raise DataError(
            f"{path}: expected a TFRecord shard of texts and labels, found damage at or behind "
            f"record {len(texts)} ({type(err).__name__}). Prepare again with `make data`."
        ) from err
    return texts, labels
