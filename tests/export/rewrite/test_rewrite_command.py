from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import keras
import onnx
import pytest
from click.testing import CliRunner, Result
from keras import layers

import export.rewrite.parity
from export.__main__ import main
from tests.export.rewrite.foreign_models import bidirectional_masked, build

pytestmark = pytest.mark.slow


def run_cli(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["rewrite-onnx", *map(str, arguments)])


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "foreign.keras"
    build(bidirectional_masked).save(path)
    return path


def test_help_teaches_by_an_example() -> None:
    result = run_cli("--help")
    assert result.exit_code == 0
    example = "Example: python -m export rewrite-onnx classifier.keras classifier.onnx"
    assert example in " ".join(result.output.split())


def test_it_writes_a_checked_graph_and_says_what_is_in_it(model_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "foreign.onnx"
    result = run_cli(model_path, out, "--bench")
    assert result.exit_code == 0, result.output
    first, second, third, *timings = result.stdout.splitlines()
    assert first == "in: tokens (batch, tokens_axis_1)"
    assert second == "out: probabilities (batch, 7)"
    assert third.startswith(f"{out}: ")
    assert "2 of them GRU, no loop; within " in third
    assert third.endswith("of Keras on 4 random batches")
    assert [line.split(":")[0] for line in timings] == [
        f"batch 1, {steps} steps" for steps in (5, 20, 40)
    ]
    onnx.checker.check_model(onnx.load(out))
    assert list(tmp_path.iterdir()) == [out]

    before = out.read_bytes()
    result = run_cli(model_path, out)
    assert result.exit_code == 2
    assert result.stderr == f"error: {out}: expected no file there, found one. Pass --force.\n"
    assert out.read_bytes() == before
    assert run_cli(model_path, out, "--force").exit_code == 0


def test_what_is_no_model_is_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "broken.keras"
    path.write_bytes(b"PK\x03\x04 not a model")
    result = run_cli(path, tmp_path / "out.onnx")
    assert result.exit_code == 2
    assert result.stderr.startswith(
        f"error: {path}: expected a Keras model of layers that Keras knows, found: "
    )
    assert list(tmp_path.iterdir()) == [path]


def test_a_model_that_brings_code_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "lambda.keras"
    x = keras.Input((None, 3))
    model = keras.Model(x, layers.GRU(2)(layers.Lambda(lambda value: value * 2)(x)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(path)
    result = run_cli(path, tmp_path / "out.onnx")
    assert result.exit_code == 2
    assert "expected a Keras model of layers that Keras knows, found: " in result.stderr
    assert "Lambda" in result.stderr
    assert "name their module with --import." in result.stderr


def test_classes_of_ones_own_come_from_a_module_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_layers.py").write_text(
        "import keras\n\n\n"
        '@keras.saving.register_keras_serializable("own")\n'
        "class Twice(keras.layers.Layer):\n"
        "    def call(self, x):\n"
        "        return x * 2\n"
    )
    path, out = tmp_path / "own.keras", tmp_path / "own.onnx"
    code = (
        "import keras, own_layers; x = keras.Input((None, 3), name='x'); "
        f"keras.Model(x, keras.layers.GRU(4)(own_layers.Twice()(x))).save({str(path)!r})"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    result = run_cli(path, out)
    assert result.exit_code == 2
    assert "Could not locate class 'Twice'" in result.stderr
    monkeypatch.syspath_prepend(tmp_path)
    result = run_cli(path, out, "--import", "own_layers")
    assert result.exit_code == 0, result.output
    assert onnx.load(out).graph.input[0].name == "x"
    result = run_cli(path, out, "--force", "--import", "no_such_layers")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: --import no_such_layers: expected a Python module, found: No module named "
        "'no_such_layers'. Call this from the folder that holds it, or install it.\n"
    )


def test_a_missing_folder_is_bad_input(model_path: Path, tmp_path: Path) -> None:
    result = run_cli(model_path, tmp_path / "none" / "out.onnx")
    assert result.exit_code == 2
    expected = f"error: {tmp_path / 'none'}: expected a folder, found none. Make it first.\n"
    assert result.stderr == expected


def test_other_answers_than_keras_leave_no_file_and_exit_with_1(
    model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export.rewrite.parity, "TOLERANCE", 1e-30)
    result = run_cli(model_path, tmp_path / "out.onnx")
    assert result.exit_code == 1
    assert "error: Output 'probabilities': expected Keras's answers within 1.0e-30" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_package_imports_no_tensorflow() -> None:
    code = "import sys, export.rewrite, export.rewrite.rewrite_command; "
    code += "sys.exit(str({'tensorflow', 'keras', 'onnx', 'tf2onnx'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "set()"
