"""`LookupModel`: ids or texts in, class probabilities out.

Everything a caller can get wrong is checked here, before an engine sees it: ids outside the table
would otherwise wrap around silently when negative.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import Float32Array
from .engine import make_engine
from .errors import GoldenError
from .format import LookupFiles, read_lookup
from .gru import Int32Array
from .manifest import GOLDEN_FILE, UNK_ID
from .native_engine import NativeEngine
from .stream import Stream, StreamBatch
from .text import TextEncoder

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

FEW_TEXTS = 4
"""Texts that are answered one by one, in one call into C each. More run faster as a batch."""
THREAD_ROWS = 64
"""Rows of a batch that one thread takes at a time: several blocks of the kernel."""


class LookupModel:
    """A loaded lookup folder. Safe to share between threads, and by `fork` between processes.

    With `threads` above 1 it has a pool of them, which does not survive a `fork`.

    Args:
        files: Content of the folder.
        engine: "native", "numpy", or "auto": native if its kernel is built here, else numpy.
        threads: Threads that share a large batch. One row never uses more than one.
        check_tokenizer: Whether the first raw text also proves that the golden texts give their
            ids with the sentencepiece that is installed here.

    Attributes:
        labels: Label names in id order.
        vocab_size: V; ids run from 0 to V - 1.
        num_classes: C.
        max_tokens: Texts are cut to so many ids. Ids passed directly may be more.
        engine: The engine in use.
    """

    def __init__(
        self,
        files: LookupFiles,
        *,
        engine: str = "auto",
        threads: int = 1,
        check_tokenizer: bool = True,
    ) -> None:
        if threads < 1:
            raise ValueError(f"threads: expected at least 1, found {threads}.")
        self.engine = make_engine(engine, files)
        # Its checks are made in C: made here they cost as much as a short sequence.
        self._native = self.engine if isinstance(self.engine, NativeEngine) else None
        self._pool = _make_pool(threads) if threads > 1 else None
        self.labels = files.labels
        self.vocab_size = files.config.vocab_size
        self.num_classes = files.config.num_classes
        self.max_tokens = files.max_tokens
        # Text to answer in one call into C, where the folder has a word table.
        self._text_engine = self._native if self._native and self._native.has_words else None
        self._encoder = TextEncoder(
            files,
            check_golden=check_tokenizer,
            encode_words=self._text_engine.encode if self._text_engine is not None else None,
        )

    def logits(self, ids: ArrayLike, lengths: ArrayLike) -> Float32Array:
        """Return the logits of a batch of token ids.

        Args:
            ids: (B, T) integers, rows padded on the right. What stands behind a row's length is
                ignored, but must be an id all the same.
            lengths: (B,) integers, 0 <= length <= T. A row of length 0 counts as [1], one
                unknown token.

        Returns:
            (B, C) float32 in the order of the rows. B may be 0, T may be 0.

        Raises:
            ValueError: Shapes, types or values are not as described; the first offending row is
                named.
        """
        if self._native is not None and self._pool is None:
            logits = self._native.try_logits(ids, lengths)
            if logits is not None:
                return logits
        return self._compute(*self._check(ids, lengths))

    def _compute(self, ids: Int32Array, lengths: Int32Array) -> Float32Array:
        """Return the logits of a checked batch, shared among threads if that pays."""
        if self._pool is None or len(ids) < 2 * THREAD_ROWS:
            return self.engine.logits(ids, lengths)
        # Sorted by length first, so that rows of one piece run and end together.
        order = np.argsort(-lengths, kind="stable")
        logits = np.empty((len(ids), self.num_classes), np.float32)

        def run(start: int) -> None:
            rows = order[start : start + THREAD_ROWS]
            logits[rows] = self.engine.logits(ids[rows], lengths[rows])

        for done in [self._pool.submit(run, i) for i in range(0, len(ids), THREAD_ROWS)]:
            done.result()
        return logits

    def probabilities(self, ids: ArrayLike, lengths: ArrayLike) -> Float32Array:
        """Return the class probabilities of a batch of token ids: softmax of `logits`.

        Args:
            ids: See `logits`.
            lengths: See `logits`.

        Returns:
            (B, C) float32, each row summing to 1.

        Raises:
            ValueError: See `logits`.
        """
        if self._native is not None and self._pool is None:
            probabilities = self._native.try_probabilities(ids, lengths)
            if probabilities is not None:
                return probabilities
        return softmax(self.logits(ids, lengths))

    def encode(self, texts: Sequence[str]) -> tuple[Int32Array, Int32Array]:
        """Return the padded ids of raw texts.

        Args:
            texts: Any number of texts. One without any piece, like "", gives [1].

        Returns:
            ids (B, T) int32, right-padded with 0, T at least 1, and lengths (B,) int32.

        Raises:
            TypeError: `texts` is one string, or an entry is not a string.
            ValueError: An entry holds a lone surrogate.
            ImportError: The package sentencepiece is absent.
            TokenizerError: The artifact's tokenizer is unusable here.
        """
        rows = self._encoder.encode(texts)
        lengths = np.array([len(row) for row in rows], np.int32)
        ids = np.zeros((len(rows), max(map(len, rows), default=1)), np.int32)
        for row, tokens in zip(ids, rows, strict=True):
            row[: len(tokens)] = tokens
        return ids, lengths

    def predict(self, texts: Sequence[str], k: int = 3) -> list[list[tuple[str, float]]]:
        """Return the k most probable labels of raw texts.

        Args:
            texts: See `encode`.
            k: How many, at least 1; at most C are given.

        Returns:
            One list a text of (label, probability), most probable first. Equal probabilities
            stand in the order of their label ids.

        Raises:
            ValueError: `k` is below 1, or see `encode`.
            TypeError: See `encode`.
            ImportError: See `encode`.
            TokenizerError: See `encode`.
        """
        if k < 1:
            raise ValueError(f"k: expected at least 1, found {k}.")
        engine = self._find_text_engine(texts)
        if engine is not None:
            best, unseen = min(k, self.num_classes), self._encoder.encode_unseen
            try:
                return [engine.predict(text, best, unseen) for text in texts]
            except UnicodeEncodeError:
                pass  # encode() says which text it is
        probabilities = self.predict_proba(texts)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
        return [
            [(self.labels[label], float(row[label])) for label in best]
            for row, best in zip(probabilities, order.tolist(), strict=True)
        ]

    def predict_proba(self, texts: Sequence[str]) -> Float32Array:
        """Return the class probabilities of raw texts, classes in id order.

        Args:
            texts: See `encode`.

        Returns:
            (B, C) float32, each row summing to 1.

        Raises:
            ValueError: See `encode`.
            TypeError: See `encode`.
            ImportError: See `encode`.
            TokenizerError: See `encode`.
        """
        engine = self._find_text_engine(texts)
        if engine is not None and len(texts) == 1:
            try:
                return engine.text_probabilities(texts[0], self._encoder.encode_unseen)
            except UnicodeEncodeError:
                pass  # encode() says where
        return self.probabilities(*self.encode(texts))

    def _find_text_engine(self, texts: Sequence[str]) -> NativeEngine | None:
        """Return the engine that may answer `texts` one by one in C, or None."""
        if (
            self._text_engine is not None
            and len(texts) <= FEW_TEXTS
            and self._encoder.is_table_proven
            and not isinstance(texts, str)  # a mistake that encode() explains
            and all(type(text) is str for text in texts)
        ):
            return self._text_engine
        return None

    def stream(self) -> Stream:
        """Return a stream that reads one text token by token, or word by word."""
        return Stream(
            self.engine, self.vocab_size, self.max_tokens, softmax, self._encoder.encode_words
        )

    def streams(self, count: int) -> StreamBatch:
        """Return `count` streams, at least 1, that are pushed and asked together.

        Raises:
            ValueError: `count` is below 1.
        """
        if count < 1:
            raise ValueError(f"count: expected at least 1, found {count}.")
        return StreamBatch([self.stream() for _ in range(count)], softmax)

    def _check(self, ids: ArrayLike, lengths: ArrayLike) -> tuple[Int32Array, Int32Array]:
        """Return checked ids (B, T) int32, T >= 1, and lengths (B,) int32 from 1 to T."""
        tokens, counts = np.asarray(ids), np.asarray(lengths)
        if tokens.ndim != 2 or tokens.dtype.kind not in "iu":
            raise ValueError(
                f"ids: expected integers of shape (B, T), found {tokens.dtype} {tokens.shape}."
            )
        if counts.shape != tokens.shape[:1] or counts.dtype.kind not in "iu":
            raise ValueError(
                f"lengths: expected integers of shape ({tokens.shape[0]},), one a row of ids, "
                f"found {counts.dtype} {counts.shape}."
            )
        batch, width = tokens.shape
        if batch == 0:
            return np.zeros((0, 1), np.int32), np.zeros(0, np.int32)
        low, high = _extremes(tokens)
        if low < 0 or high >= self.vocab_size:
            row, column = np.argwhere((tokens < 0) | (tokens >= self.vocab_size))[0]
            raise ValueError(
                f"ids[{row}, {column}]: expected 0 to {self.vocab_size - 1}, found "
                f"{tokens[row, column]}."
            )
        shortest, longest = _extremes(counts)
        if shortest < 0 or longest > width:
            row = np.argmax((counts < 0) | (counts > width))
            raise ValueError(
                f"lengths[{row}]: expected 0 to {width}, the width of ids, found {counts[row]}."
            )
        tokens, counts = tokens.astype(np.int32, copy=False), counts.astype(np.int32, copy=False)
        if shortest == 0:
            tokens = tokens.copy() if width else np.empty((batch, 1), np.int32)
            tokens[counts == 0, 0] = UNK_ID
            counts = np.maximum(counts, 1)
        return tokens, counts


def _make_pool(threads: int) -> ThreadPoolExecutor:
    # Imported only here: it takes 8 ms of every start.
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(threads)


def _extremes(array: NDArray[np.integer]) -> tuple[int, int]:
    """Return the least and the greatest value, (0, 0) of an empty array."""
    if array.size <= 64:
        # A tenth of the price of two reductions, which counts for a single short text.
        values = array.ravel().tolist()
        return min(values, default=0), max(values, default=0)
    return int(array.min()), int(array.max())


def softmax(logits: Float32Array) -> Float32Array:
    """Return the softmax over the last axis, (..., C) float32, without overflow.

    NumPy adds along a contiguous last axis pairwise, so that float32 is enough for 100,000
    classes.
    """
    result: Float32Array = logits - np.maximum.reduce(logits, -1, keepdims=True)
    np.exp(result, result)
    np.divide(result, np.add.reduce(result, -1, keepdims=True), result)
    return result


def load_lookup(
    folder: str | os.PathLike[str],
    *,
    engine: str = "auto",
    threads: int = 1,
    check_hashes: bool = True,
    replay_golden: bool = True,
) -> LookupModel:
    """Load a lookup folder: check it, map its arrays, prove it on its golden probes.

    Args:
        folder: The `lookup/` folder of an artifact.
        engine: "native" for the compiled kernel, "numpy" for the engine that needs none, "auto"
            for the first of them that is available here.
        threads: Threads that share a large batch.
        check_hashes: Compare every file with its checksum. Without, only the manifest, the
            array headers and the small arrays are checked, and the tables stay unread on disk
            until used: the quickest start from storage that is trusted.
        replay_golden: Compute the golden probes and compare them with the trained model's
            answers; the tokenizer likewise when the first raw text arrives.

    Returns:
        The model.

    Raises:
        ArtifactError: The folder cannot be used; one subclass per cause.
        ValueError: There is no such engine, or GATETABLE_ISA names an instruction set that this
            machine does not have.
        NativeUnavailableError: The native engine was asked for and its kernel is not built here.
    """
    files = read_lookup(Path(folder), check_hashes=check_hashes)
    model = LookupModel(files, engine=engine, threads=threads, check_tokenizer=replay_golden)
    if replay_golden:
        _replay_golden(model, files)
    return model


def _replay_golden(model: LookupModel, files: LookupFiles) -> None:
    lengths = np.array([len(probe.ids) for probe in files.golden], np.int32)
    ids = np.zeros((len(lengths), lengths.max()), np.int32)
    for row, probe in zip(ids, files.golden, strict=True):
        row[: len(probe.ids)] = probe.ids
    expected = np.array([probe.probabilities for probe in files.golden], np.float32)
    differences = np.abs(model.probabilities(ids, lengths) - expected).max(axis=1)
    worst = int(differences.argmax())
    # Written so that NaN fails as well.
    if not differences[worst] <= files.tolerance:
        raise GoldenError(
            f"{files.folder / GOLDEN_FILE} line {worst + 1}: expected the trained model's "
            f"probabilities within {files.tolerance}, found a difference of "
            f"{differences[worst]:.2g} with engine {model.engine.name!r}. Export the run again."
        )
