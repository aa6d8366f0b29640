"""The numbered sample: which rows it holds, and what counts as each of them once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ablation.sample import (
    DeliveryError,
    Sample,
    check_delivery,
    read_sample,
    write_sample,
)
from pipeline.data_folder import PreparedData


def make_sample(shard_rows: list[int]) -> Sample:
    return Sample(
        shards=tuple(Path(f"{number}.tfrecord") for number in range(len(shard_rows))),
        shard_rows=tuple(shard_rows),
        classes=(0,) * sum(shard_rows),
        tokenizer_path=Path("tokenizer.model"),
        max_tokens=256,
        num_classes=2,
        vocab_size=100,
    )


@given(st.lists(st.integers(1, 20), min_size=1, max_size=8), st.integers(1, 200))
def test_whole_shards_are_chosen_and_hold_no_more_than_asked(
    shard_rows: list[int], max_rows: int
) -> None:
    sample = make_sample(shard_rows)
    chosen = sample.choose_shards(max_rows)
    rows = sample.row_numbers(chosen)
    assert len(set(chosen)) == len(chosen) >= 1
    assert len(rows) <= max_rows or len(chosen) == 1
    assert len(rows) == sum(shard_rows[number] for number in chosen)
    assert np.all(np.diff(rows) > 0)


def test_all_shards_are_chosen_where_there_is_room() -> None:
    assert make_sample([5, 4, 5]).choose_shards(1000) == (0, 1, 2)


@given(st.integers(1, 50), st.randoms(use_true_random=False), st.data())
def test_any_order_is_fine_and_any_other_multiset_is_not(
    count: int, random: object, data: st.DataObject
) -> None:
    expected = np.arange(count)
    delivered = data.draw(st.permutations(range(count)))
    check_delivery(np.array(delivered), expected, rung="naive", epoch=1)
    place = data.draw(st.integers(0, count - 1))
    lost = np.array(delivered[:place] + delivered[place + 1 :], np.int64)
    twice = np.array([*delivered, delivered[place]])
    other = np.array([*delivered[:place], count + 7, *delivered[place + 1 :]])
    for wrong in (lost, twice, other):
        with pytest.raises(DeliveryError, match="expected each of"):
            check_delivery(wrong, expected, rung="naive", epoch=1)


def test_the_message_counts_what_is_missing_and_repeated() -> None:
    with pytest.raises(
        DeliveryError,
        match=r"rung cache_file, epoch 2: expected each of 4 rows exactly once, found 4 rows, 1 "
        r"missing \(first: \[3\]\) and 1 repeated \(first: \[0\]\). The figures of this rung",
    ):
        check_delivery(np.array([0, 0, 1, 2]), np.arange(4), rung="cache_file", epoch=2)


@pytest.mark.slow
def test_rows_are_numbered_and_keep_text_and_class(prepared: PreparedData, tmp_path: Path) -> None:
    from pipeline.shards import read_shard

    sample = write_sample(prepared, tmp_path, max_rows=10_000)
    assert read_sample(tmp_path) == sample
    texts, labels = prepared.train.read_rows()
    assert list(sample.classes) == labels
    found = [read_shard(shard) for shard in sample.shards]
    assert [text.decode() for shard_texts, _ in found for text in shard_texts] == texts
    assert [number for _, numbers in found for number in numbers] == list(range(len(texts)))


@pytest.mark.slow
def test_a_bounded_sample_takes_as_much_of_every_shard(
    prepared: PreparedData, tmp_path: Path
) -> None:
    sample = write_sample(prepared, tmp_path, max_rows=30)
    assert len(sample.classes) <= 30
    assert sample.shard_rows == (10, 10, 10)
