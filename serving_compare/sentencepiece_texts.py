"""Strings in for runtimes that take ids alone: sentencepiece, then the runtime's own `run_ids`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serving_compare.backends import ArtifactFiles, Ids, Interface, Lengths, Probabilities

UNK_ID = 1
"""What a text without any piece becomes, in every path."""


class SentencePieceTexts:
    """Tokenises for a backend. Its `load` calls `import_tokenizer`, then `load_tokenizer`."""

    def __init__(self) -> None:
        self._encoder: Any = None
        self._max_tokens = 0

    def import_tokenizer(self, interface: Interface) -> None:
        """Import what texts need: a part of the stage `import`."""
        if interface == "text":
            import sentencepiece  # noqa: F401

    def load_tokenizer(self, files: ArtifactFiles, interface: Interface) -> None:
        """Open the tokenizer if texts will come: a part of the stage `load`."""
        self._max_tokens = files.max_tokens
        if interface == "text" and self._encoder is None:
            import sentencepiece

            self._encoder = sentencepiece.SentencePieceProcessor(model_file=files.tokenizer)

    def run_ids(self, ids: Ids, lengths: Lengths) -> Probabilities:
        """See `Backend.run_ids`."""
        raise NotImplementedError

    def run_texts(self, texts: Sequence[str]) -> Probabilities:
        """See `Backend.run_texts`. One text takes a shorter way: no padding, no loop."""
        import numpy as np

        limit = self._max_tokens
        if len(texts) == 1:
            row = self._encoder.encode(texts[0])[:limit] or [UNK_ID]
            return self.run_ids(np.array([row], np.int32), np.array([len(row)], np.int32))
        rows = [row[:limit] or [UNK_ID] for row in self._encoder.encode(list(texts))]
        lengths = np.array([len(row) for row in rows], np.int32)
        ids = np.zeros((len(rows), int(lengths.max())), np.int32)
        for position, row in enumerate(rows):
            ids[position, : len(row)] = row
        return self.run_ids(ids, lengths)
