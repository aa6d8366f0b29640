"""Warnings: each when its share is passed, none on data without a fault."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from pipeline.data_card.card_warnings import find_warnings, format_share
from pipeline.data_card.fields import (
    ClassCard,
    DataCard,
    LeakCard,
    PatternCard,
    RejectReason,
)
from pipeline.data_card.text_statistics import MissingCharacter
from tests.pipeline.cards import make_card


def change(card: DataCard, part: str, **values: Any) -> DataCard:
    return dataclasses.replace(card, **{part: dataclasses.replace(getattr(card, part), **values)})


def change_split(card: DataCard, split: str, **values: Any) -> DataCard:
    changed = dataclasses.replace(card.splits[split], **values)
    return dataclasses.replace(card, splits={**card.splits, split: changed})


def warn(card: DataCard) -> list[tuple[str, str]]:
    return [(warning.kind, warning.text) for warning in find_warnings(card)]


def test_data_without_a_fault_has_no_warning() -> None:
    assert warn(make_card()) == []


def test_rejected_rows() -> None:
    rejected = [
        RejectReason(reason="empty_text", rows=150, samples=[]),
        RejectReason(reason="empty_label", rows=50, samples=[]),
    ]
    assert warn(change(make_card(), "rows", rejected=rejected)) == [
        (
            "rejects",
            "200 of 10,000 rows (2.0 %) could not be used, 150 of them for empty text: look at "
            "their samples in rejects.jsonl and mend the source.",
        )
    ]


def test_rows_that_the_filters_drop_are_no_fault() -> None:
    rejected = [
        RejectReason(reason=reason, rows=900, samples=[])
        for reason in ("label_dropped", "text_must_not_match")
    ]
    assert warn(change(make_card(), "rows", rejected=rejected)) == []


def test_many_duplicates() -> None:
    assert warn(change(make_card(), "rows", duplicates_merged=4000)) == [
        (
            "duplicates",
            "4,000 of 10,000 rows (40 %) repeat a text and were merged: if the repeats are real "
            "traffic, accuracy by row will differ from accuracy here.",
        )
    ]


def test_conflicting_labels() -> None:
    card = change(make_card(), "rows", conflicting_texts=1, conflicting_rows_dropped=60)
    assert warn(card) == [
        (
            "conflicts",
            "1 text came with several labels, and 60 rows lost to the more frequent one: decide "
            "which label is right, or merge the labels.",
        )
    ]


def with_classes(train_rows: list[int]) -> DataCard:
    card = make_card()
    classes = [
        ClassCard(
            label=f"c{index}",
            rows={"train": rows, "validation": 9, "test": 9},
            share=0.1,
            examples=[],
        )
        for index, rows in enumerate(train_rows)
    ]
    card = dataclasses.replace(card, classes=classes, num_classes=len(classes))
    present = sum(rows > 0 for rows in train_rows)
    card = change_split(card, "train", classes=present)
    for split in ("validation", "test"):
        card = change_split(card, split, classes=len(classes))
    return change(card, "balance", under_50_rows=sum(rows < 50 for rows in train_rows))


def test_small_classes_are_named_smallest_first() -> None:
    assert warn(with_classes([4000, 49, 7, 30, 31, 32, 33])) == [
        (
            "small_class",
            "6 of 7 classes have fewer than 50 training rows (c2 7, c3 30, c4 31, c5 32, c6 33 "
            "and 1 more): bring more rows of them, or merge them into related classes.",
        )
    ]


def test_one_small_class() -> None:
    ((_, text),) = warn(with_classes([4000, 49]))
    assert text.startswith("1 of 2 classes has fewer than 50 training rows (c1 49): ")


def test_classes_absent_from_training() -> None:
    assert warn(with_classes([4000, 4000, 0])) == [
        (
            "absent_class",
            "1 class (c2) cannot be learned, as no training row has it: bring more rows, or drop "
            "the class.",
        )
    ]


def test_classes_absent_from_a_held_out_split() -> None:
    assert warn(change_split(make_card(), "validation", classes=0)) == [
        (
            "absent_class",
            "2 classes cannot be judged, as no validation row has them: bring more rows of small "
            "classes.",
        )
    ]


@pytest.mark.parametrize(("largest", "smallest"), [(4000, 39), (6400, 1600)])
def test_imbalance(largest: int, smallest: int) -> None:
    card = change(make_card(), "balance", largest_rows=largest, smallest_rows=smallest)
    ((kind, text),) = warn(card)
    assert kind == "imbalance"
    assert re.fullmatch(
        r"The largest class \(cat\) has \d+ times the training rows of the smallest \(dog\) and "
        r"[58]0 % of all: judge accuracy class by class, as the overall figure hides the small "
        r"ones\.",
        text,
    )


def test_a_test_split_too_small_to_compare_models() -> None:
    assert warn(change_split(make_card(), "test", rows=100)) == [
        (
            "small_test_split",
            "The test split has 100 rows, so an accuracy of 80 % is known only to ±8 points: bring "
            "more rows before comparing models.",
        )
    ]


def test_leak_names_both_splits() -> None:
    card = make_card()
    leak = LeakCard(
        rows={"word_order": 1, "numbers": 2, "one_word": 27},
        share=0.03,
        rows_compared_for_one_word=900,
        examples=[],
    )
    assert warn(dataclasses.replace(card, leaks={**card.leaks, "test": leak})) == [
        (
            "leak",
            "0 of 1,000 validation texts (0 %) and 30 of 1,000 test texts (3.0 %) equal a training "
            "text but for word order, numbers or one word: accuracy on them is partly memory, so "
            "thin out such templates or report accuracy without them.",
        )
    ]


def test_near_constant_texts() -> None:
    largest = [PatternCard(rows=400, classes=1, examples=[])]
    card = change(make_card(), "patterns", shared=9, rows=900, largest=largest)
    assert warn(card) == [
        (
            "near_constant",
            "900 of 10,000 rows (9.0 %) equal another row but for numbers and word order, the most "
            "frequent pattern 400 times: keep fewer of each, or remove the boilerplate.",
        )
    ]


def test_patterns_of_several_labels() -> None:
    assert warn(change(make_card(), "patterns", disputed_rows=60)) == [
        (
            "disputed_pattern",
            "60 rows (0.60 %) differ from rows of another label only in numbers and word order: "
            "check whether the label can be told from the text.",
        )
    ]


def test_suspect_labels() -> None:
    assert warn(change(make_card(), "label_noise", clear_suspects=100)) == [
        (
            "label_noise",
            "100 of 8,000 training rows (1.2 %) look mislabelled to a linear model that has not "
            "seen them (probabilities 0.7 apart): read the clearest in the data card before "
            "blaming the classifier.",
        )
    ]


@pytest.mark.parametrize(("accuracy", "largest"), [(0.45, 0.4), (0.9, 0.95), (None, 0.4)])
def test_a_model_that_knows_little_is_no_witness_against_labels(
    accuracy: float | None, largest: float
) -> None:
    card = change(make_card(), "label_noise", clear_suspects=100, accuracy=accuracy)
    card = change(card, "balance", largest_rows=int(8000 * largest))
    assert "label_noise" not in dict(warn(card))


def test_one_half_and_a_bit_is_no_imbalance_of_two_classes() -> None:
    card = change(make_card(), "balance", largest_rows=4500, smallest_rows=3500)
    assert warn(card) == []


def test_lowered_vocabulary() -> None:
    assert warn(change(make_card(), "vocabulary", size_wanted=15_000)) == [
        (
            "vocabulary_lowered",
            "The vocabulary has 1,000 pieces instead of the 15,000 asked for, as the training text "
            "carries no more: bring more text, or ask for fewer with --vocab-size.",
        )
    ]


def test_rare_pieces() -> None:
    card = change(make_card(), "vocabulary", used_at_least={"1": 998, "5": 798, "10": 9})
    assert warn(card) == [
        (
            "rare_pieces",
            "200 of 998 pieces (20 %) are used fewer than 5 times in training, too rarely to learn "
            "their embeddings: lower --vocab-size.",
        )
    ]


def test_unknown_pieces_of_the_worst_split() -> None:
    missing = [MissingCharacter(character="日", code_point="U+65E5", name="CJK", count=9)]
    card = change(make_card(), "vocabulary", missing=missing)
    card = change_split(card, "train", unknown_token_share=0.002)
    card = change_split(card, "test", unknown_token_share=0.004, unknown_row_share=0.02)
    assert warn(card) == [
        (
            "unknown_pieces",
            "0.40 % of the test pieces are unknown, in 2.0 % of its texts (most missed: U+65E5): "
            "raise --vocab-size, or clean such characters away.",
        )
    ]


def test_cut_texts() -> None:
    assert warn(change_split(make_card(), "train", cut_share=0.25)) == [
        (
            "cut_texts",
            "25 % of the train texts are cut to 256 tokens: raise --max-tokens (the 99 % quantile "
            "is 6), or accept that their ends are not read.",
        )
    ]


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (0.00001, "<0.01 %"),
        (0.0013, "0.13 %"),
        (0.0131, "1.3 %"),
        (0.0996, "10 %"),
        (0.131, "13 %"),
        (0.9999, ">99.9 %"),
        (1.0, "100 %"),
    ],
)
def test_shares_have_two_digits(share: float, text: str) -> None:
    assert format_share(share) == text
