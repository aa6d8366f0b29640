"""The tf.data graph: TFRecord shards -> padded id batches, and why each stage stands where it does.

    shards -> parallel interleave -> batch -> parse + tokenise -> cache -> window -> pad -> prefetch

* **interleave** before anything else: reading is the only stage that waits for a disk or a
  network, so several shards are read at once.
* **batch before map**: with texts of ten tokens the cost of an element is the cost of starting
  an op, so the ops of a map see thousands of rows at once.
* **tokenise in the graph** on batches, to *ragged* ids: nothing is padded yet. A batch of 8,192
  texts has 70,000 words and 12,000 different ones, and only those are tokenised.
* **distribute**, where a tf.data service is given: its workers do all of the above.
* **cache** (`pipeline.cache`) after the expensive, repeatable work and before anything random, so
  that later epochs start from ids in memory or on disk and still see a new order.
* **window** instead of `shuffle` + `bucket_by_sequence_length`: a window of 65,536 ragged rows is
  sorted by length plus noise below one token, cut into batches, and the batches are shuffled,
  all in a few ops a window. The per-element classics cost about 50 us an example here and would
  be slower than the training step.
* **pad** last of all work, when a batch is known: Keras 3 takes no ragged tensor in a GRU, so ids
  leave here as a dense (B, T) matrix filled up with id 0 on the right, which the embedding turns
  into a mask. T is the longest row of *this* batch, and rows of a batch are of like length.
* **prefetch** last, so that the next batches are made while the model trains; and once before the
  window, so that the next window is.

Every random choice but one is drawn statelessly from (seed, epoch, window), so an epoch can be made
again, alone, from any of its steps on: that is what resuming a killed training relies on. The one
is subword sampling, whose op has a generator of its own that cannot be seeded. It changes the ids
of a row; which rows a batch holds is planned by their unsampled lengths and stays the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_text as tf_text

from pipeline.cache import cache_blocks
from pipeline.cache_folder import CacheConfig, compute_cache_key
from pipeline.config import PAD_ID, UNK_ID
from pipeline.service.client import distribute_blocks
from pipeline.service.config import ServiceConfig

READ_BATCH = 8192
"""Rows tokenised at once: the more there are, the more words repeat. 1,024 take a third longer,
and 32,768 are no faster than these."""
WINDOW_ROWS = 65_536
"""Rows sorted together. Larger pads less and shuffles better, and costs memory: 10 ids a row."""
WIDTHS = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Padded widths under XLA, which compiles the step once a shape: few shapes, little padding."""


FEATURES = {
    "text": tf.io.FixedLenFeature([], tf.string),
    "label": tf.io.FixedLenFeature([], tf.int64),
}
"""What a record of a shard holds."""
IN_MEMORY = CacheConfig()


@dataclass(frozen=True, kw_only=True)
class TrainingStream:
    """An endless stream of training batches and where its epochs end.

    Attributes:
        dataset: Yields ((B, T) int32 ids, (B,) int32 labels), epoch after epoch. The last batch
            of a window may hold fewer rows; no row is dropped or repeated within an epoch.
        steps_per_epoch: Batches an epoch.
        is_repeatable: Whether another process makes the same batches in the same order, so that a
            training may go on in the middle of an epoch. Blocks of a tf.data service come in the
            order in which its workers finish.
    """

    dataset: tf.data.Dataset
    steps_per_epoch: int
    is_repeatable: bool


def make_tokenizer(
    tokenizer_path: Path, *, subword_sampling: float = 0.0
) -> tf_text.SentencepieceTokenizer:
    """Load the SentencePiece model as a graph op giving int32 ids.

    Seed TensorFlow *before* this call: `set_random_seed` destroys the op's resource.

    Args:
        tokenizer_path: A BPE model.
        subword_sampling: Probability that a merge is left out, drawn anew at every call
            (BPE-dropout, Provilkov et al. 2020); 0 always gives the best segmentation.
    """
    return tf_text.SentencepieceTokenizer(
        model=tokenizer_path.read_bytes(),
        out_type=tf.int32,
        nbest_size=-1 if subword_sampling else 0,
        alpha=subword_sampling or 1.0,  # not looked at without sampling
    )


