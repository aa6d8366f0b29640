from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from export.bundle import BundleError, format_manifest, hash_file
from export.difference import AgreementError
from export.lookup.native import is_available
from export.verify import verify_artifact

GOLDEN = Path(__file__).parents[1] / "golden" / "v1"


def refresh_manifest(artifact: Path, name: str) -> None:
    """Let the manifest describe a file that a test has changed."""
    path = artifact / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"][name] = {
        "bytes": (artifact / name).stat().st_size,
        "sha256": hash_file(artifact / name),
    }
    path.write_text(format_manifest(manifest))


def test_copies_that_differ_are_refused(tmp_path: Path) -> None:
    artifact = shutil.copytree(GOLDEN, tmp_path / "v1")
    with (artifact / "golden.jsonl").open("a") as file:
        file.write("\n")
    refresh_manifest(artifact, "golden.jsonl")
    with pytest.raises(BundleError, match=r"lookup/golden.jsonl: expected the same bytes as gold"):
        verify_artifact(artifact)


@pytest.mark.parametrize("key", ["labels_sha256", "tokenizer_sha256"])
def test_hashes_named_twice_must_be_the_same(tmp_path: Path, key: str) -> None:
    artifact = shutil.copytree(GOLDEN, tmp_path / "v1")
    manifest = json.loads((artifact / "manifest.json").read_text())
    manifest[key] = "0" * 64
    (artifact / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=rf"manifest.json {key}: expected [0-9a-f]{{64}} as"):
        verify_artifact(artifact)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [("table_dtype", "float32", "'int16'"), ("tolerance", 0.5, r"0\.0\d+")],
)
def test_the_artifact_tells_of_its_lookup_folder_what_the_folder_tells(
    tmp_path: Path, key: str, value: object, expected: str
) -> None:
    artifact = shutil.copytree(GOLDEN.parent / "v2", tmp_path / "v2")
    manifest = json.loads((artifact / "manifest.json").read_text())
    manifest["compression"][key] = value
    (artifact / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(
        BundleError, match=rf"compression\.{key}: expected {expected} as lookup/ has"
    ):
        verify_artifact(artifact)


@pytest.mark.slow
def test_every_form_of_a_published_artifact_replays(published: Path) -> None:
    result = verify_artifact(published)
    engines = ["lookup", "lookup_numpy"] if is_available() else ["lookup"]
    names = [backend.name for backend in result.backends]
    assert names == ["saved_model", "saved_model_text", "onnx", "tf2onnx", *engines]
    assert min(backend.rows for backend in result.backends) >= 5 * 256


@pytest.mark.slow
def test_a_form_exchanged_for_another_model_is_found(artifact_copy: Path) -> None:
    import onnx
    from onnx import numpy_helper

    path = artifact_copy / "model.onnx"
    model = onnx.load(path)
    for constant in model.graph.initializer:
        if constant.name == "head_bias":
            changed = numpy_helper.to_array(constant).copy()
            changed[0] += 0.01
            constant.CopyFrom(numpy_helper.from_array(changed, "head_bias"))
    onnx.save(model, path)
    refresh_manifest(artifact_copy, "model.onnx")
    with pytest.raises(AgreementError, match=r"onnx: expected probabilities within 1e-05"):
        verify_artifact(artifact_copy)
