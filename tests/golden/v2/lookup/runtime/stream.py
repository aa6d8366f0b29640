"""Streams: a text that arrives token by token, with an answer at every prefix.

A stream's answer equals the whole-sequence answer for the tokens so far. Costs, for the t-th
token: a unidirectional model does one step per layer at each push, and the head alone when asked.
A bidirectional model of one layer does the forward step at each push and, when asked, reads
all t tokens backwards: about half the price of the whole sequence. With further bidirectional
layers every output depends on every token, so asking costs the whole sequence.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Self

from .arrays import Float32Array
from .engine import Engine
from .manifest import UNK_ID


class Stream:
    """One text that arrives token by token. Not safe to share between threads; fork it instead.

    Args:
        engine: Engine that computes it.
        vocab_size: V.
        softmax: Turns logits (C,) into probabilities.

    Attributes:
        length: Number of tokens read since the start or the last `reset`.
    """

    def __init__(
        self, engine: Engine, vocab_size: int, softmax: Callable[[Float32Array], Float32Array]
    ) -> None:
        self._engine = engine
        self._vocab_size = vocab_size
        self._softmax = softmax
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

    def probabilities(self) -> Float32Array:
        """Return the class probabilities (C,) float32 of the tokens so far.

        Before the first token they are those of [1], one unknown token, as for an empty text.
        """
        state = self._state
        if self.length == 0:
            state = self._engine.start_stream()
            state.push(UNK_ID)
        return self._softmax(state.logits())

    def reset(self) -> None:
        """Forget all tokens."""
        self._state = self._engine.start_stream()
        self.length = 0

    def fork(self) -> Self:
        """Return an independent stream that has read the same tokens."""
        twin = type(self)(self._engine, self._vocab_size, self._softmax)
        twin._state = self._state.fork()
        twin.length = self.length
        return twin