def tokenise_batch(
    tokenizer: tf_text.SentencepieceTokenizer, texts: tf.Tensor, max_tokens: int
) -> tf.RaggedTensor:
    """Turn (B,) raw strings into (B, None) int32 ids, by the rules every export shares.

    A text is cut to `max_tokens` ids; a text without any piece becomes one unknown id, because
    a fully masked row has no last state and trips cuDNN's mask check.
    """
    return _fill_empty(tokenizer.tokenize(texts)[:, :max_tokens])


def tokenise_words(
    tokenizer: tf_text.SentencepieceTokenizer, texts: tf.Tensor, max_tokens: int
) -> tf.RaggedTensor:
    """Do what `tokenise_batch` does in half the time, by tokenising each different word once.

    It rests on the law that a text's ids are those of its words, one after another, words being
    what stands between ASCII spaces. No piece and no normalisation rule of a tokenizer of
    `pipeline.tokenizer` reaches over a space, so it holds; every export proves it anew of the
    tokenizer it is given, before it builds a word table.
    """
    words = tf.strings.split(texts, " ")
    different, places = tf.unique(words.flat_values)
    ids = tf.gather(tokenizer.tokenize(different), places)
    return _fill_empty(words.with_flat_values(ids).merge_dims(1, 2)[:, :max_tokens])


def _fill_empty(ids: tf.RaggedTensor) -> tf.RaggedTensor:
    """Give rows without any id the unknown one."""
    empty = tf.cast(tf.equal(ids.row_lengths(), 0), tf.int64)  # (B,)
    unknown = tf.RaggedTensor.from_row_lengths(
        tf.fill([tf.reduce_sum(empty)], tf.constant(UNK_ID, ids.dtype)), empty
    )
    return tf.concat([ids, unknown], axis=1)


def _read_batches(
    shards: Sequence[Path],
    open_shard: Callable[[tf.Tensor], tf.data.Dataset],
    *,
    deterministic: bool,
) -> tf.data.Dataset:
    """Read shards, several at once, into batches of serialised examples."""
    return (
        # Absolute, because the workers of a service have working directories of their own.
        tf.data.Dataset.from_tensor_slices([str(path.absolute()) for path in shards])
        .interleave(
            open_shard,
            cycle_length=4,
            block_length=256,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=deterministic,
        )
        .batch(READ_BATCH)
    )


