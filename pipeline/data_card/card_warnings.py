"""What a data engineer should act upon: each warning is one sentence, a number and what to do."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from pipeline.config import FilterConfig
from pipeline.data_card.fields import DataCard, DataWarning
from pipeline.data_card.measure import CLEAR_MARGIN, SMALL_CLASS

MIN_TEST_ROWS = 1000
"""Of 1,000 rows an accuracy of 80 % is known to 2.5 points; of 100, to 8."""
MAX_REJECT_SHARE = 0.01
MAX_DUPLICATE_SHARE = 0.1
MAX_CONFLICT_SHARE = 0.002
MAX_LEAK_SHARE = 0.01
MAX_NOISE_SHARE = 0.01
MIN_WITNESS_ACCURACY = 0.5
MAX_PATTERN_SHARE = 0.05
MAX_DISPUTED_SHARE = 0.005
MAX_UNKNOWN_TOKEN_SHARE = 0.001
MAX_CUT_SHARE = 0.01
MAX_CLASS_RATIO = 100
MAX_LARGEST_SHARE = 0.5
MAX_RARE_SHARE = 0.1
"""Pieces used fewer than five times in training: so many of the vocabulary are no matter."""
_ASKED_FOR = {field.name for field in dataclasses.fields(FilterConfig)} | {"label_dropped"}
"""Reasons that the user's own filters and label map give."""
_NAMED = 5


def format_share(share: float) -> str:
    """Return a share in per cent, to two digits: `0.13 %`, `1.3 %`, `13 %`, `<0.01 %`."""
    percent = 100 * share
    if 0 < percent < 0.01:
        return "<0.01 %"
    if 99.9 < percent < 100:
        return ">99.9 %"
    places = 0 if percent >= 9.95 or percent == 0 else 1 if percent >= 0.995 else 2
    return f"{percent:.{places}f} %"


def _count(number: int, noun: str) -> str:
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + ("es" if noun[-1] == "s" else "s")
    return f"{number:,} {noun if number == 1 else plural}"


