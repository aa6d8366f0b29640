"""A data card without a fault, for tests to put faults into."""

from __future__ import annotations

from pipeline.data_card.fields import (
    BalanceCard,
    ClassCard,
    DataCard,
    LeakCard,
    NoiseCard,
    PatternsCard,
    RowsCard,
    SplitCard,
    VocabularyCard,
)
from pipeline.data_card.text_statistics import Histogram, LengthSummary

LENGTHS = LengthSummary(
    min=1, mean=3.25, quantiles={"p1": 1, "p25": 2, "p50": 3, "p75": 4, "p90": 5, "p99": 6}, max=7
)


def make_split(rows: int, *, classes: int = 2) -> SplitCard:
    return SplitCard(
        rows=rows,
        classes=classes,
        words=LENGTHS,
        tokens=LENGTHS,
        cut_share=0.0,
        unknown_token_share=0.0,
        unknown_row_share=0.0,
        distinct_words=5000,
        words_seen_share=0.98,
        distinct_words_seen_share=0.9,
    )


def make_card() -> DataCard:
    histogram = Histogram(
        edges=[1, 3, 5, 7],
        counts={"train": [4, 8, 2], "validation": [1, 2, 1], "test": [1, 3, 0]},
    )
    leak = LeakCard(
        rows={"word_order": 0, "numbers": 0, "one_word": 0},
        share=0.0,
        rows_compared_for_one_word=900,
        examples=[],
    )
    return DataCard(
        name="pets",
        fingerprint="0123456789abcdef" * 4,
        num_classes=2,
        max_tokens=256,
        rows=RowsCard(
            read=10_000,
            kept=10_000,
            duplicates_merged=0,
            conflicting_texts=0,
            conflicting_rows_dropped=0,
            rejected=[],
        ),
        splits={
            "train": make_split(8000),
            "validation": make_split(1000),
            "test": make_split(1000),
        },
        word_lengths=histogram,
        token_lengths=histogram,
        balance=BalanceCard(
            largest_label="cat",
            largest_rows=4000,
            smallest_label="dog",
            smallest_rows=4000,
            effective_classes=2.0,
            under_50_rows=0,
        ),
        classes=[
            ClassCard(
                label=label,
                rows={"train": 4000, "validation": 500, "test": 500},
                share=0.5,
                examples=[f"a {label} sleeps"],
            )
            for label in ("cat", "dog")
        ],
        conflicts=[],
        patterns=PatternsCard(shared=0, rows=0, disputed_rows=0, largest=[]),
        leaks={"validation": leak, "test": leak},
        vocabulary=VocabularyCard(
            size=1000,
            size_wanted=1000,
            pieces=998,
            used_at_least={"1": 998, "5": 990, "10": 900},
            missing=[],
        ),
        label_noise=NoiseCard(rows=8000, skipped=None, accuracy=0.9),
        warnings=[],
    )