def parse_batch(serialised: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Parse (b,) serialised examples into (b,) raw strings and (b,) int32 labels."""
    examples = tf.io.parse_example(serialised, FEATURES)
    return examples["text"], tf.cast(examples["label"], tf.int32)


def make_id_blocks(
    shards: Sequence[Path],
    tokenizer_path: Path,
    *,
    max_tokens: int,
    deterministic: bool = True,
    open_shard: Callable[[tf.Tensor], tf.data.Dataset] = tf.data.TFRecordDataset,
) -> tf.data.Dataset:
    """Read shards into blocks of ragged ids.

    Args:
        shards: TFRecord files of `{"text": bytes, "label": int64}` examples.
        tokenizer_path: SentencePiece model.
        max_tokens: Longest row; longer texts are cut.
        deterministic: Keep the shard order; False lets the fastest reader go first.
        open_shard: From a scalar path to a dataset of its serialised examples: for storage that
            TensorFlow cannot open by itself, or that is simulated.

    Returns:
        Yields ((b, None) int32 ragged ids, (b,) int32 labels), b up to `READ_BATCH`.
    """
    tokenizer = make_tokenizer(tokenizer_path)

    def parse_and_tokenise(serialised: tf.Tensor) -> tuple[tf.RaggedTensor, tf.Tensor]:
        texts, labels = parse_batch(serialised)
        return tokenise_words(tokenizer, texts, max_tokens), labels

    return _read_batches(shards, open_shard, deterministic=deterministic).map(
        parse_and_tokenise, num_parallel_calls=tf.data.AUTOTUNE, deterministic=deterministic
    )


def _make_text_blocks(
    shards: Sequence[Path],
    tokenizer_path: Path,
    *,
    max_tokens: int,
    open_shard: Callable[[tf.Tensor], tf.data.Dataset],
) -> tf.data.Dataset:
    """Read shards into blocks of raw texts, for ids that are drawn anew each epoch.

    Returns:
        Yields ((b,) strings, (b,) int64 numbers of ids without sampling, (b,) int32 labels).
    """
    tokenizer = make_tokenizer(tokenizer_path)

    def parse_and_measure(serialised: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        texts, labels = parse_batch(serialised)
        return texts, tokenise_words(tokenizer, texts, max_tokens).row_lengths(), labels

    return _read_batches(shards, open_shard, deterministic=True).map(
        parse_and_measure, num_parallel_calls=tf.data.AUTOTUNE
    )


def count_steps(num_rows: int, batch_size: int, window_rows: int = WINDOW_ROWS) -> int:
    """Return the batches that `num_rows` make when each window is cut on its own.

    Example:
        `count_steps(10, 4, window_rows=6)` is 3: a window of 6 gives 4 + 2, one of 4 gives 4.
    """
    full, rest = divmod(num_rows, window_rows)
    return full * -(-window_rows // batch_size) + -(-rest // batch_size)


def _pad_batch(ids: tf.RaggedTensor, widths: Sequence[int] | None) -> tf.Tensor:
    """Pad (B, None) ragged ids on the right to the longest row, or to the next width."""
    padded = ids.to_tensor(PAD_ID)
    if widths is None:
        return padded
    longest = tf.shape(padded)[1]
    next_width = tf.searchsorted(tf.constant(list(widths), tf.int32), longest[tf.newaxis])[0]
    # A row longer than every listed width keeps its own.
    width = tf.concat([tf.constant(list(widths), tf.int32), longest[tf.newaxis]], 0)[next_width]
    return tf.pad(padded, [[0, 0], [0, width - longest]], constant_values=PAD_ID)


def make_training_stream(
    shards: Sequence[Path],
    tokenizer_path: Path,
    *,
    num_rows: int,
    max_tokens: int,
    batch_size: int,
    seed: int,
    start_epoch: int = 0,
    start_step: int = 0,
    word_dropout: float = 0.0,
    subword_sampling: float = 0.0,
    widths: Sequence[int] | None = None,
    window_rows: int = WINDOW_ROWS,
    cache: CacheConfig = IN_MEMORY,
    service: ServiceConfig | None = None,
    open_shard: Callable[[tf.Tensor], tf.data.Dataset] = tf.data.TFRecordDataset,
) -> TrainingStream:
    """Make the endless training stream, beginning with step `start_step` of epoch `start_epoch`.

    Args:
        shards: Training shards.
        tokenizer_path: SentencePiece model.
        num_rows: Rows in `shards`, from the data folder.
        max_tokens: Texts are cut to so many ids.
        batch_size: B.
        seed: Order and word dropout derive from (seed, epoch, window) alone.
        start_epoch: First epoch to deliver; its batches equal those an unbroken stream delivers.
        start_step: Batches of that epoch to leave out.
        word_dropout: Share of the ids replaced by the unknown id, drawn anew each epoch.
        subword_sampling: See `make_tokenizer`; ids are then drawn anew each epoch, and a row may
            become longer than it was planned to be.
        widths: Allowed padded widths, for XLA; None pads to the longest row of the batch.
        window_rows: Rows sorted together. Windows hold the same rows in every epoch, in the same
            order of windows: rows come shuffled from the data folder, so each is a fair sample.
        cache: Where tokenised blocks are kept between epochs. All caches give the same batches.
        service: A tf.data service that reads and tokenises; None does so in this process.
        open_shard: See `make_id_blocks`.

    Returns:
        The stream.

    Raises:
        DataError: A cache on disk cannot be written.
    """
    make_blocks = _make_text_blocks if subword_sampling else make_id_blocks
    blocks = make_blocks(shards, tokenizer_path, max_tokens=max_tokens, open_shard=open_shard)
    if service is not None:
        blocks = distribute_blocks(blocks, service, num_rows=num_rows)
    options = {
        "max_tokens": max_tokens,
        "window_rows": window_rows,
        "content": make_blocks.__name__,
        # Such a cache holds the order of one pass of the service.
        "service": service is not None,
    }
    windows = cache_blocks(
        blocks.rebatch(window_rows),
        cache,
        num_rows=num_rows,
        make_key=lambda: compute_cache_key([*shards, tokenizer_path, Path(__file__)], options),
    )
    if subword_sampling:
        sampler = make_tokenizer(tokenizer_path, subword_sampling=subword_sampling)
    num_windows = -(-num_rows // window_rows)

    def cut_window(index: tf.Tensor, block: tuple[Any, ...]) -> tf.data.Dataset:
        # One stream of random numbers a (epoch, window): index counts both.
        key = tf.stack([tf.constant(seed, tf.int64), index + start_epoch * num_windows])
        order_key, shuffle_key, drop_key = tf.unstack(
            tf.random.experimental.stateless_split(tf.cast(key, tf.int32), num=3)
        )
        labels = block[-1]
        lengths = block[1] if subword_sampling else block[0].row_lengths()
        noise = tf.random.stateless_uniform(tf.shape(lengths), order_key)
        order = tf.argsort(tf.cast(lengths, tf.float32) + noise)
        num_batches = (tf.shape(order)[0] + batch_size - 1) // batch_size

        def cut_batch(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            rows = order[number * batch_size : (number + 1) * batch_size]
            ids = tf.gather(block[0], rows)
            if subword_sampling:
                ids = tokenise_batch(sampler, ids, max_tokens)
            batch = _pad_batch(ids, widths)
            if word_dropout:
                draw = tf.random.stateless_uniform(
                    tf.shape(batch), tf.random.experimental.stateless_fold_in(drop_key, number)
                )
                dropped = (draw < word_dropout) & (batch != PAD_ID)
                batch = tf.where(dropped, UNK_ID, batch)
            return batch, tf.gather(labels, rows)

        numbers = tf.random.experimental.stateless_shuffle(tf.range(num_batches), shuffle_key)
        return tf.data.Dataset.from_tensor_slices(numbers).map(
            cut_batch, num_parallel_calls=tf.data.AUTOTUNE
        )

    dataset = (
        windows.repeat()
        .prefetch(1)  # the next window is read and tokenised while this one is trained on
        .enumerate()
        .flat_map(cut_window)
        .skip(start_step)
        .apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
        .prefetch(tf.data.AUTOTUNE)
    )
    return TrainingStream(
        dataset=dataset,
        steps_per_epoch=count_steps(num_rows, batch_size, window_rows),
        is_repeatable=service is None or cache.is_on_disk,
    )


def make_evaluation_dataset(
    shards: Sequence[Path],
    tokenizer_path: Path,
    *,
    num_rows: int,
    max_tokens: int,
    batch_size: int = 512,
    widths: Sequence[int] | None = None,
) -> tf.data.Dataset:
    """Make one pass over a split, sorted by length within windows, cached in memory.

    Returns:
        Yields ((B, T) int32 ids, (B,) int32 labels); every row once.
    """

    def cut_window(ids: tf.RaggedTensor, labels: tf.Tensor) -> tf.data.Dataset:
        order = tf.argsort(ids.row_lengths(), stable=True)
        return (
            tf.data.Dataset.from_tensor_slices((tf.gather(ids, order), tf.gather(labels, order)))
            .batch(batch_size)
            .map(lambda batch, batch_labels: (_pad_batch(batch, widths), batch_labels))
        )

    blocks = make_id_blocks(shards, tokenizer_path, max_tokens=max_tokens)
    return (
        blocks.rebatch(WINDOW_ROWS)
        .flat_map(cut_window)
        # Keras takes a stream of unknown length for one that ended too early.
        .apply(tf.data.experimental.assert_cardinality(count_steps(num_rows, batch_size)))
        .cache()
        .prefetch(tf.data.AUTOTUNE)
    )
