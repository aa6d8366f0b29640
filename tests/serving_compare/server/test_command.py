"""What can be wrong with the options is said before a process is started."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from export.bundle import BundleError, read_artifact
from serving_compare.__main__ import main
from serving_compare.server.command import find_backends, find_served
from serving_compare.server.errors import ServerError
from tests.serving_compare.server.running import GOLDEN
from tests.serving_compare.server.versions import add_version


def serve(*options: str) -> Result:
    return CliRunner().invoke(main, ["serve", "--port", "0", *options])


def test_a_version_is_served_as_it_is_and_an_artifact_is_followed(tmp_path: Path) -> None:
    artifact = tmp_path / "artifacts" / "tiny"
    artifact.mkdir(parents=True)
    add_version(artifact, 1)
    add_version(artifact, 2)
    folder, follow, loaded = find_served(artifact / "1", tmp_path)
    assert (folder, follow, loaded.version) == (artifact / "1", False, 1)
    for given in (artifact, None):
        folder, follow, loaded = find_served(given, tmp_path)
        assert (folder, follow, loaded.version) == (artifact, True, 2)


def test_no_artifact_is_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATETABLE_BUILD", str(tmp_path))
    result = serve()
    assert result.exit_code == 2
    assert result.stderr == (
        f"error: {tmp_path}/artifacts: no artifact yet. Export a run with `make export`.\n"
    )
    with pytest.raises(
        BundleError,
        match=r"nowhere: expected an artifact's folder or one of its versions, found no folder\. "
        r"Export a run with `make export`\.$",
    ):
        find_served(tmp_path / "nowhere", tmp_path)


def test_a_damaged_artifact_is_bad_input(tmp_path: Path) -> None:
    folder = tmp_path / "1"
    shutil.copytree(GOLDEN, folder)
    (folder / "model.onnx").write_bytes(b"")
    result = serve("--artifact", str(folder))
    assert result.exit_code == 2
    assert "model.onnx: expected " in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unknown_backend_is_bad_input() -> None:
    result = serve("--artifact", str(GOLDEN), "--backends", "lookup,magic")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --backends: expected names out of saved_model, onnx,")
    assert "found 'magic'." in result.stderr


def test_backends_keep_their_order_and_null_may_stand_alone() -> None:
    artifact = read_artifact(GOLDEN)
    assert find_backends("onnx, lookup", artifact) == ["onnx", "lookup"]
    assert find_backends("null", artifact) == ["null"]
    with pytest.raises(
        ServerError,
        match=r"^--backends: expected each name once, found onnx twice\. For more processes of one "
        r"backend use --workers\.$",
    ):
        find_backends("onnx,lookup,onnx", artifact)


def test_the_folder_of_the_ready_file_must_exist(tmp_path: Path) -> None:
    place = tmp_path / "nowhere" / "ready.json"
    result = serve("--artifact", str(GOLDEN), "--ready-file", str(place))
    assert result.exit_code == 2
    assert result.stderr == (
        f"error: --ready-file {place}: expected its folder to exist, found none.\n"
    )


@pytest.mark.parametrize(
    ("cores", "says"),
    [
        ("a,b", "expected numbers with commas between them, found 'a,b'."),
        ("99999", "expected cores out of ["),
    ],
)
def test_cores_are_checked(cores: str, says: str) -> None:
    result = serve("--artifact", str(GOLDEN), "--cores", cores)
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.split())
