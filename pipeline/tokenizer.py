"""SentencePiece BPE: training, loading, and raw text -> ids.

BPE and not unigram: its ids are the same in sentencepiece, tensorflow-text and
onnxruntime-extensions on every text tried, while unigram breaks score ties differently from
version to version (17 of 97,593 titles). Reads and gives `tokenizer.model`; the normalisation of
`pipeline.normalisation` is compiled into that file, so it takes raw text everywhere.
"""

from __future__ import annotations

import io
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from pipeline.config import PAD_ID, UNK_ID
from pipeline.normalisation import build_normaliser, normalise, normalise_all
from pipeline.tables.source import DataError

__all__ = ["encode_texts", "load_processor", "normalise", "train_tokenizer"]

NORMALISER_NAME = "gatetable_nfkc_casefold"
MAX_COUNTED_TEXTS = 1_000_000
"""More do not change what 15,000 pieces are, and cost 10 microseconds each."""
MAX_WORDS = 500_000
"""Distinct ones that SentencePiece is given: a million took 0.8 GB and 40 s to train on."""
_COUNTED_AT_ONCE = 8192
_MAX_WORD_CHARS = 1024
"""Longer words are cut for training: SentencePiece skips a line of more than 4192 bytes."""
_MAX_CHARACTER_SHARE = 0.75
"""Share of the vocabulary that single characters may take before the rarest become unknown."""


def _keep_frequent(words: Counter[str], most: int) -> Counter[str]:
    """Return the most frequent words; the one that comes first in the alphabet of equals."""
    ranked = sorted(words, key=lambda word: (-words[word], word))
    return Counter({word: words[word] for word in ranked[:most]})


def _count_words(texts: Iterable[str], most: int) -> Counter[str]:
    """Count the words of the normal forms: BPE never merges over a space, so they are enough."""
    words: Counter[str] = Counter()
    texts = itertools.islice(texts, MAX_COUNTED_TEXTS)
    while chunk := list(itertools.islice(texts, _COUNTED_AT_ONCE)):
        words.update(" ".join(normalise_all(chunk)).split(" "))
        if len(words) > 2 * most:
            words = _keep_frequent(words, most)
    del words[""]
    return words if len(words) <= most else _keep_frequent(words, most)


def _drop_rare_characters(words: Counter[str], vocab_size: int) -> Counter[str]:
    """Cut words at characters that the vocabulary has no room for; these become unknown.

    Nothing is cut unless a large script meets a small vocabulary, which SentencePiece refuses if
    its characters alone overflow. (Its own `character_coverage` ends at 98 %, which is too high
    for that.)
    """
    characters: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            characters[character] += count
    room = int((vocab_size - 2) * _MAX_CHARACTER_SHARE)
    if len(characters) < room:
        return words
    ranked = sorted(characters, key=lambda character: (-characters[character], character))
    blanks = str.maketrans(dict.fromkeys(ranked[room - 1 :], " "))
    kept: Counter[str] = Counter()
    for word, count in words.items():
        for part in word.translate(blanks).split():
            kept[part] += count
    return kept


def _training_lines(words: Counter[str]) -> Iterator[str]:
    for word, count in sorted(words.items()):
        for start in range(0, len(word), _MAX_WORD_CHARS):
            yield f"{word[start : start + _MAX_WORD_CHARS]}\t{count}"


def train_tokenizer(
    texts: Iterable[str],
    vocab_size: int,
    path: Path,
    *,
    notify: Callable[[str], None] = lambda _: None,
) -> int:
    """Train a BPE tokenizer and write its model.

    The same texts in any order give the same bytes: one thread, sorted words, and no path or
    time in the file. That ends where a bound on memory is met: texts behind the first
    `MAX_COUNTED_TEXTS` are not looked at, and of more than `MAX_WORDS` distinct words the rarest
    are left out. So give them in an order that is chance but always the same, as that of a hash.

    Args:
        texts: Raw texts of the training split.
        vocab_size: V wanted, padding and unknown included. Text that cannot carry so many
            pieces gets fewer.
        path: Written; its folder exists.
        notify: Takes one sentence when V had to be lowered.

    Returns:
        The real V.

    Raises:
        DataError: No text holds a word.
    """
    words = _count_words(texts, MAX_WORDS)
    if not words:
        raise DataError("tokenizer: expected training texts with words, found none.")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=_training_lines(_drop_rare_characters(words, vocab_size)),
        input_format="tsv",  # word and count: no more memory than the distinct words take
        model_writer=model,
        model_type="bpe",
        vocab_size=vocab_size,
        hard_vocab_limit=False,
        character_coverage=1.0,
        normalizer=build_normaliser(for_tokenizer=True),
        pad_id=PAD_ID,
        unk_id=UNK_ID,
        bos_id=-1,
        eos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    # The trainer takes our table but leaves the name of its default, which would mislead.
    proto.normalizer_spec.name = NORMALISER_NAME
    path.write_bytes(proto.SerializeToString(deterministic=True))
    size = len(proto.pieces)
    if size < vocab_size:
        notify(
            f"The training text carries {size} pieces instead of the {vocab_size} asked for; "
            f"the vocabulary is {size}."
        )
    return size


def load_processor(path: Path) -> sentencepiece.SentencePieceProcessor:
    """Load a tokenizer for `encode_texts`.

    Raises:
        DataError: The file is missing or no SentencePiece model.
    """
    try:
        content = path.read_bytes()
    except OSError as err:
        raise DataError(
            f"{path}: expected a tokenizer, found {err.strerror}. Prepare again with `make data`."
        ) from err
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=content)
    except (RuntimeError, ValueError) as err:
        raise DataError(
            f"{path}: expected a SentencePiece model, found {len(content)} bytes that are none "
            f"({err}). Prepare again with `make data`."
        ) from err


def encode_texts(
    processor: sentencepiece.SentencePieceProcessor, texts: Sequence[str], max_tokens: int
) -> list[list[int]]:
    """Turn raw texts into ids, as every exported artifact does.

    Args:
        processor: From `load_processor`.
        texts: B raw texts.
        max_tokens: Longer rows are cut on the right.

    Returns:
        B rows of 1 to `max_tokens` ids; a text without any piece is the one row [1] (unknown).
    """
    rows = processor.encode(list(texts), out_type=int)
    return [ids[:max_tokens] or [UNK_ID] for ids in rows]
