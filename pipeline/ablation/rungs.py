"""The ladder: every way to feed texts to a model that is commonly advised, one function each.

Read from top to bottom, this is how a fast input pipeline for short texts is built. The classic
advice comes first, one step at a time *alone* on top of the naive pipeline, so that each pays or
does not pay by itself. Then the step that matters (work on batches, never on elements), and what
it makes possible, each *on top of* the one before.

With texts of ten tokens, tokenising one takes about 3 us and starting the op that does it takes
ten times as long. Whatever adds an operation per element, however advisable for images, adds to
that; whatever removes operations wins. What each step does on a machine is measured, not taken
from here: `make ablation`.

A rung builds one epoch, or an endless stream with a known number of steps. All give
((B, T) int32 ids padded with 0, (B,) int32 labels).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tensorflow as tf

from pipeline.ablation.storage import OpenShard
from pipeline.cache_folder import CacheConfig, CacheMode
from pipeline.config import PAD_ID, UNK_ID
from pipeline.dataset import (
    FEATURES,
    WINDOW_ROWS,
    make_id_blocks,
    make_tokenizer,
    make_training_stream,
    parse_batch,
    tokenise_batch,
)
from pipeline.service.config import ServiceConfig

AUTOTUNE = tf.data.AUTOTUNE
SHUFFLE_ROWS = 10_000
"""Buffer of the classic shuffle: what tutorials use; the window shuffles 65,536 rows."""
CYCLE = 4
"""Shards read at once, as in the product's own pipeline."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a rung builds its dataset from.

    Attributes:
        shards: TFRecord files of `{"text": bytes, "label": int64}` examples.
        num_rows: Rows in them.
        tokenizer_path: SentencePiece model.
        max_tokens: Longest row.
        batch_size: B.
        seed: Of the order.
        word_dropout: Of the product's own stream, as in training.
        open_shard: How a shard is opened: local or simulated remote storage.
        scratch: An empty folder on the local disk, for caches.
        service: A running tf.data service, for the rung that needs one.
        window_rows: Rows sorted together by the product's stream.
    """

    shards: Sequence[Path]
    num_rows: int
    tokenizer_path: Path
    max_tokens: int
    batch_size: int
    seed: int
    word_dropout: float
    open_shard: OpenShard
    scratch: Path
    service: ServiceConfig | None = None
    window_rows: int = WINDOW_ROWS

    def paths(self) -> tf.data.Dataset:
        """Return the shards' paths as scalar strings."""
        return tf.data.Dataset.from_tensor_slices([str(path) for path in self.shards])


@dataclass(frozen=True, kw_only=True)
class Epochs:
    """What a rung built.

    Attributes:
        dataset: One epoch if `steps` is None, otherwise an endless stream.
        steps: Batches an epoch of the endless stream.
    """

    dataset: tf.data.Dataset
    steps: int | None = None


