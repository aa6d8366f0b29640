from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import artifact_diff
from export.artifact_diff import compare_artifacts, is_unavoidable, measure_largest_difference
from export.bundle import BundleError, format_manifest, hash_file, list_files

GOLDEN = Path(__file__).parents[1] / "golden"
V2 = GOLDEN / "v2"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return shutil.copytree(V2, tmp_path / "2")


def refresh(artifact: Path, change: Callable[[dict[str, Any]], object] | None = None) -> None:
    """Let both manifests agree with the files again, after a change of the artifact's own."""
    lookup = artifact / "lookup" / "manifest.json"
    inner = json.loads(lookup.read_text())
    for name, record in inner["files"].items():
        path = artifact / "lookup" / name
        record |= {"bytes": path.stat().st_size, "sha256": hash_file(path)}
    lookup.write_text(json.dumps(inner))
    manifest = json.loads((artifact / "manifest.json").read_text())
    for name in set(list_files(artifact)) - {"manifest.json"}:
        path = artifact / name
        manifest["files"][name] = {"bytes": path.stat().st_size, "sha256": hash_file(path)}
    if change is not None:
        change(manifest)
    (artifact / "manifest.json").write_text(format_manifest(manifest))


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def test_the_same_bytes_are_identical(other: Path) -> None:
    found = compare_artifacts(V2, other)
    assert (found.is_identical, found.matters) == (True, False)


@pytest.mark.parametrize(
    "name", ["MODEL_CARD.md", "saved_model/saved_model.pb", "lookup/runtime/kernel/run.h"]
)
def test_what_cannot_be_helped_does_not_matter(other: Path, name: str) -> None:
    append(other / name)
    lookup_manifest = (other / "lookup" / "manifest.json").read_bytes()
    refresh(other, lambda manifest: manifest["provenance"].update(run="another"))
    (other / "lookup" / "manifest.json").write_bytes(lookup_manifest)
    refresh_only(other)
    found = compare_artifacts(V2, other)
    assert found.files == {name: "other"}
    assert found.provenance == {"run": ("golden", "another")}
    assert (found.is_identical, found.matters, found.same_files) == (False, False, 69)
    assert found.probes.rows == 256


def refresh_only(artifact: Path) -> None:
    """Let the artifact's manifest agree with the lookup folder's."""
    manifest = json.loads((artifact / "manifest.json").read_text())
    path = artifact / "lookup" / "manifest.json"
    record = {"bytes": path.stat().st_size, "sha256": hash_file(path)}
    manifest["files"]["lookup/manifest.json"] = record
    (artifact / "manifest.json").write_text(format_manifest(manifest))


def test_weights_of_a_saved_model_matter(other: Path) -> None:
    append(other / "saved_model/variables/variables.index")
    refresh(other)
    found = compare_artifacts(V2, other)
    assert found.files["saved_model/variables/variables.index"] == "other"
    assert found.matters
    assert not is_unavoidable("saved_model/variables/variables.index")


def test_an_array_is_compared_number_by_number(other: Path) -> None:
    path = other / "lookup" / "head_bias.npy"
    array = np.load(path)
    data = path.read_bytes()
    array[0] += 8
    path.write_bytes(data[: -array.nbytes] + array.tobytes())
    refresh(other)
    found = compare_artifacts(V2, other)
    assert found.arrays.keys() == {"head_bias"}
    assert found.arrays["head_bias"].largest == pytest.approx(8)
    assert found.probes.top_1_changes > 0
    assert found.probes.max_abs_probability_diff > 0.5
    assert found.probes.other_ids == 0
    assert found.matters


def test_arrays_of_other_types_are_told_by_type_and_shape() -> None:
    found = compare_artifacts(GOLDEN / "v1", V2)
    table = found.arrays["gate_table"]
    assert (table.first, table.second, table.largest) == ("<f4 (96, 9)", "<i2 (96, 9)", None)
    assert found.arrays["word_ids"].first is None
    assert "head_kernel" not in found.arrays
    assert found.settings["table_dtype"] == ("float32", "int16")
    assert found.settings["words"] == (0, 11)
    assert found.files["lookup/word_ids.npy"] == "only in B"
    assert compare_artifacts(V2, GOLDEN / "v1").files["lookup/word_ids.npy"] == "only in A"
    assert found.probes.other_ids == 1  # the two tokenizers
    assert found.matters


def test_labels_that_came_and_went_are_named(other: Path) -> None:
    for folder in (other, other / "lookup"):
        (folder / "labels.json").write_text('["animal", "plant"]')
    refresh(
        other,
        lambda manifest: manifest.update(labels_sha256=manifest["files"]["labels.json"]["sha256"]),
    )
    found = compare_artifacts(V2, other)
    assert (found.labels_added, found.labels_removed) == (("plant",), ("other",))
    assert found.probes.reason == "The labels are not the same."
    assert found.settings.keys() == {"labels_sha256"}


def test_figures_alone_do_not_matter(other: Path) -> None:
    refresh_only(other)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["metrics"]["test"]["top_1"] = 0.3
    manifest["parity"]["rows"] = 41
    manifest["version"] = 9
    (other / "manifest.json").write_text(format_manifest(manifest))
    found = compare_artifacts(V2, other)
    assert (found.metrics, found.parity) == ({"test.top_1": (0.2, 0.3)}, {"rows": (40, 41)})
    assert (found.settings, found.files, found.matters) == ({}, {}, False)


def test_a_setting_matters(other: Path) -> None:
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["model"]["head_dropout"] = 0.5
    (other / "manifest.json").write_text(format_manifest(manifest))
    found = compare_artifacts(V2, other)
    assert found.settings == {"model.head_dropout": (0.0, 0.5)}
    assert found.matters


def test_an_oracle_that_was_deleted_does_not_matter(other: Path, tmp_path: Path) -> None:
    oracle = other / "oracle" / "model_tf2onnx.onnx"
    oracle.parent.mkdir(exist_ok=True)
    oracle.write_bytes(b"graph")
    refresh(other)
    copy = shutil.copytree(other, tmp_path / "without")
    (copy / "oracle" / "model_tf2onnx.onnx").unlink()
    found = compare_artifacts(other, copy)
    assert found.files == {"oracle/model_tf2onnx.onnx": "only in A"}
    assert not found.matters


def test_damage_and_lookup_folders_are_refused(other: Path) -> None:
    with pytest.raises(BundleError, match=r"lookup: expected an artifact, found a lookup folder"):
        compare_artifacts(V2, other / "lookup")
    (other / "labels.json").write_text("[]")
    with pytest.raises(BundleError, match=r"labels.json: expected 26 bytes"):
        compare_artifacts(V2, other)


@pytest.mark.parametrize("size", [0, 1, 4, 5, 9])
def test_the_largest_difference_is_found_in_every_chunk(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(artifact_diff, "_CHUNK", 4)
    one = np.zeros((size, 1), np.int8)
    for row in range(size):
        two = one.copy()
        two[row] = -128
        assert measure_largest_difference(two, one) == 128.0
    assert measure_largest_difference(one, one) == 0.0
