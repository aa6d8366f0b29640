"""Raw text to token ids: words from the word table, the rest by the artifact's SentencePiece model.

The package sentencepiece is imported only when it is needed, for a word that the table does not
hold or for any text where the folder has no table. So NumPy alone serves ids, and texts of known
words. Normalisation lives inside the model, so this is the same mapping as in training.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from .errors import REMEDY, TokenizerError, WordTableError
from .format import LookupFiles
from .manifest import TOKENIZER_FILE, UNK_ID
from .words import EncodeUnseen, WordTable


class TextEncoder:
    """Maps texts to ids. Safe to share between threads.

    Args:
        files: The lookup folder.
        check_golden: Whether the first use also checks that the golden texts give their ids, by
            the word table and, once it is needed, by the SentencePiece model.
        encode_words: An engine's way through the word table: text and a function for unseen
            words in, ids out. `WordTable` when None.
    """

    def __init__(
        self,
        files: LookupFiles,
        *,
        check_golden: bool,
        encode_words: Callable[[str, EncodeUnseen], list[int]] | None = None,
    ) -> None:
        self._files = files
        self._check_golden = check_golden
        self._lock = threading.Lock()
        self._processor: Any = None
        self._words = None if files.words is None else WordTable(files.words)
        self._native_encode = encode_words
        self.is_table_proven = not check_golden

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
            ImportError: The package sentencepiece is absent and a word is not in the word table.
            TokenizerError: The tokenizer model is unusable.
            WordTableError: The word table gives other ids than the golden texts have.
        """
        if isinstance(texts, str | bytes):
            raise TypeError(
                f"texts: expected a list of strings, found one {type(texts).__name__}. Put it "
                "into a list: [text]."
            )
        for index, text in enumerate(texts):
            _check_text(f"texts[{index}]", text)
        if self._words is None:
            processor = self._processor or self._load("Raw text needs")
            return [self._encode_whole(processor, text) for text in texts]
        if not self.is_table_proven:
            self._prove_table(self._words)
        return [self._encode_words(self._words, self.encode_unseen, text) for text in texts]

    def encode_words(self, text: str) -> list[int]:
        """Return the ids of part of a text, whole words: possibly none, and not cut.

        Raises:
            As `encode`.
        """
        _check_text("text", text)
        if self._words is None:
            whole: list[int] = (self._processor or self._load("Raw text needs")).encode(text)
            return whole
        if not self.is_table_proven:
            self._prove_table(self._words)
        # No bound from the length: U+FDFA alone normalises to 18 letters.
        return self._words.encode(text, sys.maxsize, self.encode_unseen)

    def _encode_whole(self, processor: Any, text: str) -> list[int]:
        ids: list[int] = processor.encode(text)
        return ids[: self._files.max_tokens] or [UNK_ID]

    def _encode_words(self, words: WordTable, encode_unseen: EncodeUnseen, text: str) -> list[int]:
        if self._native_encode is not None:
            return self._native_encode(text, encode_unseen)
        return words.encode(text, self._files.max_tokens, encode_unseen) or [UNK_ID]

    def encode_unseen(self, word: str) -> list[int]:
        """Return the ids of one word alone, by the SentencePiece model."""
        processor = self._processor or self._load(
            f"The word {word!r:.60} is not in the artifact's word table, so it needs"
        )
        ids: list[int] = processor.encode(word)
        return ids

    def _load(self, reason: str) -> Any:
        """Load the SentencePiece model; `reason` begins the sentence that says it is absent."""
        with self._lock:
            if self._processor is not None:
                return self._processor
            try:
                import sentencepiece
            except ImportError as err:
                raise ImportError(
                    f"{reason} the package sentencepiece, which is not installed. Run "
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
        """Compare the golden texts' ids by the model and, where there is one, by table and model.

        The second shows what the first cannot: that this sentencepiece, too, encodes a text as
        the words it is made of.
        """
        for probe in self._files.golden:
            ids = self._encode_whole(processor, probe.text)
            if tuple(ids) != probe.ids:
                raise TokenizerError(
                    f"{self._files.folder / TOKENIZER_FILE}: expected ids {list(probe.ids)} for "
                    f"golden text {probe.text!r}, found {ids}. Install the sentencepiece version "
                    "the artifact was exported with, or export the run again."
                )
            if self._words is not None:
                ids = self._encode_words(self._words, processor.encode, probe.text)
                self._check_table_ids(probe.text, probe.ids, ids)

    def _prove_table(self, words: WordTable) -> None:
        """Compare the golden texts' ids by the word table alone, as far as it knows their words."""
        for probe in self._files.golden:
            if all(words.find(word) is not None for word in probe.text.split(" ")):
                ids = self._encode_words(words, self.encode_unseen, probe.text)
                self._check_table_ids(probe.text, probe.ids, ids)
        self.is_table_proven = True

    def _check_table_ids(self, text: str, expected: Sequence[int], found: Sequence[int]) -> None:
        if tuple(found) != tuple(expected):
            raise WordTableError(
                f"{self._files.folder}: expected ids {list(expected)} for golden text {text!r}, "
                f"found {found} by the word table. {REMEDY}"
            )


def _check_text(place: str, text: object) -> None:
    if not isinstance(text, str):
        raise TypeError(f"{place}: expected a string, found {type(text).__name__} {text!r:.60}.")
    try:
        text.encode()
    except UnicodeEncodeError as err:
        raise ValueError(
            f"{place}: expected text that UTF-8 can hold, found the lone surrogate "
            f"{text[err.start]!r} at position {err.start}. Decode its source with "
            "errors='replace'."
        ) from err
