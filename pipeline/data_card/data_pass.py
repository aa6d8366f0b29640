"""One pass over the shards of a data folder, and what it leaves for the data card.

Held-out splits are read first, and what training is compared with is kept of them; training rows
only pass by. Kept of a row are 12 bytes of signature and label and 8 of lengths, so that five
million rows take about 100 MB, beside at most 300 MB of held-out signatures; texts are kept of a
sample only.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import sentencepiece

from pipeline.config import UNK_ID
from pipeline.data_card.label_noise import MAX_ROW_CLASSES
from pipeline.data_card.near_duplicates import HeldOutSplit, Signatures, make_signatures
from pipeline.data_card.text_statistics import SplitStatistics
from pipeline.data_card.word_hashes import WordHashes, hash_words
from pipeline.data_folder import SPLIT_NAMES, PreparedData, Split
from pipeline.normalisation import normalise_all
from pipeline.shards import read_shard
from pipeline.tokenizer import encode_texts, load_processor

TEXT_CHARS = 300
"""Longer texts are shown cut."""
_CHUNK_ROWS = 8192
_CHUNK_BYTES = 4_000_000
"""Words, pieces and signatures of so much text take about 100 MB for a moment."""
_UNCUT = 2**62
_SAMPLE_ROWS = 200_000
"""Training rows whose labels are looked at; all of them, if there are fewer."""
_SAMPLE_PIECES = 64
"""Of each sampled row; what a text is about shows in its first lines."""
_CLASS_EXAMPLES = 3


def cut(text: str, limit: int = TEXT_CHARS) -> str:
    """Return a text as it is shown: at most `limit` characters and an ellipsis."""
    return text if len(text) <= limit else text[:limit] + "…"


@dataclass(frozen=True, kw_only=True)
class _Chunk:
    """Some rows of a split: raw texts, labels, words, uncut piece ids, signatures."""

    texts: list[str]
    normal_texts: list[str]
    labels: npt.NDArray[np.int32]
    words: WordHashes
    ids: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    signatures: Signatures


def _slice_rows(sizes: Sequence[int]) -> Iterator[slice]:
    """Yield slices of rows, `sizes` bytes long each, that are short and do not hold much."""
    start, held = 0, 0
    for row, size in enumerate(sizes):
        if row > start and (row - start == _CHUNK_ROWS or held + size > _CHUNK_BYTES):
            yield slice(start, row)
            start, held = row, 0
        held += size
    yield slice(start, len(sizes))


def _read_chunks(split: Split, processor: sentencepiece.SentencePieceProcessor) -> Iterator[_Chunk]:
    for shard in split.shards:
        raw, labels = read_shard(shard)
        for rows_here in _slice_rows([len(text) for text in raw]):
            texts = [text.decode() for text in raw[rows_here]]
            normal_texts = normalise_all(texts)
            rows = encode_texts(processor, texts, _UNCUT)
            starts = np.zeros(len(rows) + 1, dtype=np.int64)
            np.cumsum([len(row) for row in rows], out=starts[1:])
            words = hash_words(normal_texts)
            yield _Chunk(
                texts=texts,
                normal_texts=normal_texts,
                labels=np.array(labels[rows_here], dtype=np.int32),
                words=words,
                ids=np.fromiter(
                    itertools.chain.from_iterable(rows), dtype=np.int32, count=int(starts[-1])
                ),
                starts=starts,
                signatures=make_signatures(words),
            )


@dataclass(kw_only=True)
class RowSample:
    """Every `stride`-th training row: cut text, label, signature of its pattern, first pieces."""

    stride: int
    texts: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    patterns: list[int] = field(default_factory=list)
    ids: list[npt.NDArray[np.int32]] = field(default_factory=list)
    _seen: int = 0

    def add(self, chunk: _Chunk) -> None:
        """Take what the stride meets in the next rows."""
        for row in range(-self._seen % self.stride, len(chunk.texts), self.stride):
            start = chunk.starts[row]
            stop = min(chunk.starts[row + 1], start + _SAMPLE_PIECES)
            self.texts.append(cut(chunk.texts[row]))
            self.labels.append(int(chunk.labels[row]))
            self.patterns.append(int(chunk.signatures.numbers[row]))
            self.ids.append(chunk.ids[start:stop].copy())  # not a view, which would keep the chunk
        self._seen += len(chunk.texts)


@dataclass(kw_only=True)
class DataPass:
    """What reading all splits leaves.

    Attributes:
        statistics: By split.
        patterns: `(n,)` signatures of the words without order and numbers, chunk by chunk.
        labels: `(n,)` label ids likewise.
        held_out: Near duplicates by held-out split.
        class_examples: Some training texts by label id.
        sample: Training rows.
    """

    statistics: dict[str, SplitStatistics]
    patterns: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    labels: list[npt.NDArray[np.int32]] = field(default_factory=list)
    held_out: dict[str, HeldOutSplit] = field(default_factory=dict)
    class_examples: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    sample: RowSample


def read_all(data: PreparedData, *, listed: Collection[int]) -> DataPass:
    """Read every row once.

    Args:
        data: The data folder.
        listed: Label ids of the classes that examples are wanted of.

    Raises:
        DataError: A shard or the tokenizer is damaged.
    """
    processor = load_processor(data.tokenizer_path)
    known = frozenset(
        itertools.chain.from_iterable(
            processor.id_to_piece(index) for index in range(UNK_ID + 1, data.vocab_size)
        )
    )
    wanted = min(_SAMPLE_ROWS, max(1, MAX_ROW_CLASSES // len(data.labels)))
    done = DataPass(
        statistics={split: SplitStatistics(data.vocab_size, known) for split in SPLIT_NAMES},
        sample=RowSample(stride=-(-data.train.count // wanted)),
    )
    for name, split in reversed(list(data.splits())):
        if name != "train":
            done.held_out[name] = HeldOutSplit()
        for chunk in _read_chunks(split, processor):
            done.statistics[name].add(chunk.normal_texts, chunk.words, chunk.ids, chunk.starts)
            done.patterns.append(chunk.signatures.numbers)
            done.labels.append(chunk.labels)
            if name != "train":
                done.held_out[name].add(chunk.signatures)
                continue
            rows = list(zip(chunk.texts, chunk.labels.tolist(), strict=True))
            for held_out in done.held_out.values():
                held_out.meet(chunk.signatures, rows)
            done.sample.add(chunk)
            for text, label in rows:
                if label in listed and len(done.class_examples[label]) < _CLASS_EXAMPLES:
                    done.class_examples[label].append(cut(text))
        done.statistics[name].words.merge()
    return done


def read_some(split: Split, wanted: Iterable[int]) -> dict[int, tuple[str, int]]:
    """Read some rows of a split.

    Args:
        split: Its shards are read up to the last of these rows.
        wanted: Row numbers.

    Returns:
        (text, label id) by row number.

    Raises:
        DataError: A shard is damaged.
    """
    left = sorted(wanted)
    found: dict[int, tuple[str, int]] = {}
    first = 0
    for shard in split.shards:
        if not left:
            break
        texts, labels = read_shard(shard)
        while left and left[0] < first + len(texts):
            row = left.pop(0)
            found[row] = texts[row - first].decode(), labels[row - first]
        first += len(texts)
    return found
