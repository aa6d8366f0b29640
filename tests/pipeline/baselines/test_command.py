"""The command that measures baselines."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.__main__ import cli
from pipeline.data_folder import PreparedData


def test_the_missing_library_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATETABLE_BUILD", str(tmp_path))
    monkeypatch.setitem(sys.modules, "fasttext", None)
    result = CliRunner().invoke(cli, ["baseline", "--kind", "all"])
    assert result.exit_code == 2
    assert "error: fastText: expected the library fasttext, found none" in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_k_out_of_range_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATETABLE_BUILD", str(tmp_path))
    result = CliRunner().invoke(cli, ["baseline", "--num-predict", "101"])
    assert result.exit_code == 2
    assert "error: k: expected a value from 1 to 100, found 101." in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_every_kind_has_its_row_and_every_training_its_line(
    prepared: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fasttext", reason="needs the extra `fasttext`")
    monkeypatch.setenv("GATETABLE_BUILD", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "120")
    table = str(prepared.folder.parents[1] / "pets.csv")
    options = ["--source", table, "--vocab-size", "200", "--num-predict", "2", "--kind", "all"]
    result = CliRunner().invoke(cli, ["baseline", *options])
    assert result.exit_code == 0, result.output
    assert "TF-IDF + linear SVM" in result.output
    lines = [line for line in result.output.splitlines() if line.startswith("fastText  dim ")]
    assert len(lines) == 5
    assert all("validation top-1" in line for line in lines)
    assert sorted(path.name for path in (tmp_path / "data" / "pets.baselines").iterdir()) == [
        "fasttext",
        "svm",
    ]