Base = Literal["alone", "on top"]
Build = Callable[[Setting], Epochs]


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One rung of the ladder.

    Attributes:
        name: In options, tables and JSON.
        title: What it adds, in a few words.
        base: `alone`: naive and this one step. `on top`: all the steps above that are on top.
        per_element: Whether it handles rows one by one, and so is measured on fewer of them.
        build: Makes the dataset.
    """

    name: str
    title: str
    base: Base
    per_element: bool
    build: Build


RUNGS: dict[str, Rung] = {}
"""All rungs by name, in the order of this file."""


def rung(title: str, *, base: Base, per_element: bool) -> Callable[[Build], Build]:
    """Put a building function into `RUNGS` under its own name."""

    def register(build: Build) -> Build:
        name = build.__name__
        RUNGS[name] = Rung(name=name, title=title, base=base, per_element=per_element, build=build)
        return build

    return register


# Stages that several rungs share.


def read_in_sequence(setting: Setting) -> tf.data.Dataset:
    """Read one shard after the other: serialised examples, scalar strings."""
    return setting.paths().flat_map(setting.open_shard)


def read_in_parallel(setting: Setting) -> tf.data.Dataset:
    """Read `CYCLE` shards at once, each by its own thread, 256 records of each in turn."""
    return setting.paths().interleave(
        setting.open_shard, cycle_length=CYCLE, block_length=256, num_parallel_calls=AUTOTUNE
    )


def make_row_parser(setting: Setting) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Return a function from one serialised example to ((T,) int32 ids, int32 label)."""
    tokenizer = make_tokenizer(setting.tokenizer_path)

    def parse_and_tokenise(serialised: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = tf.io.parse_single_example(serialised, FEATURES)
        ids = tokenizer.tokenize(example["text"])[: setting.max_tokens]
        unknown = tf.fill([tf.cast(tf.equal(tf.size(ids), 0), tf.int32)], UNK_ID)
        return tf.concat([ids, unknown], axis=0), tf.cast(example["label"], tf.int32)

    return parse_and_tokenise


def make_batch_parser(setting: Setting) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Return a function from (B,) serialised examples to ((B, T) ids, (B,) labels)."""
    tokenizer = make_tokenizer(setting.tokenizer_path)

    def tokenise_and_pad(serialised: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        texts, labels = parse_batch(serialised)
        return tokenise_batch(tokenizer, texts, setting.max_tokens).to_tensor(PAD_ID), labels

    return tokenise_and_pad


def shuffle_and_pad(rows: tf.data.Dataset, setting: Setting) -> tf.data.Dataset:
    """Shuffle single rows, then pad each batch to its longest row."""
    return rows.shuffle(SHUFFLE_ROWS, seed=setting.seed).padded_batch(
        setting.batch_size, padding_values=(PAD_ID, None)
    )


def unbatch_blocks(blocks: tf.data.Dataset) -> tf.data.Dataset:
    """Turn blocks of ragged ids back into single rows of dense ids."""
    # A single row of a ragged batch is still typed as ragged of rank 0, which the batching
    # transformations refuse; passing it through a function makes a plain (T,) tensor of it.
    return blocks.unbatch().map(lambda ids, label: (ids, label))


# The classics, each alone on top of the naive pipeline.


@rung("read, parse, tokenise, shuffle, pad: row by row", base="alone", per_element=True)
def naive(setting: Setting) -> Epochs:
    """The pipeline of the first tutorial, and the yardstick of all others.

    Shards in sequence, one `map` call a row, `shuffle`, `padded_batch`. While a shard is opened
    nobody tokenises. A batch of random rows is padded to the longest of them, which is several
    times what it needs.
    """
    rows = read_in_sequence(setting).map(make_row_parser(setting))
    return Epochs(dataset=shuffle_and_pad(rows, setting))


@rung("prefetch at the end", base="alone", per_element=True)
def prefetch(setting: Setting) -> Epochs:
    """Batches are made by a thread of their own while the model trains on the one before.

    The first advice everywhere, and right: the step no longer waits for what fits into its own
    time. TensorFlow has long put a prefetch at the end by itself (its option `inject_prefetch`),
    so the explicit one changes little; and neither makes the input alone any faster.
    """
    return Epochs(dataset=naive(setting).dataset.prefetch(AUTOTUNE))


@rung("interleave shards, one thread", base="alone", per_element=True)
def interleave(setting: Setting) -> Epochs:
    """Take records of four shards in turn, without any thread.

    Mixes shards, so that the shuffle buffer sees more than one of them; it is about order, not
    speed. Every open and every read is still waited for: expect nothing, or a little less.
    """
    rows = setting.paths().interleave(setting.open_shard, cycle_length=CYCLE, block_length=256)
    return Epochs(dataset=shuffle_and_pad(rows.map(make_row_parser(setting)), setting))


@rung("interleave shards, parallel", base="alone", per_element=True)
def parallel_interleave(setting: Setting) -> Epochs:
    """Four shards are read at once: their delays overlap.

    The step that pays on remote storage, where reading is waiting. On a local disk the page cache
    answers at once, there is nothing to overlap, and handing records between threads costs.
    """
    rows = read_in_parallel(setting).map(make_row_parser(setting))
    return Epochs(dataset=shuffle_and_pad(rows, setting))


@rung("parallel map", base="alone", per_element=True)
def parallel_map(setting: Setting) -> Epochs:
    """Several rows are parsed and tokenised at once.

    Right for decoding images, where a call takes milliseconds. Here it takes microseconds, as
    long as giving it to another thread does: expect little or nothing from a second core.
    """
    rows = read_in_sequence(setting).map(make_row_parser(setting), num_parallel_calls=AUTOTUNE)
    return Epochs(dataset=shuffle_and_pad(rows, setting))


@rung("parallel interleave, parallel map, prefetch", base="alone", per_element=True)
def classic(setting: Setting) -> Epochs:
    """The classics together: what a careful reader of the performance guide writes.

    Overlaps everything that can overlap, and still handles every row by itself.
    """
    rows = read_in_parallel(setting).map(make_row_parser(setting), num_parallel_calls=AUTOTUNE)
    return Epochs(dataset=shuffle_and_pad(rows, setting).prefetch(AUTOTUNE))


@rung("bucket_by_sequence_length", base="alone", per_element=True)
def bucket(setting: Setting) -> Epochs:
    """Batches of rows of like length: little padding, paid for row by row.

    A batch of random rows is padded to the longest of 256; a batch from one bucket to the bucket's
    longest. The model's step gets shorter in proportion, which is a great win for training. The
    input pays with a window of its own for every row: one of the slowest ways to have it.
    """
    bounds = [5, 7, 9, 11, 13, 17, 25, 33]
    rows = read_in_sequence(setting).map(make_row_parser(setting))
    batches = rows.shuffle(SHUFFLE_ROWS, seed=setting.seed).bucket_by_sequence_length(
        element_length_func=lambda ids, label: tf.size(ids),
        bucket_boundaries=bounds,
        bucket_batch_sizes=[setting.batch_size] * (len(bounds) + 1),
        padding_values=(PAD_ID, None),
    )
    return Epochs(dataset=batches)


# Keeping what was made, in every classic way.


@rung("cache rows in memory", base="alone", per_element=True)
def cache_memory(setting: Setting) -> Epochs:
    """Tokenised rows are kept in memory; the shuffle behind the cache still differs by epoch.

    Saves reading and tokenising from the second epoch on. Shuffling and padding stay row by row,
    which C++ does fast, as long as no function is called for a row. Costs memory, an object a row,
    and batches of random rows stay padded to the longest of 256: the model pays for that.
    """
    rows = read_in_sequence(setting).map(make_row_parser(setting)).cache()
    return Epochs(dataset=shuffle_and_pad(rows, setting))


@rung("cache rows in a file", base="alone", per_element=True)
def cache_file(setting: Setting) -> Epochs:
    """The same on the local disk, for data beyond the memory. The first epoch writes it.

    A run killed in that epoch leaves a lock file that fails the next one, and nothing notices
    that the data have changed since: the reason why the product owns its caches.
    """
    rows = read_in_sequence(setting).map(make_row_parser(setting))
    return Epochs(dataset=shuffle_and_pad(rows.cache(str(setting.scratch / "rows")), setting))


@rung("snapshot of rows", base="alone", per_element=True)
def snapshot(setting: Setting) -> Epochs:
    """As a cache in a file, but finished files survive the process and are keyed by the graph.

    Each row is written, compressed and read back by itself.
    """
    rows = read_in_sequence(setting).map(make_row_parser(setting))
    return Epochs(dataset=shuffle_and_pad(rows.snapshot(str(setting.scratch)), setting))


@rung("cache blocks in memory, then unbatch", base="alone", per_element=True)
def cache_memory_blocks(setting: Setting) -> Epochs:
    """Ragged blocks of 8,192 rows are cached, then taken apart to be shuffled and padded.

    Tokenising on blocks is fast and so is their cache; the epoch is slow all the same, because
    `unbatch` brings every row back through every later stage. Never unbatch after tokenising.
    """
    blocks = make_blocks(setting).cache()
    return Epochs(dataset=shuffle_and_pad(unbatch_blocks(blocks), setting))


@rung("cache blocks in a file, then unbatch", base="alone", per_element=True)
def cache_file_blocks(setting: Setting) -> Epochs:
    """The same in a file."""
    blocks = make_blocks(setting).cache(str(setting.scratch / "blocks"))
    return Epochs(dataset=shuffle_and_pad(unbatch_blocks(blocks), setting))


@rung("save blocks, load, then unbatch", base="alone", per_element=True)
def save_load(setting: Setting) -> Epochs:
    """`Dataset.save` once, `Dataset.load` in every epoch and every later run.

    The whole split is tokenised and written before the first batch. A folder torn by a kill is
    found out only when it is read: the product writes under a temporary name and renames.
    """
    folder = str(setting.scratch / "saved")
    make_blocks(setting).save(folder)
    return Epochs(dataset=shuffle_and_pad(unbatch_blocks(tf.data.Dataset.load(folder)), setting))


def make_blocks(setting: Setting) -> tf.data.Dataset:
    """Return the product's blocks of ragged ids: read in parallel, tokenised 8,192 at a time."""
    return make_id_blocks(
        setting.shards,
        setting.tokenizer_path,
        max_tokens=setting.max_tokens,
        open_shard=setting.open_shard,
    )


# Work on batches. From here on each rung stands on the one before.


@rung("batch before map", base="on top", per_element=False)
def vectorised_map(setting: Setting) -> Epochs:
    """The step that matters: the same parse and tokenise ops, once a batch instead of once a row.

    Shuffling serialised strings before the batch is cheap: they are moved, not computed with.
    Expect several times the naive pipeline, from one thread, by removing operations.
    """
    rows = read_in_sequence(setting).shuffle(SHUFFLE_ROWS, seed=setting.seed)
    return Epochs(dataset=rows.batch(setting.batch_size).map(make_batch_parser(setting)))


@rung("+ parallel interleave, parallel map, prefetch", base="on top", per_element=False)
def vectorised_parallel(setting: Setting) -> Epochs:
    """The classics again, now that a unit of work is a batch and worth giving to a thread."""
    rows = read_in_parallel(setting).shuffle(SHUFFLE_ROWS, seed=setting.seed)
    batches = rows.batch(setting.batch_size).map(
        make_batch_parser(setting), num_parallel_calls=AUTOTUNE
    )
    return Epochs(dataset=batches.prefetch(AUTOTUNE))


def make_product_stream(
    setting: Setting, cache: CacheMode, *, service: ServiceConfig | None = None
) -> Epochs:
    """Return the stream that `make train` uses, with one of its caches."""
    stream = make_training_stream(
        setting.shards,
        setting.tokenizer_path,
        num_rows=setting.num_rows,
        max_tokens=setting.max_tokens,
        batch_size=setting.batch_size,
        seed=setting.seed,
        word_dropout=setting.word_dropout,
        window_rows=setting.window_rows,
        cache=CacheConfig(mode=cache, root=setting.scratch),
        service=service,
        open_shard=setting.open_shard,
    )
    return Epochs(dataset=stream.dataset, steps=stream.steps_per_epoch)


@rung("+ window: shuffle and bucket in blocks", base="on top", per_element=False)
def window(setting: Setting) -> Epochs:
    """Bucketing's little padding at the price of a sort: the product's stream without a cache.

    Ragged ids of 65,536 rows are sorted by length plus noise, cut into batches, and the batches
    are shuffled: a handful of ops a window, where `shuffle` and `bucket_by_sequence_length` take
    several a row. `pipeline/dataset.py` has it, with the order drawn from (seed, epoch, window).
    """
    return make_product_stream(setting, "none")


@rung("+ cache of blocks in memory: the default", base="on top", per_element=False)
def default(setting: Setting) -> Epochs:
    """All together: the stream of `make train` as it is.

    The cache lies between tokenising (repeatable, dear) and the window (random, cheap), and holds
    ragged blocks, 4 bytes an id. Later epochs read no file and tokenise nothing, and nothing is
    ever taken apart into rows.
    """
    return make_product_stream(setting, "memory")


@rung("window + cache=block", base="on top", per_element=False)
def default_block(setting: Setting) -> Epochs:
    """The default with `--cache block`: the blocks lie on disk and serve later runs too.

    The first epoch tokenises and writes everything before its first batch. Compare `save_load`,
    which writes the same blocks and throws the win away by taking them apart.
    """
    return make_product_stream(setting, "block")


@rung("window + cache=snapshot", base="on top", per_element=False)
def default_snapshot(setting: Setting) -> Epochs:
    """The default with `--cache snapshot`: blocks on disk, written by the snapshot op."""
    return make_product_stream(setting, "snapshot")


@rung("window + cache, blocks from a tf.data service", base="on top", per_element=False)
def service(setting: Setting) -> Epochs:
    """The default with `--data-service`: two worker processes read and tokenise.

    Made for trainers whose own cores cannot keep up; on one machine the workers compete for the
    same cores and every block crosses a socket, so expect a slower first epoch. Later epochs come
    from the trainer's own cache.
    """
    return make_product_stream(setting, "memory", service=setting.service)
