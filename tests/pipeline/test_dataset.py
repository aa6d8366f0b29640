"""The tf.data stream: every row exactly once an epoch, made again from (seed, epoch) alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from pipeline.cache_folder import CacheConfig

pytestmark = pytest.mark.slow

WORDS = [
    *("river", "stone", "small", "bird", "of", "prey", "that", "eats"),
    *("fish", "and", "lives", "near", "the", "water", "in", "spring"),
]
MAX_TOKENS = 12


class Table(NamedTuple):
    shards: list[Path]
    tokenizer: Path
    rows: list[list[int]]
    """Ids of row i, whose label is i: labels identify rows."""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """97 rows of 0 to 20 words in 3 shards; row number as label."""
    from pipeline.shards import write_shard
    from pipeline.tokenizer import encode_texts, load_processor, train_tokenizer

    folder = tmp_path_factory.mktemp("table")
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, size=rng.integers(0, 20))) for _ in range(97)]
    tokenizer = folder / "tokenizer.model"
    train_tokenizer(texts, 60, tokenizer)
    shards = [folder / f"train-{shard:05d}-of-00003.tfrecord" for shard in range(3)]
    for shard, path in enumerate(shards):
        labels = list(range(shard, len(texts), 3))
        write_shard(path, [texts[label].encode() for label in labels], labels)
    rows = encode_texts(load_processor(tokenizer), texts, MAX_TOKENS)
    return Table(shards, tokenizer, rows)


def make_stream(table: Table, **changes: Any) -> Any:
    from pipeline.dataset import make_training_stream

    settings: dict[str, Any] = {
        "num_rows": 97,
        "max_tokens": MAX_TOKENS,
        "batch_size": 8,
        "seed": 3,
        "window_rows": 40,
    }
    return make_training_stream(table.shards, table.tokenizer, **{**settings, **changes})


def take_epochs(stream: Any, epochs: int) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    steps = stream.steps_per_epoch
    batches = list(stream.dataset.take(steps * epochs).as_numpy_iterator())
    return [batches[start : start + steps] for start in range(0, len(batches), steps)]


def unpad(batch: np.ndarray) -> list[list[int]]:
    return [row[row != 0].tolist() for row in batch]


@pytest.mark.parametrize("cache", ["memory", "none"])
@pytest.mark.parametrize(("batch_size", "window_rows"), [(8, 40), (1, 97), (200, 1000), (7, 1)])
def test_each_epoch_delivers_each_row_exactly_once(
    table: Table, batch_size: int, window_rows: int, cache: Any
) -> None:
    stream = make_stream(
        table, batch_size=batch_size, window_rows=window_rows, cache=CacheConfig(mode=cache)
    )
    for epoch in take_epochs(stream, 3):
        delivered = Counter(int(label) for _, labels in epoch for label in labels)
        assert delivered == Counter(range(97))
        for ids, labels in epoch:
            assert unpad(ids) == [table.rows[label] for label in labels]


@pytest.mark.parametrize("start_step", [0, 1, 7, 13])
def test_a_resumed_epoch_equals_the_unbroken_one(table: Table, start_step: int) -> None:
    unbroken = make_stream(table, word_dropout=0.3)
    expected = list(unbroken.dataset.take(4 * unbroken.steps_per_epoch).as_numpy_iterator())
    expected = expected[2 * unbroken.steps_per_epoch + start_step :]
    resumed = make_stream(table, word_dropout=0.3, start_epoch=2, start_step=start_step)
    found = list(resumed.dataset.take(len(expected)).as_numpy_iterator())
    assert unbroken.is_repeatable
    for (ids, labels), (resumed_ids, resumed_labels) in zip(expected, found, strict=True):
        np.testing.assert_array_equal(ids, resumed_ids)
        np.testing.assert_array_equal(labels, resumed_labels)


def test_subword_sampling_varies_the_ids_and_neither_the_text_nor_the_plan(table: Table) -> None:
    from pipeline.tokenizer import load_processor

    processor = load_processor(table.tokenizer)
    plain, _ = take_epochs(make_stream(table), 2)
    changes = {"subword_sampling": 0.3, "max_tokens": 200}
    first, second = take_epochs(make_stream(table, **changes), 2)
    # At most as many ids as the plain stream planned with are no longer a bound on the row.
    assert Counter(int(label) for _, labels in first for label in labels) == Counter(range(97))
    assert Counter(int(label) for _, labels in second for label in labels) == Counter(range(97))
    long = make_stream(table, max_tokens=200)
    for (ids, labels), (whole, whole_labels) in zip(first, take_epochs(long, 1)[0], strict=True):
        np.testing.assert_array_equal(labels, whole_labels)
        for sampled, best in zip(unpad(ids), unpad(whole), strict=True):
            assert processor.decode(sampled) == processor.decode(best)
            assert len(sampled) >= len(best)
    sampled_ids = sum(ids.astype(bool).sum() for ids, _ in first)
    assert sampled_ids > 1.1 * sum(ids.astype(bool).sum() for ids, _ in plain)
    again = take_epochs(make_stream(table, **changes), 1)[0]
    assert any(
        found.shape != ids.shape or (found != ids).any()
        for (ids, _), (found, _) in zip(first, again, strict=True)
    )


def test_epochs_and_seeds_differ_in_order(table: Table) -> None:
    first, second = take_epochs(make_stream(table), 2)
    (other,) = take_epochs(make_stream(table, seed=4), 1)
    orders = {
        tuple(int(label) for _, labels in epoch for label in labels)
        for epoch in (first, second, other)
    }
    assert len(orders) == 3


def test_a_batch_holds_rows_of_like_length(table: Table) -> None:
    stream = make_stream(table, window_rows=97)
    (epoch,) = take_epochs(stream, 1)
    padded = sum(ids.size for ids, _ in epoch)
    real = sum(len(row) for row in table.rows)
    assert padded < 1.15 * real


def test_under_xla_widths_come_from_the_list_where_they_fit(table: Table) -> None:
    (epoch,) = take_epochs(make_stream(table, widths=(4, 9), batch_size=2), 1)
    widths = {ids.shape[1] for ids, _ in epoch}
    assert {width for width in widths if width <= 9} == {4, 9}
    assert max(widths) == max(len(row) for row in table.rows) > 9  # keeps its own width


def test_word_dropout_replaces_ids_by_unknown_and_never_padding(table: Table) -> None:
    (epoch,) = take_epochs(make_stream(table, word_dropout=0.5), 1)
    dropped = total = 0
    for ids, labels in epoch:
        for row, label in zip(ids, labels, strict=True):
            truth = np.array(table.rows[label])
            assert not row[len(truth) :].any()
            changed = row[: len(truth)] != truth
            assert (row[: len(truth)][changed] == 1).all()
            dropped += int(changed.sum())
            total += len(truth)
    assert 0.4 < dropped / total < 0.6


def test_an_empty_text_becomes_one_unknown_id(table: Table) -> None:
    assert [1] in table.rows  # the fixture holds an empty text
    (epoch,) = take_epochs(make_stream(table), 1)
    assert all((ids[:, 0] != 0).all() for ids, _ in epoch)


def test_evaluation_delivers_each_row_once_in_order_of_length(table: Table) -> None:
    from pipeline.dataset import make_evaluation_dataset

    batches = make_evaluation_dataset(
        table.shards, table.tokenizer, num_rows=97, max_tokens=MAX_TOKENS, batch_size=10
    )
    for _ in range(2):
        rows = [
            (ids, int(label))
            for batch, labels in batches.as_numpy_iterator()
            for ids, label in zip(unpad(batch), labels, strict=True)
        ]
        assert sorted(label for _, label in rows) == list(range(97))
        assert all(table.rows[label] == ids for ids, label in rows)
        lengths = [len(ids) for ids, _ in rows]
        assert lengths == sorted(lengths)


@pytest.mark.parametrize(
    ("rows", "batch", "window", "steps"),
    [(10, 4, 6, 3), (12, 4, 6, 4), (1, 8, 100, 1), (100, 10, 100, 10), (101, 10, 100, 11)],
)
def test_steps_count_the_batches_of_every_window(
    rows: int, batch: int, window: int, steps: int
) -> None:
    from pipeline.dataset import count_steps

    assert count_steps(rows, batch, window) == steps


def test_tokenising_words_gives_the_ids_of_tokenising_texts(table: Table) -> None:
    import tensorflow as tf

    from pipeline.dataset import make_tokenizer, tokenise_batch, tokenise_words

    rng = np.random.default_rng(2)
    words = [*WORDS, "", "Water", "spring-water", "\twell", "\N{SNOWMAN}", "ri\0ver", "fi\u0301sh"]
    texts = [" ".join(rng.choice(words, rng.integers(0, 9))) for _ in range(3000)]
    tokenizer = make_tokenizer(table.tokenizer)
    for limit in (1, 3, 256):
        expected = tokenise_batch(tokenizer, tf.constant(texts), limit)
        assert tokenise_words(tokenizer, tf.constant(texts), limit).to_list() == expected.to_list()
