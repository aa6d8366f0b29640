"""Streams: a text that arrives token by token, with an answer at every prefix.

A stream's answer equals the whole-sequence answer for the tokens so far. Costs, for the t-th
token: a unidirectional model does one step per layer at each push, and the head alone when asked.
A bidirectional model of one layer does the forward step at each push and, when asked, reads
all t tokens backwards: about half the price of the whole sequence. With further bidirectional
layers every output depends on every token, so asking costs the whole sequence.

Text is pushed word by word: the ids of a text are those of its words one after another wherever
the folder has a word table, because export proved that before it wrote one. A word that is still
being typed may change its ids with every letter, so a caller forks before it and throws the fork
away: see `docs/examples/typeahead.py`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Self

import numpy as np

from .arrays import Float32Array
from .engine import Engine
from .manifest import UNK_ID


class Stream:
    """One text that arrives token by token. Not safe to share between threads; fork it instead.

    Args:
        engine: Engine that computes it.
        vocab_size: V.
        max_tokens: Texts are cut to so many ids.
        softmax: Turns logits (..., C) into probabilities.
        encode_words: Gives the ids of whole words, none for a text without any piece.

    Attributes:
        length: Number of tokens read since the start or the last `reset`.
    """

    def __init__(
        self,
        engine: Engine,
        vocab_size: int,
        max_tokens: int,
        softmax: Callable[[Float32Array], Float32Array],
        encode_words: Callable[[str], list[int]],
    ) -> None:
        self._engine = engine
        self._vocab_size = vocab_size
        self._max_tokens = max_tokens
        self._softmax = softmax
        self._encode_words = encode_words
        self.reset()

    def push(self, token: int) -> None:
        """Read one more token.

        Args:
            token: Its id.

        Raises:
            ValueError: The id is not in the vocabulary.
            TypeError: It is not an integer.
        """
        token = operator.index(token)
        if not 0 <= token < self._vocab_size:
            raise ValueError(f"token: expected 0 to {self._vocab_size - 1}, found {token}.")
        self._state.push(token)
        self.length += 1

    def push_text(self, text: str) -> int:
        """Read one or more whole words more.

        Where the folder has a word table, pushing the words of a text one by one gives what the
        text gives: tokens beyond `max_tokens`, where whole texts are cut, are not read.

        Args:
            text: Words. Its end is the end of a word, so "ca" and "t" are not "cat".

        Returns:
            The number of tokens read, 0 for a text without any piece.

        Raises:
            TypeError: It is not a string.
            ValueError: It holds a lone surrogate.
            ImportError: A word is not in the word table and sentencepiece is absent.
        """
        tokens = self._encode_words(text)[: max(0, self._max_tokens - self.length)]
        for token in tokens:
            self.push(token)
        return len(tokens)

    def logits(self) -> Float32Array:
        """Return the logits (C,) float32 of the tokens so far; see `probabilities`."""
        state = self._state
        if self.length == 0:
            state = self._engine.start_stream()
            state.push(UNK_ID)
        return state.logits()

    def probabilities(self) -> Float32Array:
        """Return the class probabilities (C,) float32 of the tokens so far.

        Before the first token they are those of [1], one unknown token, as for an empty text.
        """
        return self._softmax(self.logits())

    def reset(self) -> None:
        """Forget all tokens."""
        self._state = self._engine.start_stream()
        self.length = 0

    def fork(self) -> Self:
        """Return an independent stream that has read the same tokens."""
        twin = type(self)(
            self._engine, self._vocab_size, self._max_tokens, self._softmax, self._encode_words
        )
        twin._state = self._state.fork()
        twin.length = self.length
        return twin


class StreamBatch:
    """A fixed number of streams that are asked together. Not safe to share between threads.

    Args:
        streams: Its streams, at least one; the batch owns them.
        softmax: Turns logits (N, C) into probabilities.
    """

    def __init__(
        self, streams: Sequence[Stream], softmax: Callable[[Float32Array], Float32Array]
    ) -> None:
        self._streams = list(streams)
        self._softmax = softmax

    def __len__(self) -> int:
        return len(self._streams)

    def __getitem__(self, index: int) -> Stream:
        return self._streams[index]

    def push(self, tokens: Sequence[int | None]) -> None:
        """Let each stream read one more token.

        Args:
            tokens: One id a stream; None where a stream has nothing to read.

        Raises:
            ValueError: Not one entry a stream, or an id is not in the vocabulary. The streams
                before the offending one have then read theirs.
            TypeError: An entry is neither an integer nor None.
        """
        if len(tokens) != len(self._streams):
            raise ValueError(
                f"tokens: expected {len(self._streams)}, one a stream, found {len(tokens)}."
            )
        for stream, token in zip(self._streams, tokens, strict=True):
            if token is not None:
                stream.push(token)

    def probabilities(self) -> Float32Array:
        """Return the class probabilities (N, C) float32 of each stream's tokens so far."""
        return self._softmax(np.stack([stream.logits() for stream in self._streams]))
