"""What an embedding starts from: skip-gram vectors of the training split, or vectors of a file.

A file is one of

    vectors.txt[.gz]          word2vec's or GloVe's text: a token and its E numbers a line; a first
                              line of two numbers (rows, E) is skipped
    vectors.npy               (N, E) floats, and beside it vectors.vocab, N tokens, one a line

Its tokens are pieces of the tokenizer if one of them begins with the piece mark "▁"; otherwise they
are words, and a word gives its vector to the piece that is that whole word. Skip-gram is gensim's
(Mikolov et al. 2013), over ids: the only module that imports gensim.

Rows without a vector are drawn at random, as wide as the vectors that there are: beside rows of
another scale they would be the only ones, or the last ones, to learn.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sentencepiece

from pipeline.config import UNK_ID, TrainConfig
from pipeline.data_folder import PreparedData
from pipeline.shards import read_shard
from pipeline.tokenizer import encode_texts, load_processor

PIECE_MARK = "▁"
_WINDOW = 5
_NEGATIVE = 5
_EPOCHS = 5
"""gensim's defaults."""
_MAX_PIECES = 20_000_000
"""Of the training split, for skip-gram: more texts make it longer and the vectors hardly better."""
_MAX_LINE_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class StartingRows:
    """Rows for an embedding.

    Attributes:
        values: (V, E) float32.
        covered: How many of the V rows hold a vector of the source; the others are random.
        texts: How many of the training texts skip-gram read; None of a file.
    """

    values: np.ndarray
    covered: int
    texts: int | None = None


def pin_embeddings(training: TrainConfig) -> TrainConfig:
    """Return the settings with the hash of their file of embeddings, if they name one.

    Raises:
        ValueError: There is no such file.
    """
    if training.pretrained_embeddings is None:
        return training
    digest = hashlib.sha256()
    for path in _list_files(Path(training.pretrained_embeddings)):
        with path.open("rb") as content:
            while part := content.read(2**20):
                digest.update(part)
    return dataclasses.replace(training, pretrained_sha256=digest.hexdigest())


def make_starting_rows(
    data: PreparedData, training: TrainConfig, *, embed_dim: int
) -> StartingRows | None:
    """Return what the embedding starts from; None for Keras's own random numbers.

    Args:
        data: A prepared data folder.
        training: `embedding_init`, `pretrained_embeddings` and `seed` decide.
        embed_dim: E.

    Raises:
        ValueError: The file is not of a documented form, of another E, or knows no piece.
    """
    if training.embedding_init == "random":
        return None
    processor = load_processor(data.tokenizer_path)
    texts = None
    if training.embedding_init == "skip_gram":
        sentences = _Sentences(data, processor)
        texts = len(sentences)
        found = _train_skip_gram(sentences, embed_dim=embed_dim, seed=training.seed)
    else:
        path = Path(str(training.pretrained_embeddings))
        found = _read_file(path, processor, embed_dim=embed_dim)
    vectors = np.stack(list(found.values()))  # (N, E)
    rng = np.random.default_rng(training.seed)
    values = rng.normal(0.0, float(vectors.std()), (data.vocab_size, embed_dim)).astype(np.float32)
    values[list(found)] = vectors
    return StartingRows(values=values, covered=len(found), texts=texts)


def _train_skip_gram(sentences: _Sentences, *, embed_dim: int, seed: int) -> dict[int, np.ndarray]:
    from gensim.models import Word2Vec

    # One worker, because the order in which several finish decides about the result.
    vectors = Word2Vec(
        sentences,
        vector_size=embed_dim,
        sg=1,
        window=_WINDOW,
        negative=_NEGATIVE,
        min_count=1,
        epochs=_EPOCHS,
        seed=seed,
        workers=1,
    ).wv
    return {int(id_): vectors[id_] for id_ in vectors.index_to_key}


class _Sentences:
    """The texts of the training split as lists of ids, 4 bytes a piece, to read several times."""

    def __init__(self, data: PreparedData, processor: sentencepiece.SentencePieceProcessor) -> None:
        shards: list[np.ndarray] = []
        lengths: list[int] = []
        for shard in data.train.shards:
            texts = [text.decode() for text in read_shard(shard)[0]]
            rows = encode_texts(processor, texts, data.max_tokens)
            shards.append(np.fromiter(itertools.chain.from_iterable(rows), np.int32))
            lengths += map(len, rows)
            if sum(lengths) >= _MAX_PIECES:
                break
        self._ids = np.concatenate(shards)
        self._ends = np.cumsum(lengths)

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[list[int]]:
        start = 0
        for end in self._ends:
            yield self._ids[start:end].tolist()
            start = end


