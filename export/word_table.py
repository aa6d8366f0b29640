"""Builds the word table of an artifact, or says why the artifact gets none.

A word table rests on one law: the ids of a text are those of its words, one after another, where
words are what stands between ASCII spaces (0x20) of the raw text. It holds for a SentencePiece
model of which all of this is true, and for others only by luck:

- BPE, so that what is merged in one word does not depend on another. No piece is user-defined
  (those are matched before everything else, in the raw text, and may hold a space) or unused
  (which our tokenizers never have).
- Each word begins with U+2581 in the normal form: a dummy prefix is added, spaces are escaped and
  merged, and no rule reads across a space or leaves two spaces or a U+2581 behind.
- U+2581 is a piece, and no piece holds one behind its first character. So nothing merges over the
  start of a word, and a word's first piece is never unknown, which matters because neighbouring
  unknown pieces become one.

Whatever these checks let pass is compared with the tokenizer's own ids all the same, on every text
of the test split and on hostile ones. Source: `normalizer.cc`, `bpe_model.cc` and
`sentencepiece_processor.cc` of SentencePiece 0.2.1 and 0.2.3.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from export.golden import HOSTILE_TEXTS
from export.lookup import WordArrays
from export.lookup.words import WordTable

_SPACE_MARK = "▁"
_UNCUT = 2**31
_HOSTILE_WORDS = 3
"""So many of the commonest words are put beside each hostile text."""


@dataclass(frozen=True, kw_only=True)
class WordTableResult:
    """A word table and what it is good for, or why there is none.

    Attributes:
        words: The table, None if there is none.
        refusal: Why there is none, whole sentences; None if there is one.
        checked_texts: Texts whose ids by the table were compared with the tokenizer's own.
        word_share: Share of the words of the test split that are in the table, a fraction.
        text_share: Share of its texts whose words all are.
    """

    words: WordArrays | None
    refusal: str | None
    checked_texts: int
    word_share: float
    text_share: float

    def to_json(self) -> dict[str, Any]:
        """Return the manifest's `word_table` entry."""
        return {
            "words": self.words.sizes.words if self.words else 0,
            "refusal": self.refusal,
            "checked_texts": self.checked_texts,
            "test_word_share": self.word_share,
            "test_text_share": self.text_share,
        }


def _refuse(refusal: str) -> WordTableResult:
    return WordTableResult(
        words=None, refusal=refusal, checked_texts=0, word_share=0.0, text_share=0.0
    )


def _setting_problems(proto: Any) -> Iterator[str]:
    """Yield what is wrong with the settings of a parsed model."""
    kind = proto.trainer_spec.ModelType.Name(proto.trainer_spec.model_type)
    if kind != "BPE":
        yield f"Expected a BPE model, found {kind}."
    for spec, name, wanted in (
        (proto.normalizer_spec, "add_dummy_prefix", True),
        (proto.normalizer_spec, "remove_extra_whitespaces", True),
        (proto.normalizer_spec, "escape_whitespaces", True),
        (proto.trainer_spec, "split_by_whitespace", True),
        (proto.trainer_spec, "treat_whitespace_as_suffix", False),
    ):
        if getattr(spec, name) != wanted:
            yield f"Expected {name} {wanted}, found {not wanted}."


def _piece_problems(proto: Any) -> Iterator[str]:
    """Yield what is wrong with the vocabulary, the first piece of each kind."""
    kinds = proto.SentencePiece.Type
    mark = [piece for piece in proto.pieces if piece.piece == _SPACE_MARK]
    if not mark or mark[0].type != kinds.NORMAL:
        yield "Expected U+2581 among the pieces, found none."
    for piece in proto.pieces:
        if piece.type in (kinds.USER_DEFINED, kinds.UNUSED):
            yield f"Expected no user-defined or unused piece, found {piece.piece!r}."
            break
    for piece in proto.pieces:
        if piece.type == kinds.NORMAL and _SPACE_MARK in piece.piece[1:]:
            yield f"Expected U+2581 at the start of a piece only, found {piece.piece!r}."
            break


def _rule_problems(tokenizer: bytes, proto: Any) -> Iterator[str]:
    """Yield what is wrong with the compiled normalisation rules, the first rule of each kind."""
    rules: dict[str, str] = {}
    if proto.normalizer_spec.precompiled_charsmap:
        try:
            normaliser = sentencepiece.SentencePieceNormalizer(model_proto=tokenizer)
            rules = dict(normaliser.Decompile())
        except (RuntimeError, UnicodeDecodeError) as err:
            yield f"Expected normalisation rules that can be read, found {err}."
            return
    if _SPACE_MARK not in rules:
        yield "Expected a normalisation rule for U+2581, found none: it would count as a space."
    for source, target in rules.items():
        if " " in source and (source, target) != (" ", " "):
            yield f"Expected normalisation rules within words, found one for {source!r}."
            break
    for source, target in rules.items():
        if "  " in target or _SPACE_MARK in target:
            yield (
                "Expected normalisation to leave no U+2581 and no two spaces in a row, found "
                f"{target!r} for {source!r}."
            )
            break


