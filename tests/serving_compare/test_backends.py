from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from export.bundle import Artifact
from serving_compare.backends import (
    BACKENDS,
    ArtifactFiles,
    LookupBackend,
    NullBackend,
    StageClock,
    measure_size_bytes,
    needed_paths,
)


@pytest.fixture
def files(tmp_path: Path) -> ArtifactFiles:
    for name, size in {
        "saved_model/saved_model.pb": 1,
        "saved_model/variables/variables.index": 2,
        "saved_model_text/saved_model.pb": 10,
        "model.onnx": 100,
        "tokenizer.model": 1000,
        "oracle/model_tf2onnx.onnx": 200,
        "lookup/gate_table.npy": 10_000,
        "lookup/runtime/model.py": 5,
        "lookup/runtime/__pycache__/model.pyc": 7,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    return ArtifactFiles(
        saved_model=str(tmp_path / "saved_model"),
        saved_model_text=str(tmp_path / "saved_model_text"),
        onnx=str(tmp_path / "model.onnx"),
        lookup=str(tmp_path / "lookup"),
        tokenizer=str(tmp_path / "tokenizer.model"),
        tf2onnx=str(tmp_path / "oracle/model_tf2onnx.onnx"),
        max_tokens=8,
        num_classes=3,
    )


def test_backends_have_their_documented_names():
    assert list(BACKENDS) == [
        "saved_model",
        "onnx",
        "lookup",
        "lookup_numpy",
        "tf2onnx",
        "openvino",
        "litert",
        "torch",
        "null",
    ]


def test_size_counts_exactly_what_a_backend_needs(files: ArtifactFiles):
    sizes = {
        name: (measure_size_bytes(name, "ids", files), measure_size_bytes(name, "text", files))
        for name in BACKENDS
    }
    assert sizes == {
        "saved_model": (3, 10),
        "onnx": (100, 1100),
        "lookup": (10_005, 10_005),
        "lookup_numpy": (10_005, 10_005),
        "tf2onnx": (200, 1200),
        "openvino": (100, 1100),
        "litert": (100, 1100),  # not converted yet: what it would be made from
        "torch": (100, 1100),
        "null": (0, 0),
    }


def test_every_backend_names_its_files(files: ArtifactFiles):
    assert [path.name for path in needed_paths("onnx", "text", files)] == [
        "model.onnx",
        "tokenizer.model",
    ]


def test_stages_add_up_to_the_time_since_spawn():
    spawned_ns = time.perf_counter_ns()
    clock = StageClock(spawned_ns)
    clock.mark("start")
    clock.mark("load")
    clock.mark("load")
    total_ns = sum(clock.stages_ns.values())
    assert list(clock.stages_ns) == ["start", "load"]
    assert 0 < total_ns <= time.perf_counter_ns() - spawned_ns


def test_null_answers_at_once_with_the_shape_of_one_row(files: ArtifactFiles):
    backend = NullBackend()
    clock = StageClock(time.perf_counter_ns())
    backend.load(files, "text", clock)
    assert set(clock.stages_ns) == {"import", "load"}
    answer = backend.run_texts(["a"])
    assert answer is backend.run_ids(np.zeros((1, 1), np.int32), np.ones(1, np.int32))
    assert answer.shape == (1, 3)


def test_lookup_answers_text_as_it_answers_the_ids_of_the_text(artifact: Artifact):
    backend = LookupBackend()
    place = str(artifact.folder)
    files = ArtifactFiles(place, place, place, str(artifact.lookup_path), place, place, 32, 3)
    backend.load(files, "text", StageClock(time.perf_counter_ns()))
    texts = ["red house", "", "a green river flows slow"]
    ids, lengths = backend._model.encode(texts)
    np.testing.assert_allclose(backend.run_texts(texts), backend.run_ids(ids, lengths), atol=1e-6)


def test_importing_backends_and_worker_pulls_no_library():
    """What the harness imported first would be missing from a backend's cold start."""
    code = (
        "import sys, serving_compare.worker; "
        "heavy = {'numpy', 'tensorflow', 'onnxruntime', 'sentencepiece', 'scipy', 'rich'}; "
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
