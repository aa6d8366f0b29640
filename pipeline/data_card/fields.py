"""The fields of a data card, which are those of `data_card.json`.

Shares are fractions of 1. Texts are cut to 300 characters, labels to 80.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.data_card.text_statistics import Histogram, LengthSummary, MissingCharacter

CARD_SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class RejectSample:
    """A row that was not used: where it stands, and its beginning."""

    place: str
    sample: str


@dataclass(frozen=True, kw_only=True)
class RejectReason:
    """All rows that were not used for one reason."""

    reason: str
    rows: int
    samples: list[RejectSample]


@dataclass(frozen=True, kw_only=True)
class RowsCard:
    """`read` = `kept` + `duplicates_merged` + `conflicting_rows_dropped` + rows of `rejected`."""

    read: int
    kept: int
    duplicates_merged: int
    conflicting_texts: int
    conflicting_rows_dropped: int
    rejected: list[RejectReason]


@dataclass(frozen=True, kw_only=True)
class ConflictSample:
    """A text with several labels: rows by label, and the label that was kept."""

    text: str
    rows: dict[str, int]
    kept: str


@dataclass(frozen=True, kw_only=True)
class SplitCard:
    """One split.

    Attributes:
        rows: How many.
        classes: Classes with at least one row.
        words: Lengths in words.
        tokens: Lengths in pieces, uncut.
        cut_share: Share of rows with more than `max_tokens` pieces.
        unknown_token_share: Share of the pieces that are unknown.
        unknown_row_share: Share of rows with at least one unknown piece.
        distinct_words: How many.
        words_seen_share: Share of its words that the training split has.
        distinct_words_seen_share: Share of its distinct words that the training split has.
    """

    rows: int
    classes: int
    words: LengthSummary
    tokens: LengthSummary
    cut_share: float
    unknown_token_share: float
    unknown_row_share: float
    distinct_words: int
    words_seen_share: float
    distinct_words_seen_share: float


@dataclass(frozen=True, kw_only=True)
class ClassCard:
    """One class: rows by split, share of all rows, and some training texts."""

    label: str
    rows: dict[str, int]
    share: float
    examples: list[str]


@dataclass(frozen=True, kw_only=True)
class BalanceCard:
    """How evenly the training rows are spread.

    Attributes:
        largest_label: The class with most rows.
        largest_rows: How many they are.
        smallest_label: The class with fewest rows, of those that have any.
        smallest_rows: How many they are.
        effective_classes: exp of the entropy: so many classes of equal size would be as diverse.
        under_50_rows: Classes with fewer than 50 training rows, none included.
    """

    largest_label: str
    largest_rows: int
    smallest_label: str
    smallest_rows: int
    effective_classes: float
    under_50_rows: int


@dataclass(frozen=True, kw_only=True)
class VocabularyCard:
    """The tokenizer's pieces, padding and unknown left out, and how the training split uses them.

    Attributes:
        size: V, with padding and unknown.
        size_wanted: What was asked for.
        pieces: How many there are.
        used_at_least: Pieces that training uses at least "1", "5" and "10" times.
        missing: Most frequent characters that it lacks, in all splits together.
    """

    size: int
    size_wanted: int
    pieces: int
    used_at_least: dict[str, int]
    missing: list[MissingCharacter]


@dataclass(frozen=True, kw_only=True)
class LabelledText:
    """A text and its label."""

    text: str
    label: str


@dataclass(frozen=True, kw_only=True)
class PatternCard:
    """Rows that share one pattern: equal words but for order and numbers."""

    rows: int
    classes: int
    examples: list[LabelledText]


@dataclass(frozen=True, kw_only=True)
class PatternsCard:
    """Rows of all splits that equal another row but for word order and numbers.

    Attributes:
        shared: Patterns that several rows have.
        rows: Rows of such patterns.
        disputed_rows: Those of them whose pattern has several labels.
        largest: The patterns with most rows.
    """

    shared: int
    rows: int
    disputed_rows: int
    largest: list[PatternCard]


@dataclass(frozen=True, kw_only=True)
class LeakExample:
    """A held-out row and the training row that it nearly repeats."""

    kind: str
    held_out: LabelledText
    training: LabelledText


@dataclass(frozen=True, kw_only=True)
class LeakCard:
    """Near duplicates of training texts in one held-out split.

    Attributes:
        rows: By kind: "word_order", "numbers", "one_word".
        share: Of all rows of the split.
        rows_compared_for_one_word: Those with 6 to 64 words.
        examples: Some of them.
    """

    rows: dict[str, int]
    share: float
    rows_compared_for_one_word: int
    examples: list[LeakExample]


@dataclass(frozen=True, kw_only=True)
class SuspectLabel:
    """A training row that a model which has not seen it gives another label."""

    text: str
    given: str
    given_probability: float
    suspected: str
    suspected_probability: float


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Rows of one class that the model takes for another, and their share of the class."""

    given: str
    predicted: str
    rows: int
    share: float


@dataclass(frozen=True, kw_only=True)
class NoiseCard:
    """What out-of-fold predictions on the training split say.

    Attributes:
        rows: Training rows that were looked at.
        skipped: Why nothing was predicted, so that the rest is empty; None if it was.
        accuracy: Of the predictions, out of fold.
        suspects: Rows in confident disagreement.
        clear_suspects: Those of them whose two probabilities lie 0.7 apart and more.
        clearest: The clearest suspects.
        confusions: The most frequent mistakes of the model.
    """

    rows: int
    skipped: str | None
    accuracy: float | None = None
    suspects: int = 0
    clear_suspects: int = 0
    clearest: list[SuspectLabel] = field(default_factory=list)
    confusions: list[Confusion] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class DataWarning:
    """One sentence to act upon, and its kind for programs."""

    kind: str
    text: str


@dataclass(frozen=True, kw_only=True)
class DataCard:
    """All of it; the fields of `data_card.json`.

    Attributes:
        name: Of the dataset.
        fingerprint: Of the data folder.
        num_classes: C.
        max_tokens: Longer texts are cut.
        rows: In, out, and why.
        splits: "train", "validation", "test".
        word_lengths: Rows by length in words.
        token_lengths: Rows by length in pieces, uncut.
        balance: Of the training split.
        classes: By rows, most first; of more than 200 the largest 150 and the smallest 50.
        conflicts: Some of the texts with several labels.
        patterns: Near-constant texts.
        leaks: Near duplicates of training texts, by held-out split.
        vocabulary: Pieces and their use.
        label_noise: Suspect labels and confused classes.
        warnings: What to act upon.
        schema_version: Of this file.
    """

    name: str
    fingerprint: str
    num_classes: int
    max_tokens: int
    rows: RowsCard
    splits: dict[str, SplitCard]
    word_lengths: Histogram
    token_lengths: Histogram
    balance: BalanceCard
    classes: list[ClassCard]
    conflicts: list[ConflictSample]
    patterns: PatternsCard
    leaks: dict[str, LeakCard]
    vocabulary: VocabularyCard
    label_noise: NoiseCard
    warnings: list[DataWarning]
    schema_version: int = CARD_SCHEMA_VERSION