def _list_files(path: Path) -> list[Path]:
    """Return the file of vectors, and that of their tokens where it is another one."""
    files = [path, path.with_suffix(".vocab")] if path.suffix == ".npy" else [path]
    for file in files:
        if not file.is_file():
            raise ValueError(
                f"{file}: expected vectors as text, or an .npy file with a .vocab file beside it, "
                "found no such file."
            )
    return files


def _read_file(
    path: Path, processor: sentencepiece.SentencePieceProcessor, *, embed_dim: int
) -> dict[int, np.ndarray]:
    """Return id to vector, for the pieces that the file knows."""
    _list_files(path)
    pieces = {processor.id_to_piece(id_): id_ for id_ in range(processor.get_piece_size())}
    words = {
        piece.removeprefix(PIECE_MARK): id_
        for piece, id_ in pieces.items()
        if piece.startswith(PIECE_MARK) and piece != PIECE_MARK
    }
    by_piece: dict[int, np.ndarray] = {}
    by_word: dict[int, np.ndarray] = {}
    holds_pieces = False
    rows = _read_npy(path, embed_dim) if path.suffix == ".npy" else _read_text(path, embed_dim)
    for token, vector in rows:
        holds_pieces = holds_pieces or token.startswith(PIECE_MARK)
        if token in pieces and pieces[token] > UNK_ID:
            by_piece.setdefault(pieces[token], vector)
        if token in words:
            by_word.setdefault(words[token], vector)
    found = by_piece if holds_pieces else by_word
    if not found:
        raise ValueError(
            f"{path}: expected vectors of pieces of the tokenizer, or of words that are one piece, "
            "found none. Is it of another language, or upper case?"
        )
    stacked = np.stack(list(found.values()))
    if not np.isfinite(stacked).all():
        raise ValueError(f"{path}: expected finite numbers, found others.")
    return found


def _read_npy(path: Path, embed_dim: int) -> Iterator[tuple[str, np.ndarray]]:
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as err:
        raise ValueError(f"{path}: expected a NumPy array, found {err}.") from err
    if vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise ValueError(
            f"{path}: expected (N, {embed_dim}) floats, found {vectors.shape} {vectors.dtype}."
        )
    _check_dimension(str(path), vectors.shape[1], embed_dim)
    vocab = path.with_suffix(".vocab")
    count = 0
    for count, token in _read_lines(vocab):
        if count > len(vectors):
            break
        yield token, np.asarray(vectors[count - 1], np.float32)
    if count != len(vectors):
        raise ValueError(
            f"{vocab}: expected {len(vectors)} tokens as there are rows in {path.name}, found "
            f"{'more' if count > len(vectors) else count}."
        )


def _read_text(path: Path, embed_dim: int) -> Iterator[tuple[str, np.ndarray]]:
    for number, line in _read_lines(path):
        token, *numbers = line.rstrip(" ").split(" ")
        if number == 1 and len(numbers) == 1 and token.isdigit():
            _check_dimension(f"{path} line 1", numbers[0], embed_dim)
            continue
        if len(numbers) > embed_dim:  # some files hold tokens with blanks
            token = " ".join([token, *numbers[:-embed_dim]])
            _check_is_words(f"{path} line {number}", token, len(numbers), embed_dim)
            numbers = numbers[-embed_dim:]
        _check_dimension(f"{path} line {number}", len(numbers), embed_dim)
        try:
            yield token, np.array(numbers, np.float32)
        except ValueError as err:
            raise ValueError(
                f"{path} line {number}: expected a token and {embed_dim} numbers, found "
                f"{line[:60]!r}."
            ) from err


def _check_is_words(place: str, token: str, found: int, embed_dim: int) -> None:
    """Refuse a "token" that holds numbers: its line is of a larger E."""
    try:
        float(token.split(" ")[-1])
    except ValueError:
        return
    _check_dimension(place, found, embed_dim)


def _check_dimension(place: str, found: int | str, embed_dim: int) -> None:
    if str(found) != str(embed_dim):
        raise ValueError(
            f"{place}: expected vectors of {embed_dim} numbers, found {found}. Give "
            "--embed-dim that number, or another file."
        )


def _read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file, gzipped or not, with their numbers and without their ends."""
    number = 0
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
        try:
            while line := lines.readline(_MAX_LINE_BYTES):
                number += 1
                yield number, line.decode("utf-8").rstrip("\r\n")
        except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as err:
            raise ValueError(f"{path} line {number}: expected UTF-8 text, found {err}.") from err
