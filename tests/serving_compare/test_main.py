"""The harness for real: children, agreement, rounds, report; without TensorFlow."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner, Result
from filelock import FileLock

from export.bundle import Artifact
from serving_compare import __main__ as command
from serving_compare.agreement import AgreementError
from serving_compare.machine import allowed_cores
from serving_compare.report import publish_report
from serving_compare.results import Results, read_results
from serving_compare.sampling import CellLimits
from serving_compare.schedule import PROFILES

MakeResults = Callable[..., Results]
SCHEMA_PATH = Path(__file__).parents[2] / "serving_compare" / "schema" / "report.schema.json"


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, artifact: Artifact) -> Path:
    """An empty build folder with the tiny artifact in it, and a very short profile."""
    folder = tmp_path / "build"
    shutil.copytree(artifact.folder.parent.parent, folder / "artifacts")
    monkeypatch.setenv("GATETABLE_BUILD", str(folder))
    monkeypatch.chdir(tmp_path)
    shortest = replace(
        PROFILES["quick"],
        rounds=1,
        slices=1,
        all_cores=False,
        limits=CellLimits(min_samples=1, min_duration_s=0.0, max_duration_s=0.001, warm_up_s=0.001),
    )
    monkeypatch.setitem(PROFILES, "quick", shortest)
    return folder


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command.main, arguments)


def test_null_and_lookup_are_compared_from_end_to_end(
    build: Path, split_file: Path, monkeypatch: pytest.MonkeyPatch
):
    longer = replace(PROFILES["quick"], rounds=2, slices=2, all_cores=True)
    monkeypatch.setitem(PROFILES, "quick", longer)
    done = run("compare", "--quick", "--backends", "lookup", "--texts", str(split_file),
               "--output", "first")  # fmt: skip
    assert done.exit_code == 0, done.output
    folder = build / "reports" / "first"
    assert "Report: " in done.output
    assert "Where the lookup table loses" in done.output
    report = json.loads((folder / "report.json").read_text())
    jsonschema.validate(report, json.loads(SCHEMA_PATH.read_text()))
    assert list(report["backends"]) == ["lookup", "null"]
    lookup = report["backends"]["lookup"]
    assert lookup["accuracy"]["rows"] == 120
    assert lookup["agreement"]["golden_texts"]["rows"] == 13
    assert lookup["agreement"]["golden_texts"]["max_abs_probability_diff"] <= 1e-5
    assert list(lookup["latency"]["tokens"]) == ["1", "2", "5", "10", "11", "20"]
    assert list(lookup["batch"]) == ["1", "8", "32", "256"]
    assert lookup["latency"]["tokens"]["1"]["rounds"] == 2
    for kind in ("zipf", "uniform", "cold"):
        assert list(lookup["latency"][kind]) == ["10"]
    cores = len(allowed_cores() or [0])
    threads = [cell["threads"] for cell in lookup["all_cores"].values()]
    assert threads == ([cores] if cores > 1 else [])
    assert lookup["memory"].get("pss_bytes", lookup["memory"]["peak_bytes"])["median"] > 2**20
    assert report["harness"]["largest_share"]["fastest"] == "lookup"
    assert {p.name for p in (build / "reports").iterdir()} == {".lock", "first", "latest"}

    before = (folder / "report.json").read_bytes()
    (folder / "report.json").unlink()
    again = run("report", str(folder))
    assert again.exit_code == 0, again.output
    assert (folder / "report.json").read_bytes() == before

    results = read_results(folder / "raw")
    assert {process["backend"] for process in results.processes} == {"lookup", "null"}
    alone = [process for process in results.processes if process["threads"] == 1]
    assert all(set(p["stages_ns"]) == {"start", "import", "load", "first"} for p in alone)
    assert all(len(facts["slices"]) == 2 for p in alone for facts in p["cells"].values())
    assert str(build) not in (folder / "raw" / "raw.json").read_text()


def test_lookup_runs_on_the_probes_without_a_split(build: Path):
    done = run("compare", "--quick", "--backends", "lookup")
    assert done.exit_code == 0, done.output
    name = (build / "reports" / "latest").read_text().strip()
    assert name.startswith("tiny-1-2")
    report = json.loads((build / "reports" / name / "report.json").read_text())
    jsonschema.validate(report, json.loads(SCHEMA_PATH.read_text()))
    assert report["workload"]["source"].startswith("the artifact's own probes")


def test_null_alone_is_refused(build: Path):
    done = run("compare", "--quick", "--backends", "null")
    assert done.exit_code == 2
    assert "expected at least one backend beside null, found null alone" in done.stderr
    assert [path.name for path in (build / "reports").iterdir()] == [".lock"]


def test_the_split_of_the_artifacts_run_is_found(build: Path, split_file: Path):
    (build / "runs" / "tiny-run").mkdir(parents=True)
    shutil.copy(split_file, build / "runs" / "tiny-run" / "test_split.jsonl")
    assert run("compare", "--quick", "--backends", "lookup", "--output", "n").exit_code == 0
    report = json.loads((build / "reports" / "n" / "report.json").read_text())
    assert report["workload"]["source"] == "the test split of the artifact's run"


def test_a_backend_that_cannot_load_fails_with_its_own_words(build: Path):
    done = run("compare", "--quick", "--backends", "onnx", "--output", "broken")
    assert done.exit_code == 2
    assert "error: onnx, agreement: expected results, found the process ended with" in done.stderr
    assert "model.onnx" in done.stderr
    assert [path.name for path in (build / "reports").iterdir()] == [".lock"]


def test_disagreement_is_a_failed_check_and_nothing_is_timed(
    build: Path, monkeypatch: pytest.MonkeyPatch
):
    questions = command.make_questions

    def wrong(*arguments: Any) -> Any:
        right = questions(*arguments)
        return replace(right, golden=right.golden + np.float32(1e-4))

    monkeypatch.setattr(command, "make_questions", wrong)
    done = run("compare", "--quick", "--backends", "lookup")
    assert done.exit_code == 1
    assert "error: The backends do not agree, so nothing was timed." in done.stderr
    assert [path.name for path in (build / "reports").iterdir()] == [".lock"]
    assert issubclass(AgreementError, Exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--artifact", "none"], r"none/manifest.json: no such file"),
        (["--texts", "none"], "none: expected a UTF-8 file of texts"),
        (["--backends", "tf"], "--backends: expected names out of"),
        (["--output", "../up"], "--output: expected 1 to 150 letters"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(build: Path, arguments: list[str], message: str):
    done = run("compare", "--quick", *arguments)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert message in done.stderr


def test_a_second_comparison_at_the_same_time_is_refused(build: Path):
    (build / "reports").mkdir()
    with FileLock(build / "reports" / ".lock"):
        done = run("compare", "--quick", "--backends", "null")
    assert done.exit_code == 2
    assert "expected no other comparison at work, found one." in done.stderr


def test_leftovers_of_a_killed_comparison_are_removed(build: Path):
    (build / "reports" / ".scratch-old").mkdir(parents=True)
    (build / "reports" / ".name.partial").mkdir()
    run("compare", "--quick", "--backends", "tf")
    assert [path.name for path in (build / "reports").iterdir()] == [".lock"]


def test_several_reports_are_merged_into_a_new_one(tmp_path: Path, make_results: MakeResults):
    one = publish_report(tmp_path, make_results(name="one"))
    two = publish_report(tmp_path, make_results(name="two"))
    done = run("report", str(one), str(two), "--output", "both")
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "both" / "report.json").read_text())
    assert report["protocol"]["rounds"] == 12
    assert run("report", str(one), str(two)).exit_code == 2


def test_reports_of_unlike_machines_are_not_merged(tmp_path: Path, make_results: MakeResults):
    here = make_results(name="here")
    there = make_results(name="there", machine={**here.machine, "cpu": "Other CPU"})
    folders = [str(publish_report(tmp_path, results)) for results in (here, there)]
    done = run("report", *folders, "--output", "both")
    assert done.exit_code == 2
    assert "error: there: expected the same machine.cpu as in here" in done.stderr
    assert not (tmp_path / "both").exists()


def test_a_report_against_itself_passes_and_a_slower_one_fails_with_a_table(
    tmp_path: Path, make_results: MakeResults
):
    before = publish_report(tmp_path, make_results(name="before"))
    slowed = {
        "saved_model": [1_000_000 + 1000 * r for r in range(6)],
        "onnx": [40_000 + 100 * r for r in range(6)],
        "lookup": [75_000 + 150 * r for r in range(6)],
    }
    after = publish_report(tmp_path, make_results(slowed, name="after"))
    same = run("report", str(before), "--against", str(before / "report.json"))
    assert same.exit_code == 0, same.output
    assert "0 of 30 figures got worse than in before, 0 got better." in same.output
    worse = run("report", str(after), "--against", str(before))
    assert worse.exit_code == 1
    assert "Worse than in before" in worse.output
    assert worse.stderr.startswith("error: lookup, 1 token: expected no worse than in before")
    assert "## Worse than in before" in (after / "against.md").read_text()
    assert run("report", str(before), "--against", str(after)).exit_code == 0


def test_a_report_of_another_machine_is_no_measure(tmp_path: Path, make_results: MakeResults):
    here = make_results(name="here")
    there = make_results(name="there", machine={**here.machine, "cpu": "Other CPU"})
    folders = [str(publish_report(tmp_path, results)) for results in (here, there)]
    done = run("report", folders[0], "--against", folders[1])
    assert done.exit_code == 2
    assert "error: --against there: expected the same machine.cpu, 'Other CPU'" in done.stderr


def test_compare_refuses_an_unlike_report_before_it_times_anything(
    build: Path, tmp_path: Path, make_results: MakeResults
):
    old = publish_report(tmp_path, make_results(name="old"))
    done = run("compare", "--quick", "--backends", "lookup", "--against", str(old))
    assert done.exit_code == 2
    assert "error: --against old: expected the same machine." in done.stderr
    assert "agreement" not in done.output
    missing = run("compare", "--quick", "--against", str(tmp_path / "none"))
    assert missing.exit_code == 2
    assert "expected a report.json or a report's folder" in missing.stderr


def test_a_folder_that_is_no_report_is_bad_input(tmp_path: Path):
    done = run("report", str(tmp_path))
    assert done.exit_code == 2
    assert "is not a report" in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["compare", "--help"], ["report", "--help"]])
def test_help_shows_an_example(arguments: list[str]):
    assert "python -m serving_compare" in run(*arguments).output
