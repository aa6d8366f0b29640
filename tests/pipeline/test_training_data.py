"""What a training reads: the batches of its settings, counted classes, a split in whole."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from pipeline.config import TrainConfig
from pipeline.data_folder import PreparedData

pytestmark = pytest.mark.slow

TRAINING = TrainConfig(batch_size=32, word_dropout=0.0)


def test_classes_are_counted_over_the_training_split(prepared: PreparedData) -> None:
    from pipeline.training_data import count_classes

    counts = Counter(prepared.train.read_rows()[1])
    assert sum(counts.values()) == prepared.train.count
    assert count_classes(prepared) == [counts[index] for index in range(len(prepared.labels))]


def test_the_batches_to_try_are_the_first_of_the_training(prepared: PreparedData) -> None:
    from pipeline.training_data import make_stream, read_batches

    stream = make_stream(prepared, TRAINING).dataset.take(3)
    for (ids, labels), (first_ids, first_labels) in zip(
        read_batches(prepared, TRAINING, 3), stream, strict=True
    ):
        np.testing.assert_array_equal(ids, first_ids)
        np.testing.assert_array_equal(labels, first_labels)
        assert (ids[:, -1] != 0).any()  # padded to the longest row and not further


def test_under_xla_widths_are_few_and_batches_to_try_are_as_before(prepared: PreparedData) -> None:
    from pipeline.dataset import WIDTHS
    from pipeline.training_data import make_stream, read_batches

    compiled = TrainConfig(batch_size=32, word_dropout=0.0, jit_compile="on")
    for ids, _ in make_stream(prepared, compiled).dataset.take(5):
        assert ids.shape[1] in WIDTHS
    for (ids, _), (plain_ids, _) in zip(
        *(read_batches(prepared, each, 2) for each in (compiled, TRAINING)), strict=True
    ):
        np.testing.assert_array_equal(ids, plain_ids)


def test_an_evaluation_reads_each_row_of_its_split_once(prepared: PreparedData) -> None:
    from pipeline.training_data import make_evaluation

    batches = make_evaluation(prepared, prepared.validation, TRAINING)
    labels = list(itertools.chain.from_iterable(found.numpy().tolist() for _, found in batches))
    assert sorted(labels) == sorted(prepared.validation.read_rows()[1])
