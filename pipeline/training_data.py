"""What a training reads under its settings: its stream, batches to try, splits to evaluate.

`pipeline.dataset` makes the datasets; here a prepared folder and a `TrainConfig` become its
arguments.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from pipeline import dataset
from pipeline.cache_folder import CacheConfig
from pipeline.config import TrainConfig
from pipeline.data_folder import PreparedData, Split
from pipeline.service.config import ServiceConfig
from pipeline.shards import read_shard


def count_classes(data: PreparedData) -> list[int]:
    """Count the rows of each class in the training split."""
    counts = np.zeros(len(data.labels), np.int64)
    for shard in data.train.shards:
        counts += np.bincount(read_shard(shard)[1], minlength=len(counts))
    return [int(count) for count in counts]


def make_stream(
    data: PreparedData,
    training: TrainConfig,
    *,
    cache: CacheConfig = dataset.IN_MEMORY,
    service: ServiceConfig | None = None,
    start_epoch: int = 0,
    start_step: int = 0,
) -> dataset.TrainingStream:
    """Make the training stream that the settings describe, from a step of an epoch on."""
    return dataset.make_training_stream(
        data.train.shards,
        data.tokenizer_path,
        num_rows=data.train.count,
        max_tokens=data.max_tokens,
        batch_size=training.batch_size,
        seed=training.seed,
        start_epoch=start_epoch,
        start_step=start_step,
        word_dropout=training.word_dropout,
        subword_sampling=training.subword_sampling,
        widths=_choose_widths(training),
        cache=cache,
        service=service,
    )


def read_batches(
    data: PreparedData, training: TrainConfig, count: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the first batches of a training, each padded to its longest row."""
    plain = dataclasses.replace(training, jit_compile="off")
    stream = make_stream(data, plain).dataset.take(count)
    return [(ids.numpy(), labels.numpy()) for ids, labels in stream]


def make_evaluation(data: PreparedData, split: Split, training: TrainConfig) -> tf.data.Dataset:
    """Make one pass over a split of `data`, padded as the training is."""
    return dataset.make_evaluation_dataset(
        split.shards,
        data.tokenizer_path,
        num_rows=split.count,
        max_tokens=data.max_tokens,
        widths=_choose_widths(training),
    )


def _choose_widths(training: TrainConfig) -> tuple[int, ...] | None:
    return dataset.WIDTHS if training.jit_compile == "on" else None