def _name(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _warn_rows(card: DataCard) -> Iterator[tuple[str, str]]:
    rows = card.rows
    faults = [reason for reason in rows.rejected if reason.reason not in _ASKED_FOR]
    rejected = sum(reason.rows for reason in faults)
    if rejected > MAX_REJECT_SHARE * rows.read:
        most = faults[0]
        reason = most.reason.replace("_", " ")
        yield (
            "rejects",
            f"{rejected:,} of {_count(rows.read, 'row')} ({format_share(rejected / rows.read)}) "
            f"could not be used, {most.rows:,} of them for {reason}: look at "
            "their samples in rejects.jsonl and mend the source.",
        )
    if rows.duplicates_merged > MAX_DUPLICATE_SHARE * rows.read:
        yield (
            "duplicates",
            f"{rows.duplicates_merged:,} of {_count(rows.read, 'row')} "
            f"({format_share(rows.duplicates_merged / rows.read)}) repeat a text and were merged: "
            "if the repeats are real traffic, accuracy by row will differ from accuracy here.",
        )
    if rows.conflicting_rows_dropped > MAX_CONFLICT_SHARE * rows.read:
        yield (
            "conflicts",
            f"{_count(rows.conflicting_texts, 'text')} came with several labels, and "
            f"{_count(rows.conflicting_rows_dropped, 'row')} lost to the more frequent one: "
            "decide which label is right, or merge the labels.",
        )


def _warn_classes(card: DataCard) -> Iterator[tuple[str, str]]:
    balance = card.balance
    small = sorted(
        (one for one in card.classes if 0 < one.rows["train"] < SMALL_CLASS),
        key=lambda one: (one.rows["train"], one.label),
    )
    absent = [one.label for one in card.classes if not one.rows["train"]]
    below = balance.under_50_rows - (card.num_classes - card.splits["train"].classes)
    if below:
        named = _name([f"{one.label} {one.rows['train']}" for one in small])
        yield (
            "small_class",
            f"{below:,} of {_count(card.num_classes, 'class')} "
            f"{'has' if below == 1 else 'have'} fewer than {SMALL_CLASS} training rows ({named}): "
            "bring more rows of them, or merge them into related classes.",
        )
    for split, described in card.splits.items():
        missing = card.num_classes - described.classes
        if not missing:
            continue
        if split == "train":
            named = f" ({_name(absent)})" if absent else ""
            yield (
                "absent_class",
                f"{_count(missing, 'class')}{named} cannot be learned, as no training row has "
                f"{'it' if missing == 1 else 'them'}: bring more rows, or drop the class.",
            )
        else:
            yield (
                "absent_class",
                f"{_count(missing, 'class')} cannot be judged, as no {split} row has "
                f"{'it' if missing == 1 else 'them'}: bring more rows of small classes.",
            )
    ratio = balance.largest_rows / balance.smallest_rows
    share = balance.largest_rows / card.splits["train"].rows
    # Of two classes one has more than half of the rows, and that is no imbalance.
    if ratio > MAX_CLASS_RATIO or share > max(MAX_LARGEST_SHARE, 1.5 / card.num_classes):
        yield (
            "imbalance",
            f"The largest class ({balance.largest_label}) has {ratio:,.0f} times the training "
            f"rows of the smallest ({balance.smallest_label}) and {format_share(share)} of all: "
            "judge accuracy class by class, as the overall figure hides the small ones.",
        )
    test_rows = card.splits["test"].rows
    if test_rows < MIN_TEST_ROWS:
        points = 196 * (0.8 * 0.2 / test_rows) ** 0.5
        yield (
            "small_test_split",
            f"The test split has {_count(test_rows, 'row')}, so an accuracy of 80 % is known only "
            f"to ±{points:.0f} points: bring more rows before comparing models.",
        )


def _warn_repeats(card: DataCard) -> Iterator[tuple[str, str]]:
    total = sum(split.rows for split in card.splits.values())
    if max(leak.share for leak in card.leaks.values()) > MAX_LEAK_SHARE:
        found = " and ".join(
            f"{sum(leak.rows.values()):,} of {_count(card.splits[split].rows, f'{split} text')} "
            f"({format_share(leak.share)})"
            for split, leak in card.leaks.items()
        )
        yield (
            "leak",
            f"{found} equal a training text but for word order, numbers or one word: accuracy on "
            "them is partly memory, so thin out such templates or report accuracy without them.",
        )
    patterns = card.patterns
    if patterns.rows > MAX_PATTERN_SHARE * total:
        yield (
            "near_constant",
            f"{patterns.rows:,} of {_count(total, 'row')} ({format_share(patterns.rows / total)}) "
            "equal another row but for numbers and word order, the most frequent pattern "
            f"{patterns.largest[0].rows:,} times: keep fewer of each, or remove the boilerplate.",
        )
    if patterns.disputed_rows > MAX_DISPUTED_SHARE * total:
        yield (
            "disputed_pattern",
            f"{patterns.disputed_rows:,} rows ({format_share(patterns.disputed_rows / total)}) "
            "differ from rows of another label only in numbers and word order: check whether the "
            "label can be told from the text.",
        )
    noise = card.label_noise
    largest = card.balance.largest_rows / card.splits["train"].rows
    # A model that knows less than the largest class does is no witness against a label.
    is_witness = noise.accuracy is not None and noise.accuracy > max(MIN_WITNESS_ACCURACY, largest)
    if is_witness and noise.clear_suspects > MAX_NOISE_SHARE * noise.rows:
        yield (
            "label_noise",
            f"{noise.clear_suspects:,} of {_count(noise.rows, 'training row')} "
            f"({format_share(noise.clear_suspects / noise.rows)}) look mislabelled to a linear "
            f"model that has not seen them (probabilities {CLEAR_MARGIN} apart): read the "
            "clearest in the data card before blaming the classifier.",
        )


def _warn_vocabulary(card: DataCard) -> Iterator[tuple[str, str]]:
    vocabulary = card.vocabulary
    if vocabulary.size < vocabulary.size_wanted:
        yield (
            "vocabulary_lowered",
            f"The vocabulary has {vocabulary.size:,} pieces instead of the "
            f"{vocabulary.size_wanted:,} asked for, as the training text carries no more: bring "
            "more text, or ask for fewer with --vocab-size.",
        )
    rare = vocabulary.pieces - vocabulary.used_at_least["5"]
    if rare > MAX_RARE_SHARE * vocabulary.pieces:
        yield (
            "rare_pieces",
            f"{rare:,} of {_count(vocabulary.pieces, 'piece')} "
            f"({format_share(rare / vocabulary.pieces)}) are used fewer than 5 times in training, "
            "too rarely to learn their embeddings: lower --vocab-size.",
        )
    name, split = max(card.splits.items(), key=lambda item: item[1].unknown_token_share)
    if split.unknown_token_share > MAX_UNKNOWN_TOKEN_SHARE:
        characters = " ".join(missing.code_point for missing in vocabulary.missing[:_NAMED])
        yield (
            "unknown_pieces",
            f"{format_share(split.unknown_token_share)} of the {name} pieces are unknown, in "
            f"{format_share(split.unknown_row_share)} of its texts (most missed: {characters}): "
            "raise --vocab-size, or clean such characters away.",
        )
    name, split = max(card.splits.items(), key=lambda item: item[1].cut_share)
    if split.cut_share > MAX_CUT_SHARE:
        yield (
            "cut_texts",
            f"{format_share(split.cut_share)} of the {name} texts are cut to "
            f"{card.max_tokens:,} tokens: raise --max-tokens (the 99 % quantile is "
            f"{split.tokens.quantiles['p99']:,}), or accept that their ends are not read.",
        )


_RULES: tuple[Callable[[DataCard], Iterator[tuple[str, str]]], ...] = (
    _warn_rows,
    _warn_classes,
    _warn_repeats,
    _warn_vocabulary,
)


def find_warnings(card: DataCard) -> list[DataWarning]:
    """Return what to act upon, in the order of the card's sections."""
    return [DataWarning(kind=kind, text=text) for rule in _RULES for kind, text in rule(card)]
