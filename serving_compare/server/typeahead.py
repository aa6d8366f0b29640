"""One text that is still being typed: what was read stays read, only what changed is computed.

The whole text is tokenised every time, which costs a few microseconds, and its ids are compared
with those already read. A state is kept for every prefix, so that letters added, taken back or
changed in the middle cost the tokens behind the change and no more. Because the ids are those of
the whole text, the answer is the one the whole text gives, with or without a word table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from export.lookup import LookupModel, Stream

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class TypedAnswer(NamedTuple):
    """What `Typeahead.answer` found.

    Attributes:
        probabilities: (C,) float32.
        ids: Token ids of the text, at least one.
        tokens_reused: How many of them, from the first, had been read before.
        steps_computed: GRU steps of a layer and direction that this answer took.
        steps_reused: Those it was spared.
    """

    probabilities: NDArray[np.float32]
    ids: list[int]
    tokens_reused: int
    steps_computed: int
    steps_reused: int


class Typeahead:
    """The states of one text's prefixes. Not safe to share between threads.

    It holds one stream for each token of the last text, at most `max_tokens` + 1 of them, each a
    few kilobytes.

    Args:
        model: Answers; its streams are read.
        layers: GRU layers of the model.
        bidirectional: Whether each layer reads in both directions.
    """

    def __init__(self, model: LookupModel, *, layers: int, bidirectional: bool) -> None:
        self._model = model
        self._layers = layers
        self._bidirectional = bidirectional
        self._ids: list[int] = []
        # One stream more than ids: entry n has read the first n of them.
        self._streams: list[Stream] = [model.stream()]

    def answer(self, text: str) -> TypedAnswer:
        """Return what the model says of `text`, reading only what differs from the last text.

        Args:
            text: The whole text so far. Without any piece it counts as one unknown token, as
                everywhere; beyond `max_tokens` ids it is cut, as everywhere.

        Raises:
            ValueError: It holds a lone surrogate.
        """
        encoded, _ = self._model.encode([text])
        ids: list[int] = encoded[0].tolist()
        reused = 0
        for old, new in zip(self._ids, ids, strict=False):
            if old != new:
                break
            reused += 1
        del self._streams[reused + 1 :]
        for token in ids[reused:]:
            longer = self._streams[-1].fork()
            longer.push(token)
            self._streams.append(longer)
        self._ids = ids
        computed, spared = self._count_steps(len(ids), reused)
        return TypedAnswer(self._streams[-1].probabilities(), ids, reused, computed, spared)

    def _count_steps(self, tokens: int, reused: int) -> tuple[int, int]:
        """Return steps computed and spared; `export.lookup.stream` says what a stream can spare."""
        if not self._bidirectional:
            return self._layers * (tokens - reused), self._layers * reused
        if self._layers == 1:
            return tokens - reused + tokens, reused
        # Every output depends on every token, so the answer reads all of it again.
        return 2 * self._layers * tokens, 0
