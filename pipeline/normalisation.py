"""Rules that turn raw text into the form a tokenizer sees, compiled into `tokenizer.model`.

There is one definition of the normal form: a table of code point sequences that SentencePiece
compiles into the model, so that training, every exported artifact and programs in other
languages apply the very same rules. The table is computed from Python's `unicodedata`:

- NFKC and case folding, repeated until nothing changes (full width, ligatures, final sigma);
- punctuation, symbols, separators and control characters become one space;
  runs of spaces are merged and the ends are trimmed by SentencePiece itself;
- format characters (soft hyphen, joiners, byte order mark, direction marks) and variation
  selectors vanish, as in Unicode's NFKC_Casefold, because they stand inside words. The
  zero-width space is the exception: it separates words, so it becomes a space;
- sequences of a base and its marks, and of Hangul jamo, compose as NFKC would compose them.

Left out, because each would take 10^5 rules or a full normaliser: reordering of marks that
compose with nothing, composition across two different rules (a ligature followed by an accent),
and private-use or unassigned code points (they pass unchanged and become unknown pieces). NUL
cannot be a key of SentencePiece's compiled trie: inside the model it stays and becomes an unknown
piece, the same one in every runtime; `normalise` replaces it by a space first.

The table depends on the Unicode version of the running Python; `UNICODE_VERSION` is recorded in
`data.json` and is part of its key. Source: Unicode Standard Annex 15, and SentencePiece's
`Normalizer`, which replaces the longest matching source at each position and never looks back.
"""

from __future__ import annotations

import functools
import itertools
import sys
import unicodedata

import sentencepiece

UNICODE_VERSION = unicodedata.unidata_version
"""Version of the character database that the rules are computed from."""

_VARIATION_SELECTORS = (
    *range(0xFE00, 0xFE10),
    *range(0xE0100, 0xE01F0),
    *range(0x180B, 0x180E),  # Mongolian
    0x034F,  # combining grapheme joiner
)
_HANGUL_FILLERS = (0x115F, 0x1160, 0x3164, 0xFFA0)
"""Letters by category, blank by purpose: they only hold a place for a missing jamo."""
_ZERO_WIDTH_SPACE = "\u200b"
_SPACE_CATEGORIES = frozenset("PSZ")
_LAST_SYLLABLE = 0xD7A3
_PLAIN = frozenset(("Ll", "Lo", "Mc", "Nd"))
"""Categories whose characters no rule touches unless they decompose or fold (fillers aside)."""


def _is_deleted(char: str) -> bool:
    if char == _ZERO_WIDTH_SPACE:
        return False
    return unicodedata.category(char) == "Cf" or ord(char) in _VARIATION_SELECTORS


def _is_space(char: str) -> bool:
    # Me are the enclosing marks (the keycap of an emoji digit): drawn symbols, not spelling.
    category = unicodedata.category(char)
    return (
        category[0] in _SPACE_CATEGORIES
        or category in ("Cc", "Me")
        or char == _ZERO_WIDTH_SPACE
        or ord(char) in _HANGUL_FILLERS
    )


def _fold(text: str) -> str:
    """Return NFKC and case folding of `text`, repeated to the fixed point."""
    while True:
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
        if folded == text:
            return text
        text = folded


def _target(text: str) -> str:
    """Return what the rules make of one character or one composing sequence.

    A target holds no two neighbouring spaces, as SentencePiece merges spaces between targets
    but not inside one. A spacing accent (U+00B4 is NFKC space + U+0301) is a space only.
    """
    target: list[str] = []
    for char in _fold(text):
        if _is_deleted(char):
            continue
        after_space = bool(target) and target[-1] == " "
        if _is_space(char):
            if not after_space:
                target.append(" ")
        elif not (after_space and unicodedata.combining(char)):
            target.append(char)
    return "".join(target)


