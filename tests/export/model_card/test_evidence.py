from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from export.model_card.evidence import read_evidence
from pipeline.run_folder import Run, RunError
from tests.export.model_card.samples import (
    ROWS,
    make_data_card,
    make_evaluation,
    make_run,
    write_evidence,
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = make_run(tmp_path / "run")
    write_evidence(run)
    return run


def test_what_the_pipeline_writes_is_read(run: Run) -> None:
    evidence = read_evidence(run)
    expected = make_evaluation(run).splits["test"]
    found = evidence.evaluation
    assert found is not None
    assert (found.rows, found.k, found.nll, found.ece) == (ROWS, 2, expected.nll, expected.ece)
    assert found.top_1.low == expected.top_1.low
    assert found.macro_f1 == expected.macro_f1
    assert [one.f1 for one in found.classes] == [one.f1 for one in expected.classes]
    assert all(right != answer for right, answer, _ in found.confusion)
    assert len(found.bins) == 15
    data = evidence.data
    assert data is not None
    card = make_data_card(run)
    assert (data.kept, data.rejected) == (10_000, {"empty_text": 3})
    assert data.leaks["test"] == card["leaks"]["test"]["rows"]
    assert [one.label for one in data.classes] == list(run.labels)
    assert data.warnings == ("Bring more of animal.",)
    assert data.splits["train"].longest_tokens == 7


def test_an_older_run_keeps_neither(tmp_path: Path) -> None:
    evidence = read_evidence(make_run(tmp_path / "run"))
    assert (evidence.evaluation, evidence.data) == (None, None)


def change(path: Path, edit: Callable[[Any], None]) -> None:
    fields = json.loads(path.read_text())
    edit(fields)
    path.write_text(json.dumps(fields))


EVALUATION_EDITS: list[tuple[Callable[[Any], Any], str]] = [
    (lambda f: f.update(schema_version=2), r"schema_version: expected 1, found 2\."),
    (lambda f: f.update(fingerprint="x"), r"fingerprint: expected that of the run's data, '0123"),
    (lambda f: f.pop("splits"), r"splits: expected an object, found None"),
    (lambda f: f["splits"].pop("test"), r"splits\.test: expected an object, found None"),
    (lambda f: f["splits"]["test"].update(rows=-3), r"splits\.test\.rows: expected a whole n"),
    (lambda f: f["splits"]["test"].update(rows=3), r"rows: expected the sum of the classes' sup"),
    (lambda f: f["splits"]["test"].update(nll="a"), r"nll: expected a number from 0, found 'a'"),
    (
        lambda f: f["splits"]["test"]["top_1"].update(low=0.999),
        r"splits\.test\.top_1: expected low <= value <= high, found",
    ),
    (
        lambda f: f["splits"]["test"]["classes"][1].update(label="other"),
        r"splits\.test\.classes: expected the 5 labels of the run, found \('animal', 'other'",
    ),
    (
        lambda f: f["splits"]["test"]["classes"][0].update(f1=7),
        r"splits\.test\.classes\[0\]\.f1: expected a number from 0 to 1, found 7",
    ),
    (
        lambda f: f["splits"]["test"]["confusion"].append([0, 5, 1]),
        r"confusion\[\d+\]: expected \[label id, label id, texts\], found \[0, 5, 1\]",
    ),
    (lambda f: f["splits"]["test"]["confusion"].append([0, 1, 0]), r"texts\], found \[0, 1, 0\]"),
    (lambda f: f["splits"]["test"]["confusion"].append([0, 1]), r"texts\], found \[0, 1\]"),
    (lambda f: f["splits"]["test"]["confusion"].append([0, 1, 10**6]), r"found \[0, 1, 1000000\]"),
    (lambda f: f["splits"]["test"]["bins"].append(0), r"bins\[15\]: expected an object, found 0"),
]


@pytest.mark.parametrize(("edit", "message"), EVALUATION_EDITS)
def test_a_damaged_evaluation_is_refused_with_what_to_do(
    run: Run, edit: Callable[[Any], None], message: str
) -> None:
    change(run.folder / "evaluation.json", edit)
    with pytest.raises(RunError, match=message) as caught:
        read_evidence(run)
    assert str(caught.value).startswith(f"{run.folder}/evaluation.json: ")
    assert str(caught.value).endswith("again with `python -m pipeline evaluate --force`.")


DATA_EDITS: list[tuple[Callable[[Any], Any], str]] = [
    (lambda f: f.update(schema_version=None), r"schema_version: expected 1, found None"),
    (lambda f: f["rows"].update(kept="all"), r"rows\.kept: expected a whole number from 0"),
    (lambda f: f["splits"].pop("train"), r"splits\.train: expected an object, found None"),
    (
        lambda f: f["splits"]["test"]["tokens"]["quantiles"].pop("p50"),
        r"splits\.test\.tokens\.quantiles\.p50: expected a whole number from 0, found None",
    ),
    (lambda f: f["leaks"]["test"].update(share=2), r"leaks\.test\.share: expected a number from"),
    (
        lambda f: f["leaks"]["test"]["rows"].update(numbers=-1),
        r"leaks\.test\.rows\.numbers: expected a whole number from 0, found -1",
    ),
    (
        lambda f: f["classes"][0]["rows"].pop("test"),
        r"classes\[0\]\.rows\.test: expected a whole number from 0, found None",
    ),
    (lambda f: f.update(warnings=["x"]), r"warnings\[0\]: expected an object, found 'x'"),
]


@pytest.mark.parametrize(("edit", "message"), DATA_EDITS)
def test_a_damaged_data_card_is_refused_with_what_to_do(
    run: Run, edit: Callable[[Any], None], message: str
) -> None:
    change(run.folder / "data_card.json", edit)
    with pytest.raises(RunError, match=message) as caught:
        read_evidence(run)
    assert str(caught.value).endswith(
        "Delete it and call `make train` again, which keeps a new copy."
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"evaluation\.json: expected JSON, found Expecting value"),
        (b"\xff", r"evaluation\.json: expected JSON, found 'utf-8' codec"),
        (b"[]", r"evaluation\.json: content: expected an object, found \[\]\. Write it again"),
        (b"[" * 200_000, r"evaluation\.json: expected JSON"),
    ],
)
def test_what_is_no_object_is_refused(run: Run, content: bytes, message: str) -> None:
    (run.folder / "evaluation.json").write_bytes(content)
    with pytest.raises(RunError, match=message):
        read_evidence(run)


def test_a_huge_file_is_refused_unread(run: Run) -> None:
    with (run.folder / "data_card.json").open("r+b") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(RunError, match=r"data_card\.json: expected at most 67108864 bytes, found"):
        read_evidence(run)
