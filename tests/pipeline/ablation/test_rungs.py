"""Every rung: two epochs, each of them every row exactly once with the ids it ought to have."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

pytestmark = pytest.mark.slow

WORDS = ["river", "stone", "small", "bird", "of", "prey", "that", "eats", "fish", "and", "water"]
MAX_TOKENS = 12
RUNGS = [
    *("naive", "prefetch", "interleave", "parallel_interleave", "parallel_map", "classic"),
    *("bucket", "cache_memory", "cache_file", "snapshot"),
    *("cache_memory_blocks", "cache_file_blocks", "save_load"),
    *("vectorised_map", "vectorised_parallel"),
    *("window", "default", "default_block", "default_snapshot", "service"),
]


class Table(NamedTuple):
    shards: list[Path]
    tokenizer: Path
    rows: list[list[int]]
    """Ids of row i, whose label is i."""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """61 rows of 0 to 20 words in 5 shards of unlike sizes, one of them of a single row."""
    from pipeline.shards import write_shard
    from pipeline.tokenizer import encode_texts, load_processor, train_tokenizer

    folder = tmp_path_factory.mktemp("table")
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, size=rng.integers(0, 20))) for _ in range(61)]
    tokenizer = folder / "tokenizer.model"
    train_tokenizer(texts, 60, tokenizer)
    bounds = [0, 1, 20, 33, 50, 61]
    shards = []
    for number, (start, stop) in enumerate(itertools.pairwise(bounds)):
        shards.append(folder / f"train-{number:05d}-of-00005.tfrecord")
        texts_of_shard = [text.encode() for text in texts[start:stop]]
        write_shard(shards[-1], texts_of_shard, range(start, stop))
    return Table(shards, tokenizer, encode_texts(load_processor(tokenizer), texts, MAX_TOKENS))


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    from pipeline.ablation.measure import run_service

    with run_service() as found:
        yield found


def make_setting(table: Table, scratch: Path, **changes: Any) -> Any:
    from pipeline.ablation.rungs import Setting
    from pipeline.ablation.storage import make_opener

    return Setting(
        **{
            "shards": table.shards,
            "num_rows": len(table.rows),
            "tokenizer_path": table.tokenizer,
            "max_tokens": MAX_TOKENS,
            "batch_size": 8,
            "seed": 3,
            "word_dropout": 0.0,
            "open_shard": make_opener(None),
            "scratch": scratch,
            "window_rows": 25,
            **changes,
        }
    )


def read_epochs(epochs: Any, count: int) -> Iterator[list[tuple[Any, Any]]]:
    stream = iter(epochs.dataset) if epochs.steps else None
    for _ in range(count):
        if stream is None:
            yield list(epochs.dataset.as_numpy_iterator())
        else:
            yield [
                tuple(part.numpy() for part in next(stream))  # type: ignore[misc]
                for _ in range(epochs.steps)
            ]


def test_this_file_knows_every_rung() -> None:
    from pipeline.ablation.rungs import RUNGS as REGISTERED

    assert sorted(RUNGS) == sorted(REGISTERED)
    assert next(iter(REGISTERED)) == "naive"


@pytest.mark.parametrize("rung", RUNGS)
def test_two_epochs_are_every_row_exactly_once(
    table: Table, tmp_path: Path, rung: str, request: pytest.FixtureRequest
) -> None:
    from pipeline.ablation.rungs import RUNGS as REGISTERED
    from pipeline.service.config import ServiceConfig

    service = None
    if rung == "service":
        service = ServiceConfig(address=request.getfixturevalue("address"))
    epochs = REGISTERED[rung].build(make_setting(table, tmp_path, service=service))
    for epoch in read_epochs(epochs, 2):
        numbers = [int(number) for _, batch in epoch for number in batch]
        assert sorted(numbers) == list(range(len(table.rows)))
        for ids, batch in epoch:
            assert ids.dtype == np.int32
            assert [row[row != 0].tolist() for row in ids] == [table.rows[i] for i in batch]


@pytest.mark.parametrize("rung", ["naive", "parallel_interleave", "default"])
def test_a_single_row_is_an_epoch(table: Table, tmp_path: Path, rung: str) -> None:
    from pipeline.ablation.rungs import RUNGS as REGISTERED

    setting = make_setting(table, tmp_path, shards=table.shards[:1], num_rows=1)
    for epoch in read_epochs(REGISTERED[rung].build(setting), 2):
        assert [numbers.tolist() for _, numbers in epoch] == [[0]]


def test_simulated_remote_storage_delivers_the_same_rows(table: Table, tmp_path: Path) -> None:
    from pipeline.ablation.rungs import RUNGS as REGISTERED
    from pipeline.ablation.storage import Latency, make_opener

    opener = make_opener(Latency(open_ms=1, read_ms=1, records_per_read=7))
    epochs = REGISTERED["default"].build(make_setting(table, tmp_path, open_shard=opener))
    (epoch,) = read_epochs(epochs, 1)
    numbers = [int(number) for _, batch in epoch for number in batch]
    assert sorted(numbers) == list(range(len(table.rows)))
