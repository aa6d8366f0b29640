from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from export.__main__ import main
from export.difference import AgreementError
from pipeline.run_folder import Run


def run_cli(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def leave_no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder: no .env, and nothing written elsewhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")


@pytest.mark.parametrize("command", ["export", "verify"])
def test_help_teaches_by_an_example(command: str) -> None:
    result = run_cli(command, "--help")
    assert result.exit_code == 0
    assert f"Example: python -m export {command}" in result.output


def test_no_run_is_bad_input(tmp_path: Path) -> None:
    result = run_cli("export", "--build", tmp_path)
    assert result.exit_code == 2
    assert "error: " in result.stderr
    assert "no finished run yet. Train one with `make train`." in result.stderr


@pytest.mark.parametrize("option", ["--run", "--name"])
def test_unsafe_names_are_usage_errors(tmp_path: Path, option: str) -> None:
    result = run_cli("export", "--build", tmp_path, option, "../up")
    assert result.exit_code == 2
    assert "expected 1 to 100 letters" in result.stderr


def test_an_unknown_run_is_bad_input(hollow_run: Run, tmp_path: Path) -> None:
    result = run_cli("export", "--build", tmp_path, "--run", "other")
    assert result.exit_code == 2
    assert "no run named 'other'; there are: hollow." in result.stderr


def test_no_artifact_is_bad_input(tmp_path: Path) -> None:
    result = run_cli("verify", "--build", tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no artifact yet. Export a run with `make export`." in result.stderr


def test_a_folder_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    result = run_cli("verify", tmp_path / "none")
    assert result.exit_code == 2
    assert "none: expected an artifact folder, found none." in result.stderr


def test_a_damaged_artifact_fails_the_check(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "manifest.json").write_text("{")
    result = run_cli("verify", tmp_path / "1")
    assert result.exit_code == 1
    assert "error: " in result.stderr
    assert "expected JSON" in result.stderr


def test_the_build_root_is_read_from_the_environment_and_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATETABLE_BUILD", str(tmp_path / "from_environment"))
    assert "from_environment" in run_cli("verify").stderr
    monkeypatch.delenv("GATETABLE_BUILD")
    (tmp_path / ".env").write_text("GATETABLE_BUILD=from_file\n")
    try:
        assert "from_file" in run_cli("verify").stderr
    finally:
        monkeypatch.delenv("GATETABLE_BUILD")


@pytest.mark.slow
def test_export_prints_a_row_for_each_form(published: Path) -> None:
    result = run_cli("export", "--build", published.parents[2])
    assert result.exit_code == 0, result.stderr
    for form in ("keras", "saved_model", "saved_model_text", "onnx", "tf2onnx", "lookup"):
        assert f"│ {form} " in result.stdout
    assert "nothing to do" in " ".join(result.stdout.split())


@pytest.mark.slow
def test_verify_accepts_what_export_published(published: Path) -> None:
    result = run_cli("verify", "--build", published.parents[2])
    assert result.exit_code == 0, result.stderr
    assert "every form gives what the trained model gave" in " ".join(result.stdout.split())


@pytest.mark.slow
def test_disagreement_exits_with_one(
    tiny_run: Run, tmp_path: Path, monkeypatch: Any, without_oracle: None
) -> None:
    def disagree(*_: object, **__: object) -> None:
        raise AgreementError("onnx: differs.")

    (tmp_path / "runs").symlink_to(tiny_run.folder.parent)
    monkeypatch.setattr("export.forms.measure_agreement", disagree)
    result = run_cli("export", "--build", tmp_path)
    assert result.exit_code == 1
    assert "error: onnx: differs." in result.stderr
