"""Golden probes: texts whose ids and Keras probabilities travel with the artifact.

A reader replays them to prove that it still gives what the model gave. They are chosen from the
test split over its whole range of lengths, with texts nobody's data contains added: the odd ends
of Unicode are where two tokenizers or two readers differ first.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence

UNKNOWN_ID = 1
MIN_PROBES = 256

HOSTILE_TEXTS = (
    "",
    " ",
    "\t\n\r ",
    "a",
    "A",
    ".",
    "한국어 뉴스 제목입니다",
    "日本語のテキスト",
    "עברית ועוד مرحبا بالعالم",  # right to left
    "👩‍👩‍👧‍👦 family 👍🏽",  # zero-width joiners, skin tone
    "🇰🇷🇺🇸",
    "e\u0301cole re\u0301sume\u0301",  # NFD
    "ｆｕｌｌ　ｗｉｄｔｈ",
    "ﬁnal ﬂow ½ ㎏",  # compatibility forms
    "▁already▁escaped▁",  # SentencePiece's own space mark
    "<unk> <pad> <s> </s>",
    "nul\x00inside",
    "zero\u200bwidth\ufeffspaces\u00a0here",
    "line\u2028separator\u0085next",
    "𓀀𓀁𓀂 𓀃𓀄",  # all unknown: no tokenizer learns hieroglyphs from titles
    "\U000e0041\U000f0000\ue000",  # tags and private use
    "\u202ereversed\u202c",
    "İstanbul ǅ ß ſ",  # case folding that changes the number of letters
    "0123456789 3.14e-10",
    "https://example.org/path?q=1&r=2#frag",
    "'; DROP TABLE titles; --",
    "a" * 500,
)
"""Odd texts every artifact is probed with."""


def encode_texts(processor: object, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
    """Return the ids of each text: cut to `max_tokens`, the unknown id where there is none.

    Args:
        processor: A `SentencePieceProcessor`.
        texts: Raw texts.
        max_tokens: Most ids of a text.
    """
    batches: list[list[int]] = processor.encode(list(texts))  # type: ignore[attr-defined]
    return [ids[:max_tokens] or [UNKNOWN_ID] for ids in batches]


def _spread(texts: Sequence[str], count: int) -> list[str]:
    """Return `count` of `texts` (or all), evenly spaced over their lengths."""
    ordered = sorted(
        set(texts), key=lambda text: (len(text), hashlib.sha256(text.encode()).digest())
    )
    if len(ordered) <= count:
        return ordered
    # Both ends are included: the shortest and the longest text are the likeliest to break.
    return [ordered[i * (len(ordered) - 1) // (count - 1)] for i in range(count)]


def _joined(texts: Sequence[str]) -> Iterator[str]:
    """Yield endless distinct joins of `texts`, for splits too small to fill the probes."""
    words = [text for text in texts if text.strip()] or ["a"]
    for count in itertools.count(2):
        for start in range(len(words)):
            yield " ".join(words[(start + step) % len(words)] for step in range(count))


def choose_probe_texts(texts: Sequence[str], max_tokens: int) -> list[str]:
    """Choose the texts to probe with; the same choice whatever the order of `texts`.

    Args:
        texts: The test split.
        max_tokens: Most ids of a text; one probe is longer than that.

    Returns:
        At least `MIN_PROBES` distinct texts, `HOSTILE_TEXTS` first.
    """
    chosen = dict.fromkeys(HOSTILE_TEXTS)
    # A piece has at least one character, and each copy of a text of w words at least w pieces.
    longest = max(texts, key=lambda text: (len(text), text), default="") or "a"
    chosen[" ".join([longest] * (max_tokens + 1))[: 64 * (max_tokens + 1)]] = None
    spread = _spread(texts, MIN_PROBES - len(chosen))
    chosen.update(dict.fromkeys(spread))
    joins = _joined(spread)
    while len(chosen) < MIN_PROBES:
        chosen[next(joins)] = None
    return list(chosen)
