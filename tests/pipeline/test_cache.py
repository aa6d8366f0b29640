"""The cache stage: the same batches from every cache, before and after kill -9, in company."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.cache_folder import CacheConfig, clean_caches
from pipeline.tables.source import DataError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MODES = ("memory", "block", "snapshot", "none")
ROWS = 3000
WINDOW = 256


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path]:
    """Three shards of 3,000 rows, whose label is the row's number, and their tokenizer."""
    from pipeline.shards import write_shard
    from pipeline.tokenizer import train_tokenizer

    folder = tmp_path_factory.mktemp("table")
    rng = random.Random(0)
    words = ["river", "stone", "small", "bird", "of", "prey", "that", "eats", "fish", "water"]
    texts = [" ".join(rng.choices(words, k=rng.randrange(15))) for _ in range(ROWS)]
    tokenizer = folder / "tokenizer.model"
    train_tokenizer(texts, 60, tokenizer)
    shards = [folder / f"train-{index:05d}-of-00003.tfrecord" for index in range(3)]
    for index, path in enumerate(shards):
        labels = list(range(index, ROWS, 3))
        write_shard(path, [texts[label].encode() for label in labels], labels)
    return shards, tokenizer


def make_stream(table: tuple[list[Path], Path], config: CacheConfig, **changes: Any) -> Any:
    from pipeline.dataset import make_training_stream

    settings: dict[str, Any] = {
        "num_rows": ROWS,
        "max_tokens": 12,
        "batch_size": 64,
        "seed": 3,
        "window_rows": WINDOW,
        "word_dropout": 0.2,
    }
    return make_training_stream(*table, cache=config, **{**settings, **changes})


def take(stream: Any, epochs: int = 2) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(stream.dataset.take(epochs * stream.steps_per_epoch).as_numpy_iterator())


def assert_equal(expected: list[Any], found: list[Any]) -> None:
    assert len(expected) == len(found)
    for (ids, labels), (found_ids, found_labels) in zip(expected, found, strict=True):
        np.testing.assert_array_equal(ids, found_ids)
        np.testing.assert_array_equal(labels, found_labels)


def test_every_cache_gives_the_same_batches_and_every_row_once(
    table: tuple[list[Path], Path], tmp_path: Path
) -> None:
    expected = take(make_stream(table, CacheConfig(mode="none")))
    half = len(expected) // 2
    for epoch in (expected[:half], expected[half:]):
        assert Counter(int(label) for _, labels in epoch for label in labels) == Counter(
            range(ROWS)
        )
    for mode in MODES:
        for _ in range(2):  # written, and found
            assert_equal(expected, take(make_stream(table, CacheConfig(mode=mode, root=tmp_path))))


def test_a_cache_on_disk_is_reused_and_never_stale(
    table: tuple[list[Path], Path], tmp_path: Path
) -> None:
    shards, tokenizer = table
    config = CacheConfig(mode="block", root=tmp_path)
    for _ in range(2):
        make_stream(table, config)
    make_stream(table, config, batch_size=32, seed=4, word_dropout=0.0)  # cut behind the cache
    assert len(list(tmp_path.glob("data-*"))) == 1
    make_stream(table, config, max_tokens=11)
    make_stream(table, config, window_rows=WINDOW + 1)
    make_stream(table, config, subword_sampling=0.1)
    make_stream((shards[::-1], tokenizer), config)
    assert len(list(tmp_path.glob("data-*"))) == 5
    # A field that SentencePiece does not know: the same tokenizer in other bytes.
    changed = tmp_path / "other.model"
    changed.write_bytes(tokenizer.read_bytes() + bytes([0xFA, 0x7F, 1, 0]))
    make_stream((shards, changed), config)
    assert len(list(tmp_path.glob("data-*"))) == 6


def test_a_shard_with_missing_rows_makes_no_cache(
    table: tuple[list[Path], Path], tmp_path: Path
) -> None:
    shards, tokenizer = table
    with pytest.raises(DataError, match="expected 3000 rows as in data.json, found 2000"):
        make_stream((shards[:2], tokenizer), CacheConfig(mode="snapshot", root=tmp_path))
    assert list(clean_caches(tmp_path)) == []


FORKING = """
import os, signal, sys, time
from pathlib import Path
from pipeline.run_folder import import_tensorflow
import_tensorflow()  # once; nothing of it runs before the fork
import numpy as np
from pipeline.cache_folder import CacheConfig
from pipeline.dataset import make_training_stream

folder, root, rng = Path(sys.argv[1]), Path(sys.argv[2]), np.random.default_rng(1)

def write(mode):
    make_training_stream(
        sorted(folder.glob("*.tfrecord")), folder / "tokenizer.model", num_rows=3000,
        max_tokens=12, batch_size=64, seed=3, window_rows=256, word_dropout=0.2,
        cache=CacheConfig(mode=mode, root=root))

def start(mode):
    child = os.fork()
    if not child:
        write(mode)
        os._exit(0)
    return child

began = time.monotonic()
os.waitpid(start("block"), 0)
whole_s = time.monotonic() - began
for trial in range(20):
    child = start(("block", "snapshot")[trial % 2])
    time.sleep(rng.uniform(0.1, 1.0) * whole_s)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for cache in root.glob("data-*"):  # so that the next one has to write again
        if rng.random() < 0.7:
            cache.rename(root / f"gone-{trial}-{cache.name}")
pairs = [start(mode) for mode in ("block", "block", "snapshot", "snapshot")]
sys.exit(sum(os.waitpid(child, 0)[1] for child in pairs))
"""
"""Kills a process that writes a cache at 20 random points, then lets two write each at once."""


def test_caches_survive_kills_and_company(table: tuple[list[Path], Path], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKING, str(table[0][0].parent), str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        timeout=300,
    )
    assert done.returncode == 0, signal.Signals(abs(done.returncode))
    expected = take(make_stream(table, CacheConfig(mode="none")))
    for mode in ("block", "snapshot"):
        assert len(list(tmp_path.glob(f"data-{mode}-*"))) == 1
        assert_equal(expected, take(make_stream(table, CacheConfig(mode=mode, root=tmp_path))))
    assert not list(tmp_path.glob(".*.partial"))
