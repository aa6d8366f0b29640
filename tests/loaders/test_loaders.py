"""Every loader of docs/loaders/ and the C example give the same labels for the golden probes."""

from __future__ import annotations

import io
import runpy
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.loaders.probes import LOADERS, ROOT, Probes, read_probes
from tests.serving_compare.server.running import GOLDEN, run_server

NODE = shutil.which("node")
NODE_MODULES = LOADERS / "node" / "node_modules"
COMPILER = shutil.which("cc")


@pytest.fixture(scope="module")
def probes(artifact: Path) -> Probes:
    return read_probes(artifact)


def run_alone(command: list[object], probes: Probes, folder: Path, text: str | None = None) -> None:
    """Run a loader on the probes, `folder` its working directory, and check what it prints."""
    done = subprocess.run(
        [str(part) for part in command],
        input=probes.lines if text is None else text,
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    probes.check_printed(done.stdout)


@pytest.mark.parametrize(
    "name",
    ["lookup", "onnxruntime_ids", pytest.param("openvino_ids", marks=pytest.mark.slow)],
)
def test_a_python_loader_gives_the_golden_labels(name: str, artifact: Path, probes: Probes) -> None:
    # -I: neither the repository nor a variable helps; only the artifact is there.
    script = shutil.copy(LOADERS / f"{name}.py", artifact.parent)
    run_alone([sys.executable, "-I", script, "artifact"], probes, artifact.parent)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["saved_model_ids", "saved_model_text"])
def test_a_tensorflow_loader_gives_the_golden_labels(
    name: str,
    artifact_with_saved_models: Path,
    probes: Probes,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # In this process, which has imported TensorFlow already: that takes ten seconds.
    monkeypatch.setattr(sys, "argv", ["loader", str(artifact_with_saved_models)])
    monkeypatch.setattr(sys, "stdin", io.StringIO(probes.lines))
    runpy.run_path(str(LOADERS / f"{name}.py"))
    probes.check_printed(capsys.readouterr().out)


def test_the_node_loader_gives_the_golden_labels(artifact: Path, probes: Probes) -> None:
    if NODE is None:
        pytest.skip("no node on this machine")
    if not NODE_MODULES.is_dir():
        pytest.skip("no packages for Node: run `npm ci` in docs/loaders/node")
    run_alone([NODE, LOADERS / "node" / "load.mjs", "artifact"], probes, artifact.parent)


def test_the_c_example_gives_the_golden_labels(
    artifact: Path, probes: Probes, tmp_path: Path
) -> None:
    if COMPILER is None:
        pytest.skip("no C compiler on this machine")
    kernel = artifact / "lookup" / "runtime" / "kernel"
    program, source = tmp_path / "predict", ROOT / "docs" / "examples" / "c" / "predict.c"
    subprocess.run(
        [COMPILER, "-O0", "-I", kernel, source, kernel / "gatetable.c", "-o", program, "-lm"],
        check=True,
    )
    done = subprocess.run(
        [program, artifact / "lookup", "3"],
        input="".join(" ".join(map(str, row["ids"])) + "\n" for row in probes.rows),
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    # Label, tab, probability, tab, label, ...
    probes.check([line.split("\t")[::2] for line in done.stdout.splitlines()])


@pytest.mark.slow
def test_the_open_inference_client_gives_the_golden_labels(tmp_path: Path) -> None:
    # A server wants a published artifact; the golden one has two labels.
    probes = replace(read_probes(GOLDEN), k=2)
    with run_server(tmp_path) as running:
        script = LOADERS / "open_inference.py"
        command: list[object] = [sys.executable, "-I", script, running.urls["lookup"], "tiny", 2]
        run_alone(command, probes, tmp_path)


def test_the_lock_of_node_packages_names_no_registry() -> None:
    lock = (LOADERS / "node" / "package-lock.json").read_text(encoding="utf-8")
    assert '"resolved"' not in lock
    assert '"node_modules/onnxruntime-node"' in lock
    assert lock.count('"integrity"') == lock.count('    "node_modules/')
