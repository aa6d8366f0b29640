"""Short forms of the scenarios against real servers. Nothing here depends on how fast they are."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from export.bundle import Artifact, read_artifact
from serving_compare.__main__ import main
from serving_compare.load import endure
from serving_compare.load.checks import Check
from serving_compare.load.endure import SCENARIOS, Setup, publish_copy

TEXTS = ("red cat", "a small old house", "blue", "fast river stone", "new tree")


@pytest.fixture
def setup(artifact: Artifact) -> Setup:
    return Setup(
        artifact=artifact,
        backend="lookup",
        texts=TEXTS,
        capacity_per_s=300.0,
        seed=1,
        duration_s=3.0,
        overload_s=2.0,
        drains=2,
        crashes=2,
        swaps=1,
    )


def run(name: str, setup: Setup) -> dict[str, Check]:
    checks = SCENARIOS[name](setup)
    assert {check.scenario for check in checks} == {name}
    return {check.subject: check for check in checks}


def change(setup: Setup, **changes: Any) -> Setup:
    return replace(setup, **changes)


@pytest.mark.slow
def test_a_steady_load_is_answered_without_an_error(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endure, "SAMPLE_EVERY_S", 0.2)
    monkeypatch.setattr(endure, "WARM_UP_S", 1.0)
    checks = run("steady", setup)
    assert checks["requests neither answered nor refused"].holds
    assert checks["growth of the resident set"].holds, checks["growth of the resident set"].found


@pytest.mark.slow
def test_an_overloaded_server_refuses_and_breaks_nothing(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endure, "BEHIND_OVERLOAD_S", 1.0)
    monkeypatch.setattr(endure, "WARM_UP_S", 0.5)
    # 5,000 a second: more than a Python server of one process answers on the machines we know.
    checks = run("overload", change(setup, capacity_per_s=2500.0))
    assert checks["requests neither answered nor refused"].holds
    assert checks["share refused"].holds, checks["share refused"].found


@pytest.mark.slow
def test_a_sigterm_under_load_loses_no_accepted_request(setup: Setup) -> None:
    checks = run("drain", setup)
    assert checks["accepted requests lost"].holds, checks["accepted requests lost"].found
    assert checks["exit codes"].holds, checks["exit codes"].found


@pytest.mark.slow
def test_a_killed_worker_takes_only_what_it_held_with_it(setup: Setup) -> None:
    checks = run("crash", setup)
    lost = checks["requests lost that were not in flight at a kill"]
    assert lost.holds, lost.found
    assert "2 times" in checks["a killed worker is replaced"].found


@pytest.mark.slow
def test_a_new_version_is_served_without_an_error(setup: Setup) -> None:
    checks = run("swap", setup)
    assert checks["requests neither answered nor refused"].holds
    assert checks["new versions served"].found.startswith("1 of 1")


def test_a_copy_is_published_under_another_version_and_its_source_stays(
    artifact: Artifact, tmp_path: Path
) -> None:
    before = (artifact.folder / "manifest.json").read_bytes()
    publish_copy(artifact, tmp_path / artifact.name, 1)
    publish_copy(artifact, tmp_path / artifact.name, 2)
    copy = read_artifact(tmp_path / artifact.name / "2")
    assert (copy.name, copy.version) == (artifact.name, 2)
    assert (tmp_path / artifact.name / "latest").read_text() == "2\n"
    assert (artifact.folder / "manifest.json").read_bytes() == before


@pytest.mark.slow
def test_the_command_writes_what_it_prints_and_exits_accordingly(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATETABLE_BUILD", str(tmp_path))
    out = tmp_path / "endure.json"
    result = CliRunner().invoke(
        main,
        [
            *("endure", "--artifact", str(artifact.folder), "--scenario", "steady"),
            *("--scenario", "drain", "--capacity", "200", "--duration", "2", "--drains", "1"),
            *("--output", str(out)),
        ],
    )
    written = json.loads(out.read_text())
    assert {check["scenario"] for check in written["checks"]} == {"steady", "drain"}
    assert written["holds"] == all(check["holds"] for check in written["checks"])
    # Two seconds give too few samples of memory, and that is said.
    assert not written["holds"]
    assert result.exit_code == 1, result.output
    assert "Asked" in result.output
    assert "NO" in result.output
    assert not list(tmp_path.glob("**/.scratch*"))


def test_an_unknown_backend_is_bad_input(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATETABLE_BUILD", str(tmp_path))
    folder = shutil.copytree(artifact.folder, tmp_path / "copy")
    result = CliRunner().invoke(main, ["endure", "--artifact", str(folder), "--backend", "abacus"])
    assert result.exit_code == 2
    assert "expected names out of" in result.stderr
