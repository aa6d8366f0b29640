"""Command lines of the store, as far as they need no server."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from export.__main__ import main
from export.store.signing_command import keygen_command
from export.store.transfer_command import pull_command, upload_command
from export.store.versions_command import list_command, prune_command, rollback_command
from tests.export.store.conftest import ROOT, MakeArtifact


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner()


def test_every_command_teaches_with_an_example(runner: CliRunner) -> None:
    for command in (
        *(keygen_command, pull_command, upload_command),
        *(list_command, prune_command, rollback_command),
    ):
        done = runner.invoke(command, ["--help"])
        assert done.exit_code == 0
        assert "Example: python -m export" in done.output, command.name


def test_upload_needs_a_bucket(runner: CliRunner, make_artifact: MakeArtifact) -> None:
    done = runner.invoke(upload_command, [str(make_artifact())])
    assert done.exit_code == 2
    assert "expected s3://bucket/prefix or the variable S3_BUCKET_NAME, found" in done.output


def test_upload_takes_one_folder_and_one_address(runner: CliRunner) -> None:
    done = runner.invoke(upload_command, ["one", "two", "s3://bucket"])
    assert done.exit_code == 2
    assert "expected one ARTIFACT and one s3://bucket/prefix, found 'one two" in done.output


def test_upload_says_which_folder_is_no_artifact(runner: CliRunner, tmp_path: Path) -> None:
    done = runner.invoke(
        upload_command,
        [str(tmp_path / "none"), "s3://bucket", "--endpoint-url", "http://127.0.0.1:9"],
    )
    assert done.exit_code == 2
    assert "none is not an artifact" in done.output.replace("\n", " ")


def test_a_pull_without_its_key_file_asks_no_server(runner: CliRunner, tmp_path: Path) -> None:
    done = runner.invoke(pull_command, ["s3://bucket", "--public-key", str(tmp_path / "none.pem")])
    assert done.exit_code == 2
    assert "none.pem: expected a key in PEM, found No such file" in done.output


def test_keygen_writes_a_pair_and_refuses_to_do_so_twice(runner: CliRunner, tmp_path: Path) -> None:
    path = tmp_path / "team.pem"
    done = runner.invoke(keygen_command, [str(path)])
    assert done.exit_code == 0
    assert f"--sign {path}" in done.output and "team.pub.pem" in done.output
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    done = runner.invoke(keygen_command, [str(path)])
    assert done.exit_code == 2
    assert "team.pem: expected no file, found one. Choose another name." in done.output


def test_export_asks_for_its_key_before_it_begins(runner: CliRunner, tmp_path: Path) -> None:
    done = runner.invoke(main, ["export", "--sign", str(tmp_path / "none.pem")])
    assert done.exit_code == 2
    assert "none.pem: expected a key in PEM, found No such file" in done.output


def test_list_shows_what_is_there(runner: CliRunner, make_artifact: MakeArtifact) -> None:
    first = make_artifact(run="one")
    make_artifact(run="two")
    (first / "manifest.json").write_text("[]")
    for place in (first.parent, first.parents[1]):
        done = runner.invoke(list_command, [str(place)])
        assert done.exit_code == 0
        assert "tiny" in done.output and "latest" in done.output
        assert "1: damaged, manifest.json: TypeError." in done.output.replace("\n", "")
    done = runner.invoke(list_command, [str(first.parents[2] / "none")])
    assert done.exit_code == 2
    assert "none: expected artifacts, found none. Export a run" in done.output


def test_an_artifact_is_named_by_folder_or_name_or_being_the_only_one(
    runner: CliRunner, make_artifact: MakeArtifact, tmp_path: Path
) -> None:
    done = runner.invoke(rollback_command, [])
    assert done.exit_code == 2
    assert "artifacts: expected one artifact, found none. Export a run" in done.output
    for run in ("one", "two", "three"):
        folder = make_artifact(below="build/artifacts", run=run).parent
    assert runner.invoke(rollback_command, []).exit_code == 0
    assert (folder / "latest").read_text() == "2\n"
    assert runner.invoke(rollback_command, ["tiny"]).exit_code == 0
    assert (folder / "latest").read_text() == "1\n"
    done = runner.invoke(prune_command, [str(folder), "--keep", "1", "--dry-run"])
    assert done.output == f"{folder}: would delete 2; there are 1, 2, 3.\n"


@pytest.mark.parametrize(
    ("package", "options", "message"),
    [
        (
            "cryptography",
            "'--sign', 'key'",
            "signatures: expected the package cryptography, found: No module named",
        ),
        ("boto3", "", "error: expected the package boto3, found none. Run `pip install"),
    ],
)
def test_the_stage_imports_without_the_libraries_of_the_store(
    package: str, options: str, message: str
) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None; from export.__main__ import main; "
        f"main(['upload', 'x', 's3://bucket/x', {options}])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
