"""`python -m pipeline ablation`: its options, and one whole small run."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from pipeline.__main__ import cli
from pipeline.ablation.command import _scratch
from pipeline.config import DEFAULT_SHAPE, ModelConfig
from pipeline.tables.source import DataError

ROOT = Path(__file__).parents[3]
LABELS = {"cat": "animal", "iron": "metal"}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """300 rows of two classes."""
    rows = [
        f"{word} number {number} of many,{label}"
        for number in range(150)
        for word, label in LABELS.items()
    ]
    path = tmp_path / "pets.csv"
    path.write_text("\n".join(["title,category", *rows]) + "\n", encoding="utf-8")
    return path


def test_its_model_is_the_one_that_train_builds() -> None:
    defaults = {option.name: option.default for option in cli.commands["train"].params}
    ours = ModelConfig(vocab_size=9, num_classes=2, **DEFAULT_SHAPE)
    for name in ("embed_dim", "units", "layers", "bidirectional", "pooling", "relu"):
        assert defaults[name] == getattr(ours, name), name
    for name in ("embedding_dropout", "head_dropout"):
        assert defaults[name] == getattr(ours, name), name


@pytest.mark.slow
def test_unknown_rungs_and_delays_out_of_range_are_refused(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATETABLE_BUILD", str(tmp_path / "build"))
    source = ["ablation", "--source", str(table), "--vocab-size", "60"]
    for options, message in (
        (["--rungs", "naive,nope"], "error: --rungs: expected names among naive, prefetch, "),
        (["--open-ms", "-1"], "error: open_ms: expected a value from 0 to 60000 ms, found -1.0."),
        (["--docs", str(tmp_path)], "expected the page that shows the ladder, found no such file."),
    ):
        done = CliRunner().invoke(cli, [*source, *options])
        assert done.exit_code == 2
        assert message in done.output
    assert not list((tmp_path / "build" / "reports").glob("*"))


def test_two_ablations_at_once_would_measure_each_other(tmp_path: Path) -> None:
    with (
        _scratch(tmp_path) as scratch,
        pytest.raises(DataError, match="another ablation is running here, and two would measure"),
        _scratch(tmp_path),
    ):
        raise AssertionError
    assert not scratch.exists()


def test_what_a_killed_ablation_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".ablation-scratch" / "caches").mkdir(parents=True)
    with _scratch(tmp_path) as scratch:
        assert list(scratch.iterdir()) == []


@pytest.mark.slow
def test_a_run_publishes_one_whole_report_and_leaves_nothing_else(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATETABLE_BUILD", str(tmp_path / "build"))
    options = ["--vocab-size", "60", "--quick", "--storage", "local", "--rungs", "default"]
    done = CliRunner().invoke(cli, ["ablation", "--source", str(table), *options])
    assert done.exit_code == 0, done.output
    assert "wait for input in a fit, local" in done.output
    reports = tmp_path / "build" / "reports"
    (folder,) = (path for path in reports.iterdir() if path.name != ".ablation.lock")
    assert folder.name.startswith("ablation-pets-")
    assert sorted(path.name for path in folder.iterdir()) == [
        "ablation.json",
        "ablation.md",
        "ablation.svg",
    ]
    report = json.loads((folder / "ablation.json").read_text(encoding="utf-8"))
    schema = ROOT / "pipeline" / "schema" / "ablation.schema.json"
    jsonschema.validate(report, json.loads(schema.read_text(encoding="utf-8")))
    assert [rung["name"] for rung in report["rungs"]] == ["naive", "default"]
