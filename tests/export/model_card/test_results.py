from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from export.model_card.evidence import Evaluation, read_evidence
from export.model_card.results import check_same_model, format_calibration, format_results
from pipeline.run_folder import Run, RunError, describe_calibration
from tests.export.model_card.samples import HOSTILE, ROWS, make_fields, make_run, write_evidence


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = make_run(tmp_path / "run")
    write_evidence(run)
    return run


def read_evaluation(run: Run) -> Evaluation:
    evaluation = read_evidence(run).evaluation
    assert evaluation is not None
    return evaluation


def test_the_results_have_intervals_and_classes_weakest_first(run: Run) -> None:
    evaluation = read_evaluation(run)
    text = format_results(run, evaluation)
    top_1 = evaluation.top_1
    assert f"\n| top-1 accuracy | {top_1.value:.2%} [{top_1.low:.2%}, {top_1.high:.2%}] |" in text
    assert "\n| top-2 accuracy | " in text
    assert f"\n| macro F1 | {evaluation.macro_f1:.2%} |" in text
    # Its texts get other labels, and no text gets this one.
    first = text.split("| label | precision | recall | F1 | texts |\n|---|---|---|---|---|\n")[1]
    assert first.startswith("| `time` | - | 0.00% | 0.00% | 80 |\n")
    assert "**1 of 5 classes, with 80 texts, never get their label:**\n`time`." in text
    shares = [one.f1 for one in sorted(evaluation.classes, key=lambda one: one.f1)]
    found = [line.split(" | ")[3] for line in first.splitlines()[:5]]
    assert found == [f"{share:.2%}" for share in shares]


def test_the_most_frequent_confusions_come_first(run: Run) -> None:
    text = format_results(run, read_evaluation(run))
    rows = text.split("Most frequent confusions:")[1].splitlines()[4:]
    counts = [int(row.split(" | ")[2]) for row in rows]
    assert len(counts) == 10
    assert counts == sorted(counts, reverse=True)


def test_a_perfect_model_has_no_confusions(run: Run) -> None:
    evaluation = read_evaluation(run)
    perfect = dataclasses.replace(
        evaluation,
        confusion=(),
        classes=tuple(dataclasses.replace(one, recall=1.0) for one in evaluation.classes),
    )
    text = format_results(run, perfect)
    assert text.endswith("No text of the test split got a wrong first label.")
    assert "never get their label" not in text


def test_a_class_without_a_test_text_comes_last_and_has_no_recall(run: Run) -> None:
    evaluation = read_evaluation(run)
    absent = dataclasses.replace(evaluation.classes[0], support=0, predicted=0, recall=0.0, f1=0.0)
    text = format_results(
        run,
        dataclasses.replace(evaluation, classes=(absent, *evaluation.classes[1:]), confusion=()),
    )
    assert "| `animal` | - | - | - | 0 |\n\n</details>" in text


def test_a_run_without_evaluation_says_so(run: Run) -> None:
    text = " ".join(format_results(run, None).split())
    assert text.startswith("Intervals, results by class and confusions are not kept by this run:")
    assert "`python -m pipeline evaluate`" in text


def test_hostile_labels_stand_as_themselves(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", labels=HOSTILE)
    write_evidence(run)
    text = format_results(run, read_evaluation(run))
    assert "<img" not in text and "\u202e" not in text and "a|b" not in text
    rows = [line for line in text.splitlines() if line.startswith("| <code>")]
    assert {row.replace("&#124;", "").count("|") for row in rows} == {5, 6}


def test_the_calibration_is_told_with_its_bins(run: Run) -> None:
    evaluation = read_evaluation(run)
    text = format_calibration(run, evaluation)
    flat = " ".join(text.split())
    assert flat.startswith(describe_calibration(run.calibration))
    assert f"On the test split the two lie {evaluation.ece:.2%} apart on average" in flat
    one = evaluation.bins[0]
    assert f"\n| {one.rows} | {one.confidence:.2%} | {one.accuracy:.2%} |\n" in text


def test_a_run_without_calibration_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", calibration={})
    assert format_calibration(run, None) == (
        "The probabilities are those of the training objective; they are not calibrated."
    )


def test_an_evaluation_of_another_model_is_refused(run: Run) -> None:
    evaluation = read_evaluation(run)
    replayed = make_fields(run)["metrics"]["replayed"]
    check_same_model(run, evaluation, replayed)
    replayed["keras"]["top_1"] += 1 / ROWS  # a near-tie
    check_same_model(run, evaluation, replayed)
    replayed["keras"]["top_1"] = 0.99
    with pytest.raises(
        RunError,
        match=r"evaluation\.json: expected 99\.00% of 400 test texts right, as the exported model "
        r"has, found \d+\.\d+% of 400\. Write it again with `python -m pipeline evaluate --force`",
    ):
        check_same_model(run, evaluation, replayed)
    with pytest.raises(RunError, match=r"of 3 test texts right, .* of 400\."):
        check_same_model(run, evaluation, {**replayed, "rows": 3})
