"""What a run folder knows of its model beyond `run.json`: `evaluation.json`, `data_card.json`.

Both are optional, as runs of earlier versions have neither. They are files of the stage before,
perhaps edited or copied from elsewhere, so each value is checked and both must be of this run: its
data by the fingerprint, its labels by name. What is read is what the card shows and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from export.model_card.checked_json import (
    FieldError,
    take_count,
    take_list,
    take_mapping,
    take_mappings,
    take_number,
    take_share,
    take_text,
)
from pipeline.run_folder import Run, RunError, read_json

EVALUATION_FILE = "evaluation.json"
DATA_CARD_FILE = "data_card.json"
EVIDENCE_FILES = (EVALUATION_FILE, DATA_CARD_FILE)
_SCHEMA_VERSION = 1
_SPLITS = ("train", "validation", "test")
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A share and the ends of its 95 % interval, fractions."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class ClassResult:
    """One class: `support` texts have it; shares are fractions."""

    label: str
    support: int
    predicted: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Texts of like confidence: their number, mean probability and share of right answers."""

    rows: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The test split's part of `evaluation.json`.

    Attributes:
        rows: N.
        k: Of `top_k`.
        top_1: Share of texts whose first answer is right.
        top_k: Share of texts with the right label among the first k.
        macro_f1: Mean over the classes.
        balanced_accuracy: Mean recall.
        nll: Mean negative log-likelihood, natural logarithm.
        brier: Brier score, 0 to 2.
        ece: Expected calibration error.
        bins: Of the ECE, least sure first.
        classes: In id order.
        confusion: (right label id, first answer's id, texts), right answers left out.
    """

    rows: int
    k: int
    top_1: Interval
    top_k: Interval
    macro_f1: float
    balanced_accuracy: float
    nll: float
    brier: float
    ece: float
    bins: tuple[Bin, ...]
    classes: tuple[ClassResult, ...]
    confusion: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, kw_only=True)
class SplitFacts:
    """One split of the data: lengths in tokens, shares as fractions."""

    rows: int
    classes: int
    median_tokens: int
    longest_tokens: int
    cut_share: float
    unknown_token_share: float
    words_seen_share: float


@dataclass(frozen=True, kw_only=True)
class ClassRows:
    """Rows of one class by split."""

    label: str
    rows: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """What of `data_card.json` the model card tells.

    Attributes:
        read: Rows of the source.
        kept: Rows that are in the splits.
        duplicates_merged: Rows that repeated a text.
        conflicting_rows_dropped: Rows whose text more often had another label.
        rejected: Rows that could not be used, by reason.
        splits: By name.
        leaks: Near duplicates of training texts, by held-out split and kind.
        leak_shares: The same as a fraction of the split.
        classes: Most rows first; not all where there are more than 200.
        warnings: Sentences.
    """

    read: int
    kept: int
    duplicates_merged: int
    conflicting_rows_dropped: int
    rejected: Mapping[str, int]
    splits: Mapping[str, SplitFacts]
    leaks: Mapping[str, Mapping[str, int]]
    leak_shares: Mapping[str, float]
    classes: tuple[ClassRows, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a run keeps; None what it does not."""

    evaluation: Evaluation | None
    data: DataFacts | None


def read_evidence(run: Run) -> Evidence:
    """Read what a run folder keeps of its evaluation and its data.

    Raises:
        RunError: A file is too large, damaged, of a newer schema, or of another run.
    """
    return Evidence(
        evaluation=_read(
            run,
            EVALUATION_FILE,
            _read_evaluation,
            "Write it again with `python -m pipeline evaluate --force`.",
        ),
        data=_read(
            run,
            DATA_CARD_FILE,
            _read_data,
            "Delete it and call `make train` again, which keeps a new copy.",
        ),
    )


def _read(
    run: Run, name: str, parse: Callable[[Run, Mapping[str, Any]], _T], remedy: str
) -> _T | None:
    path = run.folder / name
    if not path.is_file():
        return None
    try:
        fields = _parse_object(path)
        version = fields.get("schema_version")
        if version != _SCHEMA_VERSION:
            raise FieldError("schema_version", str(_SCHEMA_VERSION), version)
        fingerprint = take_text(fields, "fingerprint", "")
        if fingerprint != run.data.get("fingerprint"):
            expected = f"that of the run's data, {run.data.get('fingerprint')!r}"
            raise FieldError("fingerprint", expected, fingerprint)
        return parse(run, fields)
    except FieldError as err:
        raise RunError(f"{path}: {err}. {remedy}") from err


def _parse_object(path: Path) -> Mapping[str, Any]:
    try:
        fields = read_json(path)
    except RecursionError as err:
        raise RunError(f"{path}: expected JSON of a few levels, found thousands.") from err
    if not isinstance(fields, dict):
        raise FieldError("content", "an object", fields)
    return fields


def _read_evaluation(run: Run, fields: Mapping[str, Any]) -> Evaluation:
    test = take_mapping(take_mapping(fields, "splits", ""), "test", "splits.")
    where = "splits.test."
    classes = tuple(
        ClassResult(
            label=take_text(one, "label", place),
            support=take_count(one, "support", place),
            predicted=take_count(one, "predicted", place),
            precision=take_share(one, "precision", place),
            recall=take_share(one, "recall", place),
            f1=take_share(one, "f1", place),
        )
        for one, place in take_mappings(test, "classes", where)
    )
    labels = tuple(one.label for one in classes)
    if labels != run.labels:
        raise FieldError(f"{where}classes", f"the {len(run.labels)} labels of the run", labels)
    rows = take_count(test, "rows", where)
    if sum(one.support for one in classes) != rows:
        raise FieldError(f"{where}rows", "the sum of the classes' support", rows)
    return Evaluation(
        rows=rows,
        k=take_count(test, "k", where),
        top_1=_read_interval(test, "top_1", where),
        top_k=_read_interval(test, "top_k", where),
        macro_f1=take_share(test, "macro_f1", where),
        balanced_accuracy=take_share(test, "balanced_accuracy", where),
        nll=take_number(test, "nll", where),
        brier=take_number(test, "brier", where),
        ece=take_share(test, "ece", where),
        bins=tuple(
            Bin(
                rows=take_count(one, "rows", place),
                confidence=take_share(one, "confidence", place),
                accuracy=take_share(one, "accuracy", place),
            )
            for one, place in take_mappings(test, "bins", where)
        ),
        classes=classes,
        confusion=_read_confusion(test, where, classes),
    )


def _read_interval(fields: Mapping[str, Any], key: str, where: str) -> Interval:
    one, place = take_mapping(fields, key, where), f"{where}{key}."
    interval = Interval(**{end: take_share(one, end, place) for end in ("value", "low", "high")})
    if not interval.low <= interval.value <= interval.high:
        raise FieldError(f"{where}{key}", "low <= value <= high", dict(one))
    return interval


def _read_confusion(
    fields: Mapping[str, Any], where: str, classes: tuple[ClassResult, ...]
) -> tuple[tuple[int, int, int], ...]:
    cells = []
    for index, cell in enumerate(take_list(fields, "confusion", where)):
        is_cell = isinstance(cell, list) and len(cell) == 3
        if (
            not is_cell
            or not all(type(number) is int and number >= 0 for number in cell)
            or max(cell[:2]) >= len(classes)
            or not 1 <= cell[2] <= classes[cell[0]].support
        ):
            expected = "[label id, label id, texts]"
            raise FieldError(f"{where}confusion[{index}]", expected, cell)
        if cell[0] != cell[1]:
            cells.append((cell[0], cell[1], cell[2]))
    return tuple(cells)


def _read_data(run: Run, fields: Mapping[str, Any]) -> DataFacts:
    rows, splits = take_mapping(fields, "rows", ""), take_mapping(fields, "splits", "")
    leaks = take_mapping(fields, "leaks", "")
    held_out = [name for name in _SPLITS if name in leaks]
    kinds = {
        name: take_mapping(take_mapping(leaks, name, "leaks."), "rows", f"leaks.{name}.")
        for name in held_out
    }
    return DataFacts(
        read=take_count(rows, "read", "rows."),
        kept=take_count(rows, "kept", "rows."),
        duplicates_merged=take_count(rows, "duplicates_merged", "rows."),
        conflicting_rows_dropped=take_count(rows, "conflicting_rows_dropped", "rows."),
        rejected={
            take_text(one, "reason", place): take_count(one, "rows", place)
            for one, place in take_mappings(rows, "rejected", "rows.")
        },
        splits={name: _read_split(splits, name) for name in _SPLITS},
        leaks={
            name: {kind: take_count(kinds[name], kind, f"leaks.{name}.rows.") for kind in found}
            for name, found in kinds.items()
        },
        leak_shares={name: take_share(leaks[name], "share", f"leaks.{name}.") for name in held_out},
        classes=tuple(
            ClassRows(
                label=take_text(one, "label", place),
                rows={
                    name: take_count(take_mapping(one, "rows", place), name, f"{place}rows.")
                    for name in _SPLITS
                },
            )
            for one, place in take_mappings(fields, "classes", "")
        ),
        warnings=tuple(
            take_text(one, "text", place) for one, place in take_mappings(fields, "warnings", "")
        ),
    )


def _read_split(splits: Mapping[str, Any], name: str) -> SplitFacts:
    one, where = take_mapping(splits, name, "splits."), f"splits.{name}."
    tokens = take_mapping(one, "tokens", where)
    quantiles = take_mapping(tokens, "quantiles", f"{where}tokens.")
    return SplitFacts(
        rows=take_count(one, "rows", where),
        classes=take_count(one, "classes", where),
        median_tokens=take_count(quantiles, "p50", f"{where}tokens.quantiles."),
        longest_tokens=take_count(tokens, "max", f"{where}tokens."),
        cut_share=take_share(one, "cut_share", where),
        unknown_token_share=take_share(one, "unknown_token_share", where),
        words_seen_share=take_share(one, "words_seen_share", where),
    )