def _spellings(char: str) -> set[str]:
    """Return the canonically equivalent spellings of a precomposed character, itself left out.

    Every order of the marks, with any number of leading marks already composed with the base:
    U+1EAD is also a + U+0323 + U+0302, a + U+0302 + U+0323, U+1EA1 + U+0302, U+00E2 + U+0323.
    """
    base, *marks = list(unicodedata.normalize("NFD", char))
    spellings = set()
    for order in itertools.permutations(marks):
        for composed in range(len(marks) + 1):
            head = unicodedata.normalize("NFC", base + "".join(order[:composed]))
            spelling = head + "".join(order[composed:])
            if unicodedata.normalize("NFC", spelling) == unicodedata.normalize("NFC", char):
                spellings.add(spelling)
    return spellings - {char}


def _half_width_kana() -> dict[str, str]:
    """Return the pairs of a half-width kana and its half-width voicing mark."""
    pairs = {}
    for kana in map(chr, range(0xFF66, 0xFF9E)):
        for mark in "\uff9e\uff9f":
            composed = _fold(kana + mark)
            if len(composed) == 1:
                pairs[kana + mark] = composed
    return pairs


def _hangul() -> dict[str, str]:
    """Return every spelling of a syllable by jamo, and of an open syllable with a final jamo."""
    sequences = {}
    for code in range(0xAC00, _LAST_SYLLABLE + 1):
        syllable = chr(code)
        jamo = unicodedata.normalize("NFD", syllable)
        sequences[jamo] = syllable
        if len(jamo) == 3:
            sequences[unicodedata.normalize("NFC", jamo[:2]) + jamo[2]] = syllable
    return sequences


def build_rules() -> dict[str, str]:
    """Compute the normalisation table.

    Returns:
        Source sequence to target, sorted by source; characters that stay as they are have no
        entry. An empty target deletes the source.
    """
    rules: dict[str, str] = {}
    for code in range(1, sys.maxunicode + 1):
        char = chr(code)
        category = unicodedata.category(char)
        if 0xAC00 <= code <= _LAST_SYLLABLE or category in ("Cn", "Co", "Cs"):
            continue
        if category in _PLAIN and not unicodedata.decomposition(char) and char == char.casefold():
            continue  # most of the 150,000 assigned characters: ideographs and other caseless ones
        target = _target(char)
        if target != char:
            rules[char] = target
        if len(unicodedata.normalize("NFD", char)) > 1:
            # Composition exclusions (U+0958) stay decomposed in NFKC: no rule, and SentencePiece
            # refuses one that changes nothing.
            rules.update({s: target for s in _spellings(char) if s != target})
    rules.update((chr(code), " ") for code in _HANGUL_FILLERS)
    rules.update(_half_width_kana())
    rules.update(_hangul())
    return dict(sorted(rules.items()))


@functools.cache
def _rule_list() -> list[tuple[str, str]]:
    return list(build_rules().items())


def build_normaliser(*, for_tokenizer: bool) -> sentencepiece.SentencePieceNormalizer:
    """Compile the rules.

    Measured: 37,731 rules, 0.5 s to compute (once in a process) and 0.05 s to compile into
    223 kB, of which Hangul by jamo is 21,945 rules and 144 kB.

    Args:
        for_tokenizer: Mark words with U+2581 as BPE wants it, instead of plain spaces.

    Returns:
        A normaliser that trims and merges spaces; safe to share between threads.
    """
    sentencepiece.SetMinLogLevel(2)  # it reports every table it compiles on stderr
    return sentencepiece.SentencePieceNormalizer(
        norm_map=_rule_list(),
        add_dummy_prefix=for_tokenizer,
        escape_whitespaces=for_tokenizer,
        remove_extra_whitespaces=True,
    )


_load_plain = functools.cache(functools.partial(build_normaliser, for_tokenizer=False))


def normalise(text: str) -> str:
    """Return the normal form of a text, by the rules that every tokenizer of ours carries.

    Example:
        `normalise("Ｖe\u0301ry — GOOD!")` is `"véry good"`.
    """
    return str(_load_plain().Normalize(text.replace("\0", " ")))


def normalise_all(texts: list[str]) -> list[str]:
    """Return the normal form of each text; see `normalise`, which costs 1.3 times as much."""
    return list(_load_plain().Normalize([text.replace("\0", " ") for text in texts]))
