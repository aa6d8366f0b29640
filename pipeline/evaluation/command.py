"""`python -m pipeline evaluate`: one run in full, or two models against each other."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from pipeline.baselines.store import BASELINE_NAMES
from pipeline.data_folder import PreparedData, read_prepared
from pipeline.data_options import build_root
from pipeline.evaluation.bootstrap import Interval
from pipeline.evaluation.compare import Comparison, compare_predictions
from pipeline.evaluation.fields import RunEvaluation
from pipeline.evaluation.files import PREDICTIONS_FILE, read_evaluation, write_evaluation
from pipeline.evaluation.page import format_interval, format_percent, list_confusions
from pipeline.evaluation.predictions import Predictions, read_predictions
from pipeline.run_folder import (
    Run,
    RunError,
    describe_calibration,
    find_run,
    import_tensorflow,
    load_model,
    read_run,
)
from pipeline.tables.source import DataError

_SHOWN = 5
"""Weakest classes and most frequent confusions that are printed; the page has the others."""


@click.command("evaluate")
@click.argument("run", required=False)
@click.argument("other", required=False)
@click.option("--force", is_flag=True, help="Measure again what was measured already.")
def evaluate_command(run: str | None, other: str | None, force: bool) -> None:
    """Measure RUN (default: the newest) class by class; with OTHER, compare the two.

    Writes evaluation.json and .html, confusion.svg, reliability.svg and test_predictions.npz into
    the run's folder; `train` has done so already for runs of this version. OTHER is another run of
    the same data, or a baseline: svm or fasttext.

    \b
    Example:
      python -m pipeline evaluate
      python -m pipeline evaluate wordnet31-48499694 svm
    """  # noqa: D301  (click wants the character \b)
    console = Console()
    root = build_root()
    first = read_run(find_run(root / "runs", run))
    if other is None:
        evaluation = _evaluate(first, console, force=force)
        _print_evaluation(first, evaluation, console)
        return
    labels = np.array([label for _, label in first.read_test_split()], np.int64)
    compared = compare_predictions(
        _take_predictions(first, console, force=force),
        _find_predictions(other, first, console, force=force),
        labels,
        names=(first.name, other),
        k=int(first.training.get("num_predict", 3)),
    )
    _print_comparison((first.name, other), compared, len(labels), console)


def find_data(run: Run, folder: Path) -> PreparedData | None:
    """Return the data that a run was trained on, if it still lies under `folder`."""
    for path in sorted(folder.glob("*/data.json")):
        try:
            data = read_prepared(path.parent)
        except DataError:
            continue
        if data.fingerprint == run.data.get("fingerprint"):
            return data
    return None


def _evaluate(run: Run, console: Console, *, force: bool) -> RunEvaluation:
    """Return a run's evaluation, and measure it where there is none."""
    found = None if force else read_evaluation(run.folder)
    if found is not None:
        return found
    import_tensorflow()
    from pipeline.evaluation.evaluate import (
        Rows,
        evaluate_splits,
        make_predictions,
        score_splits,
    )

    texts, labels = zip(*run.read_test_split(), strict=True)
    splits: dict[str, Rows] = {"test": (texts, labels)}
    data = find_data(run, build_root() / "data")
    if data is not None:
        splits = {"validation": data.validation.read_rows(), **splits}
    rows = sum(len(texts) for texts, _ in splits.values())
    with console.status(f"Scoring {rows:,} texts of {' and '.join(splits)}"):
        scored = score_splits(
            load_model(run), splits, tokenizer_path=run.tokenizer_path, max_tokens=run.max_tokens
        )
        evaluation = evaluate_splits(
            scored,
            run=run.name,
            fingerprint=str(run.data["fingerprint"]),
            label_names=run.labels,
            k=int(run.training.get("num_predict", 3)),
            calibration=run.calibration,
        )
        predictions = make_predictions(scored["test"], evaluation)
        write_evaluation(run.folder, evaluation, predictions)
    return evaluation