def find_law_problems(tokenizer: bytes) -> list[str]:
    """Return why a text's ids may differ from its words' ids; empty when they cannot.

    Args:
        tokenizer: A SentencePiece model that loads.

    Returns:
        Whole sentences.
    """
    proto = sentencepiece_model_pb2.ModelProto.FromString(tokenizer)
    return [
        *_setting_problems(proto),
        *_piece_problems(proto),
        *_rule_problems(tokenizer, proto),
    ]


def encode_words(processor: Any, words: Sequence[str]) -> WordArrays:
    """Encode every word alone and lay out the table.

    Args:
        processor: A `SentencePieceProcessor`.
        words: At least one, distinct, not empty, without a space; in any order.

    Returns:
        The table's arrays, words sorted by their UTF-8 bytes.
    """
    ordered = sorted(words, key=str.encode)
    encoded = [word.encode() for word in ordered]
    ids: list[list[int]] = processor.encode(ordered)
    return WordArrays(
        word_bytes=np.frombuffer(b"".join(encoded), np.uint8),
        word_ends=np.cumsum([len(word) for word in encoded], dtype=np.uint32),
        word_ids=np.array(list(itertools.chain.from_iterable(ids)), np.int32),
        word_id_ends=np.cumsum([len(row) for row in ids], dtype=np.uint32),
    )


def make_hostile_texts(words: Sequence[str]) -> list[str]:
    """Return odd texts in pairs, and beside and joined to the first of `words`."""
    pairs = [f"{first} {second}" for first in HOSTILE_TEXTS for second in HOSTILE_TEXTS]
    return pairs + [
        f"{word} {odd} {word}{odd} {odd}{word}  {word}"
        for word in words[:_HOSTILE_WORDS]
        for odd in HOSTILE_TEXTS
    ]


def find_other_text(table: WordTable, processor: Any, texts: Sequence[str]) -> str | None:
    """Return the first text whose ids by the table are not the tokenizer's own, None if none is."""
    expected: list[list[int]] = processor.encode(list(texts))
    for text, ids in zip(texts, expected, strict=True):
        if table.encode(text, _UNCUT, processor.encode) != ids:
            return text
    return None


def _measure_shares(table: WordTable, texts: Sequence[str]) -> tuple[float, float]:
    """Return the share of the texts' words that the table holds, and of texts all of whose are."""
    known = [[table.find(word) is not None for word in text.split(" ") if word] for text in texts]
    words = sum(map(len, known))
    return sum(map(sum, known)) / max(words, 1), sum(map(all, known)) / max(len(known), 1)


def build_word_table(
    tokenizer: bytes,
    words: Sequence[str] | None,
    *,
    test_texts: Sequence[str],
    probe_texts: Sequence[str],
) -> WordTableResult:
    """Build the word table of a run, and prove it, or say why there is none.

    Args:
        tokenizer: The SentencePiece model.
        words: The run's words, most frequent first; None if it kept none.
        test_texts: The test split: every text is compared, and the shares are counted on it.
        probe_texts: Further texts to compare.

    Returns:
        The table, or the reason why the artifact must do without.
    """
    if words is None:
        return _refuse(
            "The run has no words.txt: it was trained before runs kept their words. Call "
            "`make train` with the same settings, which adds it, and export again."
        )
    if not words:
        return _refuse("The training texts hold no words that fit a word table.")
    if problems := find_law_problems(tokenizer):
        return _refuse(
            "With this tokenizer the ids of a text may not be those of its words. "
            + " ".join(problems)
        )
    processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer)
    arrays = encode_words(processor, words)
    table = WordTable(arrays)
    texts = [*test_texts, *probe_texts, *make_hostile_texts(words)]
    other = find_other_text(table, processor, texts)
    if other is not None:
        return _refuse(
            "Expected the tokenizer's ids from the word table on every text, found others for "
            f"{other!r:.80}."
        )
    word_share, text_share = _measure_shares(table, test_texts)
    return WordTableResult(
        words=arrays,
        refusal=None,
        checked_texts=len(texts),
        word_share=word_share,
        text_share=text_share,
    )
