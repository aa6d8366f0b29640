from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from export import inspection
from export.bundle import BundleError, format_manifest, hash_file
from export.inspection import find_folder, inspect_folder, is_lookup_folder, read_graph
from export.lookup import ArtifactError

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return shutil.copytree(GOLDEN / "v2", tmp_path / "artifacts" / "tiny" / "2")


@pytest.mark.parametrize(
    ("version", "stored", "words", "files"),
    [
        ("v1", ("float32", "float32"), 0, 35),
        ("v2", ("int16", "int8"), 11, 70),
        ("v3", ("int16", "int8"), 11, 72),
    ],
)
def test_an_artifact_is_told_from_its_files(
    version: str, stored: tuple[str, str], words: int, files: int
) -> None:
    found = inspect_folder(GOLDEN / version)
    assert (found.kind, found.name, found.version) == ("artifact", "tiny", 1)
    assert found.schema_version == found.format_version == found.lookup_format_version
    assert found.axes == {"V": 96, "E": 3, "H": 3, "C": 2}
    assert (found.labels, found.max_tokens, found.probes) == (("animal", "other"), 6, 256)
    assert (found.table_dtype, found.recurrent_dtype) == stored
    assert (found.words, len(found.files)) == (words, files)
    assert all(file.holds for file in found.files)
    assert found.damaged == found.notes == ()
    assert found.metrics["test"]["top_1"] == 0.2
    assert found.provenance["run"] == "golden"
    assert found.parity["probes"] == 256
    assert not found.is_signed


def test_arrays_are_told_as_they_are_stored() -> None:
    arrays = inspect_folder(GOLDEN / "v2").arrays
    assert arrays["gate_table"] == ("<i2", (96, 9))
    assert arrays["recurrent_kernel"] == ("|i1", (3, 9))
    assert arrays["word_ids"] == ("<i4", (16,))


def test_graphs_are_told_by_their_operators() -> None:
    (graph,) = inspect_folder(GOLDEN / "v2").graphs
    assert (graph.name, graph.opsets, graph.ir_version) == ("model.onnx", {"": 18}, 8)
    assert graph.operators["GRU"] == 1
    assert list(graph.operators.values()) == sorted(graph.operators.values(), reverse=True)
    assert "Loop" not in graph.operators


def test_operators_of_subgraphs_and_other_domains_are_counted(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    constant = helper.make_node("Custom", [], ["y"], domain="ours")
    branches = [helper.make_graph([constant], name, [], [value]) for name in ("one", "two")]
    choice = helper.make_node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1])
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [1])
    graph = helper.make_graph([choice], "outer", [condition], [value])
    onnx.save(helper.make_model(graph), tmp_path / "model.onnx")
    assert read_graph(tmp_path, "model.onnx").operators == {"ours.Custom": 2, "If": 1}


def test_a_lookup_folder_alone_is_told() -> None:
    assert is_lookup_folder(GOLDEN / "v2" / "lookup")
    assert not is_lookup_folder(GOLDEN / "v2")
    found = inspect_folder(GOLDEN / "v2" / "lookup")
    assert (found.kind, found.name, found.schema_version) == ("lookup", None, None)
    assert (found.format_version, found.model["units"], len(found.files)) == (2, 3, 14)
    assert found.damaged == found.graphs == ()


def test_a_file_with_another_checksum_is_named(artifact: Path) -> None:
    path = artifact / "lookup" / "gate_table.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    assert inspect_folder(artifact).damaged == ("lookup/gate_table.npy",)
    assert inspect_folder(artifact / "lookup").damaged == ("gate_table.npy",)
    skipped = inspect_folder(artifact, check_hashes=False)
    assert skipped.damaged == ()
    assert {file.holds for file in skipped.files} == {None}


