"""The card's sections on quality: intervals, classes, confusions, calibration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from export.model_card.evidence import Evaluation, Interval
from export.model_card.forms import wrap
from export.model_card.markdown import escape_text, fold, format_code, format_share, format_table
from pipeline.run_folder import Run, RunError, describe_calibration

MAX_CLASSES = 200
MAX_CONFUSIONS = 10
MAX_MISSED = 20
_NOT_KEPT = (
    "Intervals, results by class and confusions are not kept by this run: `python -m pipeline "
    "evaluate` measures a finished run; then export again."
)
_MAX_SHIFT = 0.001
"""Share of the texts that two computations of one model may answer otherwise: near-ties."""


def check_same_model(run: Run, evaluation: Evaluation, replayed: Mapping[str, Any]) -> None:
    """Check that an evaluation is of the model that was exported.

    Args:
        run: Where it was found.
        evaluation: It.
        replayed: The manifest's `metrics.replayed`.

    Raises:
        RunError: It has other texts, or another accuracy.
    """
    rows, found = replayed["rows"], replayed["keras"]["top_1"]
    allowed = max(1.5 / rows, _MAX_SHIFT)
    if evaluation.rows != rows or abs(evaluation.top_1.value - found) > allowed:
        raise RunError(
            f"{run.folder}/evaluation.json: expected {found:.2%} of {rows:,} test texts right, as "
            f"the exported model has, found {evaluation.top_1.value:.2%} of {evaluation.rows:,}. "
            "Write it again with `python -m pipeline evaluate --force`."
        )


def format_results(run: Run, evaluation: Evaluation | None) -> str:
    """Return the measures of the trained model on the test split."""
    if evaluation is None:
        return wrap(_NOT_KEPT)
    rows = [
        ("top-1 accuracy", _format_interval(evaluation.top_1)),
        (f"top-{evaluation.k} accuracy", _format_interval(evaluation.top_k)),
        ("macro F1", format_share(evaluation.macro_f1)),
        ("balanced accuracy", format_share(evaluation.balanced_accuracy)),
        ("negative log-likelihood", f"{evaluation.nll:.4f}"),
        ("Brier score (0 to 2)", f"{evaluation.brier:.4f}"),
        ("expected calibration error", format_share(evaluation.ece)),
    ]
    parts = [
        format_table(("measure", "test split [95 % interval]"), rows),
        wrap(
            "Intervals are percentiles of 10,000 bootstrap draws of the texts: how much a figure "
            "would move with other texts of the same kind, not with another training. Macro F1 "
            "and balanced accuracy give every class the same weight."
        ),
        _format_missed(evaluation),
        _fold_classes(evaluation),
        _format_confusions(run, evaluation),
    ]
    return "\n\n".join(part for part in parts if part)


def _format_missed(evaluation: Evaluation) -> str:
    """Name the classes that the model never finds, which a mean hides."""
    missed = [one for one in evaluation.classes if one.support and not one.recall]
    if not missed:
        return ""
    named = ", ".join(format_code(one.label) for one in missed[:MAX_MISSED])
    more = f" and {len(missed) - MAX_MISSED:,} more" if len(missed) > MAX_MISSED else ""
    rows = sum(one.support for one in missed)
    return (
        f"**{len(missed):,} of {len(evaluation.classes):,} classes, with {rows:,} texts, never get "
        f"their label:**\n{named}{more}."
    )


def _format_interval(interval: Interval) -> str:
    return f"{interval.value:.2%} [{interval.low:.2%}, {interval.high:.2%}]"


def _fold_classes(evaluation: Evaluation) -> str:
    weakest = sorted(
        evaluation.classes, key=lambda one: (not one.support, one.f1, -one.support, one.label)
    )
    rows = [
        (
            format_code(one.label),
            format_share(one.precision) if one.predicted else "-",
            format_share(one.recall) if one.support else "-",
            format_share(one.f1) if one.support else "-",
            f"{one.support:,}",
        )
        for one in weakest[:MAX_CLASSES]
    ]
    count = len(evaluation.classes)
    which = f"{count:,} classes" if count <= MAX_CLASSES else f"{MAX_CLASSES} weakest classes"
    return fold(
        f"Results of the {which}, weakest first",
        format_table(("label", "precision", "recall", "F1", "texts"), rows),
    )


def _format_confusions(run: Run, evaluation: Evaluation) -> str:
    most = sorted(evaluation.confusion, key=lambda cell: (-cell[2], cell))[:MAX_CONFUSIONS]
    if not most:
        return "No text of the test split got a wrong first label."
    rows = [
        (
            format_code(run.labels[right]),
            format_code(run.labels[answer]),
            f"{count:,}",
            format_share(count / evaluation.classes[right].support),
        )
        for right, answer, count in most
    ]
    return "Most frequent confusions:\n\n" + format_table(
        ("right label", "first answer", "texts", "of the label"), rows
    )


def format_calibration(run: Run, evaluation: Evaluation | None) -> str:
    """Return what the probabilities mean."""
    parts = [wrap(escape_text(describe_calibration(run.calibration)))]
    if evaluation is None:
        return parts[0]
    parts.append(
        wrap(
            "If a probability is right, then of the answers given with 0.7 seven in ten are right. "
            f"On the test split the two lie {format_share(evaluation.ece)} apart on average (the "
            "expected calibration error, over bins of equally many texts). That holds for texts "
            "like these; on others a probability can be far off."
        )
    )
    rows = [
        (f"{one.rows:,}", format_share(one.confidence), format_share(one.accuracy))
        for one in evaluation.bins
    ]
    table = format_table(("texts", "mean probability of the answer", "answers right"), rows)
    parts.append(fold("Probability and accuracy, least sure texts first", table))
    return "\n\n".join(parts)
