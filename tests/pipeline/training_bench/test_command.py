"""`python -m pipeline train-bench`: its options, and one whole small run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.__main__ import cli


def test_unknown_contenders_are_refused_before_any_work() -> None:
    done = CliRunner().invoke(cli, ["train-bench", "--contenders", "layer,nope"])
    assert done.exit_code == 2
    assert "error: --contenders: expected names among eager_ragged, keras_fit, " in done.output
    assert "found nope." in done.output


@pytest.mark.slow
def test_a_bench_measures_each_contender_and_keeps_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATETABLE_BUILD", str(tmp_path / "build"))
    table = tmp_path / "pets.csv"
    rows = [f"the {['cat', 'dog', 'bird'][i % 3]} number {i},{'ab'[i % 2]}" for i in range(300)]
    table.write_text("\n".join(["title,category", *rows]) + "\n", encoding="utf-8")
    options = ["--source", str(table), "--vocab-size", "60", "--units", "4", "--embed-dim", "4"]
    contenders = ["--contenders", "eager_ragged,default", "--batch-size", "4", "--quick"]
    contenders += ["--unidirectional"]  # half to trace
    done = CliRunner().invoke(cli, ["train-bench", *options, *contenders, "--in-full"])
    assert done.exit_code == 0, done.output
    (folder,) = (tmp_path / "build" / "reports").iterdir()
    assert folder.name.startswith("train-bench-pets-")
    report = json.loads((folder / "train_bench.json").read_text(encoding="utf-8"))
    assert [found["contender"] for found in report["measurements"]] != []
    by_name = {found["contender"]: found for found in report["summary"]}
    assert set(by_name) == {"eager_ragged", "default"}
    for found in by_name.values():
        assert found["examples_per_s"] > 0
        assert found["cpu_ms"] > 0
        assert found["peak_bytes"] > 10**8
    assert by_name["default"]["plan"].startswith("XLA: o")
    assert by_name["default"]["plan"] in done.output
    (trained,) = report["quality"]  # the eager loop is not trained in full
    assert trained["contender"] == "default"
    assert 0 < trained["top_1"] <= trained["top_k"] <= 1
    assert "default, trained in full: validation top-1 " in done.output
    markdown = (folder / "train_bench.md").read_text(encoding="utf-8")
    assert "| default | " in markdown
    assert "examples a second of default against eager_ragged" in markdown
