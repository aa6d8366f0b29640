from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from export.bundle import Artifact
from serving_compare.bench.cold import STAGES, STARTS
from serving_compare.child import ChildJob, run_children
from serving_compare.compare import list_files

from .conftest import needs_native


def start(artifact: Artifact, output: Path, backend: str, interface: str) -> dict[str, Any]:
    job = ChildJob(
        name=backend,
        fields={
            "backend": backend,
            "interface": interface,
            "files": list_files(artifact)._asdict(),
            "texts": ["red cat", "old house"],
            "ids": [4, 5],
            "round": 3,
        },
        output=output,
        timeout_s=60,
    )
    run_children([job], cores=[None], module="serving_compare.bench.cold")
    facts: dict[str, Any] = json.loads(output.with_suffix(".json").read_text())
    return facts


@pytest.mark.parametrize("interface", ["ids", "text"])
@pytest.mark.parametrize(
    "backend", ["lookup numpy", pytest.param("lookup native", marks=needs_native), "null"]
)
def test_a_fresh_process_is_split_into_stages(
    backend: str, interface: str, artifact: Artifact, tmp_path: Path
):
    facts = start(artifact, tmp_path / "out", backend, interface)
    assert tuple(facts["stages_ns"]) == STAGES
    assert all(ns > 0 for ns in facts["stages_ns"].values())
    assert facts["memory"]["peak_bytes"] > 2**20


def test_nothing_but_the_standard_library_is_imported_before_the_backend():
    import subprocess
    import sys

    code = "import sys, serving_compare.bench.cold; sys.exit('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], timeout=60)
    assert done.returncode == 0


def test_the_names_are_those_of_the_tables():
    assert list(STARTS) == ["lookup native", "lookup numpy", "onnx", "saved_model", "null"]
