from __future__ import annotations

import dataclasses
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from export.bundle import iterate_versions, read_artifact, remove_partials
from export.difference import AgreementError
from export.lookup import read_lookup
from export.lookup.native import is_available
from export.preflight import ExportError
from export.publish import BusyError, export_run, hash_exporter, hash_run
from export.weights import ModelWeights
from pipeline.run_folder import Run, RunError
from tests.export.tiny import make_texts

ROOT = Path(__file__).parents[2]


def read_tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def run_cli(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "export", *arguments],
        cwd=ROOT,
        env={**os.environ, "GATETABLE_BUILD": ""},
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )


def test_a_second_export_of_the_same_name_is_refused(hollow_run: Run, tmp_path: Path) -> None:
    (tmp_path / "artifacts" / "tiny").mkdir(parents=True)
    with (
        FileLock(tmp_path / "artifacts" / "tiny" / ".lock"),
        pytest.raises(BusyError, match=r"expected to be the only export of 'tiny', found another"),
    ):
        export_run(hollow_run.folder, tmp_path / "artifacts")


def test_a_missing_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"run.json: no such file"):
        export_run(tmp_path / "none", tmp_path / "artifacts")


def test_an_unsafe_name_is_refused(hollow_run: Run, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected 1 to 100 letters"):
        export_run(hollow_run.folder, tmp_path / "artifacts", name="../up")
    assert not (tmp_path / "up").exists()


@pytest.mark.parametrize(
    "name", ["model.keras", "tokenizer.model", "labels.json", "run.json", "words.txt"]
)
def test_the_run_hash_covers_every_file_that_is_read(hollow_run: Run, name: str) -> None:
    before = hash_run(hollow_run)
    with (hollow_run.folder / name).open("ab") as file:
        file.write(b"\n")
    assert hash_run(hollow_run) != before


def test_a_run_that_keeps_no_words_has_a_hash_of_its_own(hollow_run: Run) -> None:
    before = hash_run(hollow_run)
    hollow_run.words_path.unlink()
    assert hash_run(hollow_run) != before


def test_the_exporter_hash_is_stable() -> None:
    assert hash_exporter() == hash_exporter()


@pytest.mark.slow
def test_a_model_file_that_is_no_model_is_refused(hollow_run: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"model.keras: expected a Keras model, found"):
        export_run(hollow_run.folder, tmp_path / "artifacts")
    assert list((tmp_path / "artifacts" / "tiny").glob("[!.]*")) == []


@pytest.mark.slow
def test_an_export_publishes_every_form_with_its_proof(published: Path, tiny_run: Run) -> None:
    artifact = read_artifact(published)
    parity = artifact.manifest["parity"]
    engines = {"lookup", "lookup_numpy"} if is_available() else {"lookup"}
    forms = {"saved_model", "saved_model_text", "onnx", "tf2onnx"}
    assert set(parity["backends"]) == forms | engines
    for backend in parity["backends"].values():
        assert backend["max_abs_probability_diff"] <= 1e-5
        assert (backend["rows"], backend["top_k_disagreements"]) == (len(make_texts()), 0)
    assert parity["tokenizer_differences"] == 0
    assert parity["probes"] >= 256
    replayed = artifact.manifest["metrics"]["replayed"]
    assert replayed["lookup"] == replayed["keras"] == replayed["onnx"]
    assert artifact.manifest["metrics"]["test"] == tiny_run.metrics["test"]
    assert artifact.manifest["provenance"]["run"] == "tiny"
    assert artifact.oracle_path.is_file()
    golden = artifact.golden_path.read_bytes()
    assert golden == (artifact.lookup_path / "golden.jsonl").read_bytes()
    assert json.loads(golden.splitlines()[0])["ids"] == [1]
    assert (published.parent / "latest").read_text() == "1\n"
    assert not list(published.parent.glob(".partial-*"))


@pytest.mark.slow
def test_the_same_run_again_does_nothing(published: Path, tiny_run: Run) -> None:
    result = export_run(tiny_run.folder, published.parents[1])
    assert (result.is_new, result.artifact.folder) == (False, published)
    assert list(iterate_versions(published.parent)) == [1]


@pytest.mark.slow
def test_an_export_of_nothing_new_leaves_a_rollback_alone_and_heals_what_was_killed(
    artifact_copy: Path, tiny_run: Run
) -> None:
    folder = artifact_copy.parent
    (folder / "latest").write_text("7\n")
    (folder / "history.jsonl").write_text('{"version": 7, "why": "rollback", "at": ""}\n')
    export_run(tiny_run.folder, folder.parent)
    assert (folder / "latest").read_text() == "7\n"
    (folder / "history.jsonl").unlink()
    export_run(tiny_run.folder, folder.parent)
    assert (folder / "latest").read_text() == "1\n"


@pytest.mark.slow
def test_a_damaged_newest_version_is_exported_again(
    artifact_copy: Path, tiny_run: Run, without_oracle: None
) -> None:
    (artifact_copy / "model.onnx").write_bytes(b"")
    result = export_run(tiny_run.folder, artifact_copy.parents[1])
    assert (result.is_new, result.artifact.version) == (True, 2)


@pytest.mark.slow
def test_two_processes_write_the_same_bytes(tiny_run: Run, tmp_path: Path) -> None:
    build = tmp_path / "build"
    build.mkdir()
    (build / "runs").symlink_to(tiny_run.folder.parent)
    trees = []
    for name in ("1", "2"):
        done = run_cli("export", "--build", str(build), "--force")
        assert done.returncode == 0, done.stderr
        tree = read_tree(build / "artifacts" / "tiny" / name)
        manifest = json.loads(tree.pop("manifest.json"))
        assert manifest.pop("version") == int(name)
        assert manifest.pop("manifest_sha256")
        trees.append((tree, manifest))
    assert trees[0] == trees[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "backend"),
    [("export.forms.build_onnx", "onnx"), ("export.forms.fold_weights", "lookup")],
)
def test_a_form_that_disagrees_publishes_nothing(
    tiny_run: Run,
    tmp_path: Path,
    monkeypatch: Any,
    without_oracle: None,
    target: str,
    backend: str,
) -> None:
    build = getattr(importlib.import_module("export.forms"), target.rpartition(".")[2])

    def perturb(weights: ModelWeights, *rest: Any) -> Any:
        head_bias = weights.head_bias.copy()
        head_bias[0] += 0.01
        return build(dataclasses.replace(weights, head_bias=head_bias), *rest)

    monkeypatch.setattr(target, perturb)
    with pytest.raises(
        AgreementError,
        match=rf"(?s)does not agree .*- {backend}: expected probabilities within 1e-05 of Keras's, "
        r"found a difference of 0\.00\d+ on '",
    ):
        export_run(tiny_run.folder, tmp_path / "artifacts")
    assert [path.name for path in (tmp_path / "artifacts" / "tiny").iterdir()] == [".lock"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "found"),
    [("", "no text"), ('{"text": "cat", "label": 5}\n', r"labels \[5\]")],
)
def test_a_split_that_cannot_prove_anything_is_refused(
    make_run: Callable[..., Run], tmp_path: Path, line: str, found: str
) -> None:
    run = make_run(tmp_path / "runs" / "one")
    run.test_split_path.write_text(line)
    with pytest.raises(ExportError, match=rf"expected texts with labels 0 to 4, found {found}"):
        export_run(run.folder, tmp_path / "artifacts")