def _take_predictions(run: Run, console: Console, *, force: bool) -> Predictions:
    path = run.folder / PREDICTIONS_FILE
    if force or not path.is_file():
        _evaluate(run, console, force=True)
    return read_predictions(path)


def _find_predictions(name: str, beside: Run, console: Console, *, force: bool) -> Predictions:
    """Return the predictions of a run, or of a baseline on the data of `beside`."""
    root = build_root()
    if name not in BASELINE_NAMES:
        return _take_predictions(read_run(find_run(root / "runs", name)), console, force=force)
    data = find_data(beside, root / "data")
    if data is None:
        raise RunError(
            f"{root / 'data'}: expected the data of {beside.name}, fingerprint "
            f"{str(beside.data.get('fingerprint'))[:12]}, found none. Prepare it with `make data`."
        )
    path = data.folder.with_name(f"{data.folder.name}.baselines") / name / "predictions.npz"
    if not path.is_file():
        raise RunError(
            f"{path}: no such file. Measure the baseline with `python -m pipeline baseline "
            f"--kind {name}`."
        )
    return read_predictions(path)


def _print_evaluation(run: Run, evaluation: RunEvaluation, console: Console) -> None:
    splits = evaluation.splits
    table = Table("", *splits, title=run.name, title_justify="left", box=SIMPLE)
    test = splits["test"]
    table.add_row("texts", *(f"{split.rows:,}" for split in splits.values()))
    table.add_row("top-1", *(format_interval(split.top_1) for split in splits.values()))
    table.add_row(f"top-{test.k}", *(format_interval(split.top_k) for split in splits.values()))
    table.add_row("macro F1", *(format_percent(split.macro_f1) for split in splits.values()))
    table.add_row("log-likelihood", *(f"{-split.nll:.4f}" for split in splits.values()))
    table.add_row("Brier score", *(f"{split.brier:.4f}" for split in splits.values()))
    table.add_row("calibration error", *(format_percent(split.ece) for split in splits.values()))
    console.print(table)
    classes = Table("weakest classes", "texts", "precision", "recall", "F1", box=SIMPLE)
    known = sorted(
        (one for one in test.classes if one.support), key=lambda one: (one.f1, one.label)
    )
    for one in known[:_SHOWN]:
        shares = (one.precision, one.recall, one.f1)
        classes.add_row(one.label, f"{one.support:,}", *map(format_percent, shares))
    console.print(classes)
    confusions = Table("taken most often", "for", "texts", "of the label", box=SIMPLE)
    for right, answer, count, share in list_confusions(test)[:_SHOWN]:
        confusions.add_row(right, answer, f"{count:,}", format_percent(share))
    console.print(confusions)
    console.print(describe_calibration(evaluation.calibration), highlight=False, soft_wrap=True)
    console.print(f"{run.folder / 'evaluation.html'}", highlight=False, soft_wrap=True)


def _print_comparison(
    names: tuple[str, str], compared: tuple[Comparison, ...], rows: int, console: Console
) -> None:
    title = f"{names[0]} against {names[1]}, {rows:,} test texts"
    table = Table(
        "", *names, "difference", "95 % interval", title=title, title_justify="left", box=SIMPLE
    )
    for one in compared:
        low, high = 100 * one.difference.low, 100 * one.difference.high
        table.add_row(
            f"top-{one.k}",
            format_percent(one.first),
            format_percent(one.second),
            f"{100 * one.difference.value:+.2f} points",
            f"[{low:+.2f}, {high:+.2f}]",
        )
    console.print(table)
    for one in compared:
        console.print(
            f"top-{one.k}: {describe_difference(one.difference, names)} Only {names[0]} is right "
            f"on {one.only_first:,} texts, only {names[1]} on {one.only_second:,}.",
            highlight=False,
            soft_wrap=True,
        )


def describe_difference(difference: Interval, names: tuple[str, str]) -> str:
    """Return in a sentence which is better; neither, where the interval holds 0."""
    if not difference.excludes_zero:
        return "no difference is shown: the interval holds 0."
    better = names[0] if difference.value > 0 else names[1]
    return f"{better} is better."
