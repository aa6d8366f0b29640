from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import export.text_onnx
from export.__main__ import main

pytest.importorskip("onnxruntime_extensions")
GOLDEN = Path(__file__).parents[1] / "golden" / "v2"


def run_cli(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["text-onnx", *map(str, arguments)])


def test_it_says_what_it_wrote(tmp_path: Path) -> None:
    out = tmp_path / "model_text.onnx"
    result = run_cli(GOLDEN, out)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{out}: ")
    assert "text in; within " in result.stdout
    assert list(tmp_path.iterdir()) == [out]


def test_help_teaches_by_an_example() -> None:
    example = "Example: python -m export text-onnx build/artifacts/wordnet31/1 model_text.onnx"
    assert example in " ".join(run_cli("--help").output.split())


def test_other_answers_exit_with_1_and_no_artifact_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model_text.onnx"
    assert run_cli(tmp_path / "none", out).exit_code == 2
    monkeypatch.setattr(export.text_onnx, "TOLERANCE", 0.0)
    result = run_cli(GOLDEN, out)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: golden probe ")
    assert not out.exists()