@pytest.mark.slow
def test_a_killed_export_leaves_no_version(tiny_run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "build" / "artifacts" / "tiny"
    folder.mkdir(parents=True)
    (tmp_path / "build" / "runs").symlink_to(tiny_run.folder.parent)
    process = subprocess.Popen(
        [sys.executable, "-m", "export", "export", "--build", str(tmp_path / "build")],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not list(folder.glob(".partial-*/saved_model/saved_model.pb")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert list(iterate_versions(folder)) == []
    assert not (folder / "latest").exists()
    # The lock of the dead process is no obstacle to the next one, which sweeps its leftovers.
    with FileLock(folder / ".lock", blocking=False):
        remove_partials(folder)
    assert sorted(path.name for path in folder.iterdir()) == [".lock"]


@pytest.mark.slow
def test_an_artifact_holds_a_word_table(published: Path) -> None:
    entry = read_artifact(published).manifest["word_table"]
    words = read_lookup(published / "lookup").words
    assert words is not None
    assert entry["words"] == words.sizes.words == 11
    assert 0 < entry["test_text_share"] < entry["test_word_share"] < 1


@pytest.mark.slow
@pytest.mark.usefixtures("without_oracle")
def test_a_run_without_words_is_published_without_a_word_table(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    run = make_run(tmp_path / "runs" / "old")
    run.words_path.unlink()
    artifact = export_run(run.folder, tmp_path / "artifacts").artifact
    assert artifact.manifest["word_table"]["refusal"].startswith("The run has no words.txt: ")
    assert read_lookup(artifact.lookup_path).words is None
    card = (artifact.folder / "MODEL_CARD.md").read_text()
    assert "The lookup folder has no word table. The run has no words.txt: " in card