def test_progress_counts_every_byte(artifact: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    found = inspect_folder(artifact, progress=lambda *call: calls.append(call))
    total = sum(file.size for file in found.files)
    assert len(calls) == len(found.files)
    assert {call[2] for call in calls} >= {total}
    assert calls[-1][1] == total - found.files[-1].size


def test_a_signature_beside_the_folder_is_told(artifact: Path) -> None:
    (artifact.parent / "2.sig").write_bytes(b"\0" * 64)
    assert inspect_folder(artifact).is_signed


def test_the_card_tells_of_calibration(artifact: Path) -> None:
    assert inspect_folder(artifact).calibration is None  # a card of before there was any
    card = artifact / "MODEL_CARD.md"
    card.write_text("# tiny\n\nThe probabilities are\ncalibrated: so and so.\n\nMore.\n")
    manifest = json.loads((artifact / "manifest.json").read_text())
    manifest["files"]["MODEL_CARD.md"] = {"bytes": card.stat().st_size, "sha256": hash_file(card)}
    (artifact / "manifest.json").write_text(format_manifest(manifest))
    assert inspect_folder(artifact).calibration == "The probabilities are calibrated: so and so."


def test_what_is_no_graph_is_noted_not_fatal(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (artifact / "model.onnx").write_bytes(b"\xff" * (artifact / "model.onnx").stat().st_size)
    found = inspect_folder(artifact)
    assert found.damaged == ("model.onnx",)
    assert [note for note in found.notes if "model.onnx: expected an ONNX model, found" in note]
    monkeypatch.setattr(inspection, "MAX_ONNX_BYTES", 10)
    with pytest.raises(ValueError, match=r"model.onnx: expected at most 10 bytes to open it"):
        read_graph(artifact, "model.onnx")


def test_without_onnx_the_rest_is_told(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    found = inspect_folder(artifact)
    assert found.graphs == ()
    assert "model.onnx: not opened. Install the extra `export` for onnx." in found.notes[0]


def test_folders_are_found_by_path_name_and_version_in_use(artifact: Path) -> None:
    artifacts, folder = artifact.parents[1], artifact.parent
    shutil.copytree(artifact, folder / "3")
    (folder / "latest").write_text("2\n")
    for text in (None, "tiny", str(folder), str(artifact)):
        assert find_folder(text, artifacts).resolve() == artifact, text
    assert find_folder(str(artifact / "lookup"), artifacts) == artifact / "lookup"


def test_what_is_no_folder_of_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"a/b: expected an artifact's folder, found none\. Corr"):
        find_folder("a/b", tmp_path)
    with pytest.raises(BundleError, match="no artifact named 'other'; there are: none"):
        find_folder("other", tmp_path)
    with pytest.raises(BundleError, match="is neither an artifact nor a lookup folder"):
        find_folder(str(tmp_path), tmp_path)


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000])
def test_a_manifest_that_is_none_is_refused(artifact: Path, text: str) -> None:
    (artifact / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match=r"manifest.json: expected"):
        inspect_folder(artifact)
    (artifact / "lookup" / "manifest.json").write_text('{"format": "gatetable-lookup"}')
    with pytest.raises(ArtifactError, match=r"manifest.json: expected format_version"):
        inspect_folder(artifact / "lookup")


def test_no_runtime_is_imported() -> None:
    code = (
        "import sys; from pathlib import Path; from export.inspection import inspect_folder; "
        "from export.artifact_diff import compare_artifacts; "
        "a, b = map(Path, sys.argv[1:]); inspect_folder(a); compare_artifacts(a, b); "
        "sys.exit(','.join({'tensorflow', 'keras', 'onnxruntime'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, GOLDEN / "v1", GOLDEN / "v2"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_what_the_exporter_writes_today_is_told(published: Path) -> None:
    found = inspect_folder(published)
    assert (found.schema_version, found.damaged, found.notes) == (3, (), ())
    assert str(found.calibration).startswith("The probabilities are calibrated: the logits were")
    product, oracle = found.graphs
    assert (product.operators["GRU"], oracle.operators["Loop"]) == (2, 2)
    assert found.model["gru_dropout"] == 0.1
