from __future__ import annotations

import shutil
from pathlib import Path

from click.testing import CliRunner, Result

from export.__main__ import main
from tests.export.test_layout import GOLDEN


def run_cli(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["layout", *map(str, arguments)])


def test_the_command_names_what_it_wrote(tmp_path: Path) -> None:
    result = run_cli("--for", "tfserving", GOLDEN, tmp_path / "models")
    assert (result.exit_code, result.stderr) == (0, "")
    models = tmp_path / "models"
    assert result.stdout == f"{models / 'tiny' / '1'}\n{models / 'tiny_text' / '1'}\n"
    example = "Example: python -m export layout --for triton build/artifacts/wordnet31/1 models"
    assert example in " ".join(run_cli("--help").output.split())


def test_a_damaged_artifact_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    artifact = tmp_path / "artifact"
    shutil.copytree(GOLDEN, artifact)
    graph = artifact / "model.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    result = run_cli("--for", "triton", artifact, tmp_path / "models")
    assert result.exit_code == 2
    assert "model.onnx" in result.stderr
    assert not (tmp_path / "models").exists()
