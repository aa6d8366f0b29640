"""Raw text to token ids, by the artifact's own SentencePiece model.

The package sentencepiece is imported only when the first text arrives, so that ids can be served
with NumPy alone. Normalisation lives inside the model, so this is the same mapping as in
training.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from .errors import REMEDY, TokenizerError
from .format import LookupFiles
from .manifest import TOKENIZER_FILE, UNK_ID


class TextEncoder:
    """Maps texts to ids. Safe to share between threads.

    Args:
        files: The lookup folder.
        check_golden: Whether the first use also checks that the golden texts give their ids.
    """

    def __init__(self, files: LookupFiles, *, check_golden: bool) -> None:
        self._files = files
        self._check_golden = check_golden
        self._lock = threading.Lock()
        self._processor: Any = None

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text: at least one, at most `max_tokens`.

        A text without any piece, like "" or " ", gives [1], the unknown id.

        Args:
            texts: Texts, not a single string.

        Returns:
            One list of ids a text.

        Raises:
            TypeError: `texts` is one string, or an entry is not a string.
            ValueError: An entry holds a lone surrogate, which is not text and has no UTF-8.
            ImportError: The package sentencepiece is absent.
            TokenizerError: The tokenizer model is unusable.
        """
        if isinstance(texts, str | bytes):
            raise TypeError(
                f"texts: expected a list of strings, found one {type(texts).__name__}. Put it "
                "into a list: [text]."
            )
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(
                    f"texts[{index}]: expected a string, found {type(text).__name__} {text!r:.60}."
                )
        processor = self._processor or self._load()
        return [self._encode_one(processor, index, text) for index, text in enumerate(texts)]

    def _encode_one(self, processor: Any, index: int, text: str) -> list[int]:
        try:
            text.encode()
        except UnicodeEncodeError as err:
            raise ValueError(
                f"texts[{index}]: expected text that UTF-8 can hold, found the lone surrogate "
                f"{text[err.start]!r} at position {err.start}. Decode its source with "
                "errors='replace'."
            ) from err
        ids: list[int] = processor.encode(text)
        return ids[: self._files.max_tokens] or [UNK_ID]

    def _load(self) -> Any:
        with self._lock:
            if self._processor is not None:
                return self._processor
            try:
                import sentencepiece
            except ImportError as err:
                raise ImportError(
                    "Raw text needs the package sentencepiece, which is not installed. Run "
                    "`pip install sentencepiece`, or pass token ids to probabilities(), which "
                    "needs NumPy alone."
                ) from err
            place = self._files.folder / TOKENIZER_FILE
            try:
                processor = sentencepiece.SentencePieceProcessor(model_proto=self._files.tokenizer)
            except RuntimeError as err:
                raise TokenizerError(
                    f"{place}: expected a SentencePiece model, found {err}. {REMEDY}"
                ) from err
            vocab_size = self._files.config.vocab_size
            if processor.get_piece_size() > vocab_size:
                raise TokenizerError(
                    f"{place}: expected at most {vocab_size} pieces, the rows of the gate table, "
                    f"found {processor.get_piece_size()}. {REMEDY}"
                )
            if self._check_golden:
                self._replay(processor)
            self._processor = processor
            return processor

    def _replay(self, processor: Any) -> None:
        for index, probe in enumerate(self._files.golden):
            ids = self._encode_one(processor, index, probe.text)
            if tuple(ids) != probe.ids:
                raise TokenizerError(
                    f"{self._files.folder / TOKENIZER_FILE}: expected ids {list(probe.ids)} for "
                    f"golden text {probe.text!r}, found {ids}. Install the sentencepiece version "
                    "the artifact was exported with, or export the run again."
                )
