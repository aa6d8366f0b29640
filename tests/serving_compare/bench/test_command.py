from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result
from filelock import FileLock

from export.bundle import Artifact
from serving_compare.__main__ import main
from serving_compare.bench import command, probe, profile
from serving_compare.bench.interleave import BlockLimits
from serving_compare.bench.report import publish_bench
from serving_compare.results import Results

MakeParts = Callable[..., dict[str, Results]]
SCHEMA_PATH = Path(__file__).parents[3] / "serving_compare" / "schema" / "bench.schema.json"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["bench", *arguments])


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GATETABLE_BUILD", str(tmp_path / "build"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "build"


@pytest.fixture
def recorded(make_parts: MakeParts, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Recorded results in place of an hour of timing; remembers what was asked for."""
    seen: dict[str, Any] = {}

    def stand_in(chosen: Any, subject: Any, **options: Any) -> dict[str, Results]:
        seen.update(profile=chosen, subject=subject, **options)
        return make_parts(name=options["name"])

    monkeypatch.setattr(command, "run_bench", stand_in)
    return seen


def test_options_reach_the_benchmark_and_the_report_is_printed(
    build: Path, recorded: dict[str, Any]
):
    done = run("--quick", "--units", "64,32", "--lengths", "20,1", "--seed", "7", "--output", "b")
    assert done.exit_code == 0, done.output
    assert recorded["profile"].units == (32, 64)
    assert recorded["profile"].lengths == (1, 20)
    assert (recorded["seed"], recorded["subject"]) == (7, None)
    assert "What is promised, and whether it holds here" in done.output
    assert f"Report: {build / 'reports' / 'b'}" in done.output
    assert json.loads((build / "reports" / "b" / "bench.json").read_text())["name"] == "b"
    assert not list((build / "reports").glob(".scratch-*"))


def test_the_newest_artifact_gives_texts_and_ids(
    build: Path, recorded: dict[str, Any], artifact: Artifact
):
    shutil.copytree(artifact.folder.parent.parent, build / "artifacts")
    assert run("--quick").exit_code == 0
    subject = recorded["subject"]
    assert subject.artifact.name == "tiny"
    assert subject.source == "the artifact's own probes (no test split found)"
    assert 0 < len(subject.texts) <= profile.QUICK.texts
    assert len(subject.ids) >= 1
    assert (subject.has_word_table, subject.tolerance) == (False, 1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--units", "0"], "error: --units: expected distinct numbers from 1 to 4096"),
        (["--lengths", "1,1"], "error: --lengths: expected distinct numbers from 1 to 1000"),
        (["--units", "x"], "expected numbers separated by commas, found 'x'."),
        (["--output", "../up"], "error: --output: expected 1 to 150 letters"),
        (["--artifact", "none"], "no such file, so none is not an artifact."),
        (["--rebuild", "none"], "expected raw results of a benchmark, found none."),
    ],
)
def test_bad_input_is_told_with_exit_code_2(build: Path, arguments: list[str], message: str):
    done = run(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_another_comparison_at_work_is_respected(build: Path):
    (build / "reports").mkdir(parents=True)
    with FileLock(build / "reports" / ".lock"):
        done = run("--quick")
    assert done.exit_code == 2
    assert "expected no other comparison at work, found one." in done.stderr


def test_a_report_is_rebuilt_from_its_raw_results(make_parts: MakeParts, tmp_path: Path):
    folder, _ = publish_bench(tmp_path, "one", make_parts())
    before = (folder / "bench.json").read_bytes()
    (folder / "bench.json").unlink()
    done = run("--rebuild", str(folder))
    assert done.exit_code == 0, done.output
    assert (folder / "bench.json").read_bytes() == before


def test_help_shows_an_example():
    assert "python -m serving_compare bench --quick" in run("--help").output


@pytest.mark.slow
def test_a_tiny_model_is_timed_for_real(build: Path, monkeypatch: pytest.MonkeyPatch):
    short = BlockLimits(blocks=1, warm_up_s=0.0, min_passes=1, duration_s=0.0)
    shortest = replace(
        profile.QUICK,
        processes=1,
        cold_samples=2,
        limits=short,
        bulk_limits=short,
        batch_sizes=(32,),
    )
    monkeypatch.setattr(profile, "QUICK", shortest)
    monkeypatch.setattr(probe, "COMPANIONS", ("onnx",))  # one start of TensorFlow less
    done = run("--quick", "--units", "8", "--lengths", "1,20", "--output", "real")
    assert done.exit_code == 0, done.output + done.stderr
    bench = json.loads((build / "reports" / "real" / "bench.json").read_text())
    jsonschema.validate(bench, json.loads(SCHEMA_PATH.read_text()))
    model = bench["models"]["8"]
    assert {"lookup numpy", "onnx", "onnx static", "onnx io_binding", "tf2onnx", "saved_model",
            "null"} <= set(model["warm"]["20"]["forms"])  # fmt: skip
    assert (
        max(
            model["agreement"][form]["max_abs_log_probability_diff"]
            for form in ("lookup numpy", "onnx", "saved_model", "tf2onnx")
        )
        < 1e-6
    )
    assert "saved_model sorted 32" in model["bulk"]["32"]["forms"]
    assert bench["text"] is None
