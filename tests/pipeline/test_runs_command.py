"""The list of runs, and where two of them differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pipeline.__main__ import cli
from pipeline.config import ModelConfig
from pipeline.run_folder import write_run

SPENT = {
    "seconds": {"train": 60.0, "validation": 3.0},
    "examples_per_s": 1500.0,
    "peak_bytes": 1_230_000_000,
    "energy_joules": None,
}


def make_run(build: Path, name: str, top_1: float, **changes: Any) -> None:
    partial = build / f"{name}.partial"
    partial.mkdir(parents=True)
    (build / "runs").mkdir(exist_ok=True)
    for file in ("model.keras", "tokenizer.model", "test_split.jsonl"):
        (partial / file).write_bytes(b"")
    fields: dict[str, Any] = {
        "model": ModelConfig(vocab_size=9, num_classes=2, units=changes.pop("units", 96)),
        "training": {"num_predict": 3, "learning_rate": 0.003},
        "metrics": {"test": {"top_1": top_1, "top_3": 0.9, "loss": 0.7}},
        "data": {"name": "tiny"},
        "labels": ["a", "b"],
        "max_tokens": 8,
        "versions": {"keras": "3.15.1"},
        "seed": 1,
        "history": {},
        "accounting": SPENT,
    }
    write_run(partial, build / "runs" / name, **{**fields, **changes})


@pytest.fixture
def build(tmp_path: Path) -> Path:
    make_run(tmp_path, "good", 0.81234, units=128)
    make_run(tmp_path, "old", 0.5, accounting=None)
    return tmp_path


def call(build: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["runs", *arguments], env={"GATETABLE_BUILD": str(build)})


def test_runs_are_listed_best_first_with_what_they_cost(build: Path) -> None:
    lines = [line.strip() for line in call(build).output.splitlines()]
    rows = [line for line in lines if line.startswith(("good", "old"))]
    assert rows[0].startswith("good")
    for cell in ("81.23 %", "90.00 %", "1:03 min", "1,500", "1.23 GB"):
        assert cell in rows[0]
    assert rows[1].startswith("old *")
    assert rows[1].split()[-3:] == ["-", "-", "-"]


def test_two_runs_are_shown_where_they_differ_and_only_there(build: Path) -> None:
    output = call(build, "good", "old").output
    rows = {line.split()[0]: line.split()[1:] for line in output.splitlines() if "." in line}
    assert rows["model.units"] == ["128", "96"]
    assert rows["metrics.test.top_1"] == ["81.23", "%", "50.00", "%"]
    assert rows["accounting.peak_bytes"] == ["1230000000", "-"]
    assert "model.embed_dim" not in rows


def test_everything_can_be_had_as_json(build: Path) -> None:
    lines = [json.loads(line) for line in call(build, "--json").output.splitlines()]
    assert [line["name"] for line in lines] == ["good", "old"]
    assert lines[0]["accounting.seconds.train"] == 60.0


def test_a_damaged_run_is_told_beside_the_others(build: Path) -> None:
    (build / "runs/old/run.json").write_text("{")
    done = call(build)
    assert done.exit_code == 0
    assert "good" in done.output
    assert "not readable:" in done.output
    assert "run.json: expected JSON" in done.output


def test_no_run_and_an_unknown_name_are_refused(build: Path, tmp_path: Path) -> None:
    empty = call(tmp_path / "empty")
    assert empty.exit_code == 2
    assert "no finished run yet. Train one with `make train`." in empty.output
    unknown = call(build, "bad")
    assert unknown.exit_code == 2
    assert "no run named 'bad'; there are: good, old." in unknown.output
