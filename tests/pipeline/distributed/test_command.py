"""The command that trains with several workers. (That it does so is held in test_replicas.py.)"""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.__main__ import cli


@pytest.fixture(autouse=True)
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GATETABLE_BUILD", str(tmp_path))
    return tmp_path


def test_help_shows_an_example() -> None:
    result = CliRunner().invoke(cli, ["train-workers", "--help"])
    assert result.exit_code == 0
    assert "Example: python -m pipeline train-workers -n 2" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--no-such-option"], "No such option"),
        (["--units", "many"], "'many' is not a valid integer"),
        (["--source", "no-such-file.csv"], "no-such-file.csv"),
        (["--strategy", "mirrored"], "--strategy: expected multi_worker or nothing, found mirror"),
        (["-n", "1"], "workers: expected 2 to 64, found 1."),
    ],
)
def test_what_is_wrong_is_told_before_any_process_begins(
    options: list[str], error: str, build: Path
) -> None:
    result = CliRunner().invoke(cli, ["train-workers", *options])
    assert result.exit_code == 2
    assert error in result.output
    assert "is started" not in result.output
    assert list(build.glob("runs")) == []


def test_a_training_that_wants_workers_needs_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", "{")
    result = CliRunner().invoke(cli, ["train"])
    assert result.exit_code == 2
    assert "error: TF_CONFIG: expected" in result.output
