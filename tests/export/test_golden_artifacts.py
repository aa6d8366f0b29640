"""Frozen artifacts of every format version load and replay for ever."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from export.agreement import replay_probes
from export.bundle import FORMAT_VERSION, list_files, read_artifact
from export.lookup import load_lookup, read_lookup
from export.lookup.native import is_available
from export.lookup.seal import hash_sealed
from export.runtimes import load_onnx, pad_ids
from export.verify import verify_artifact

GOLDEN = Path(__file__).parents[1] / "golden"
VERSIONS = [f"v{version}" for version in range(1, FORMAT_VERSION + 1)]
FROZEN = {
    "v1": "ed89c42ea2d9f7d231679395ca904271654e631eed0a9ddd8239b9d0fc1a3545",
    "v2": "2586bc9095492274c96f01eb7f4b8e3a610b602754dc63c7ab99f65d86dc9bbd",
    "v3": "925677234d1fa86a5a7a0a6e7c2ee1dd61d7536d4af7e829fc5efd458300c85a",
}
"""Version -> sha256 over names and contents of its files: nobody edits a frozen artifact."""


def hash_tree(folder: Path) -> str:
    total = hashlib.sha256()
    for name in list_files(folder):
        total.update(
            f"{name} {hashlib.sha256((folder / name).read_bytes()).hexdigest()}\n".encode()
        )
    return total.hexdigest()


def test_every_format_version_has_a_frozen_artifact() -> None:
    assert sorted(path.name for path in GOLDEN.glob("v*") if path.is_dir()) == sorted(VERSIONS)
    assert set(FROZEN) == set(VERSIONS)


@pytest.mark.parametrize("version", VERSIONS)
def test_frozen_bytes_are_untouched(version: str) -> None:
    assert hash_tree(GOLDEN / version) == FROZEN[version]


@pytest.mark.parametrize("version", VERSIONS)
def test_frozen_artifact_reads(version: str) -> None:
    artifact = read_artifact(GOLDEN / version)
    assert artifact.name == "tiny"
    assert len(artifact.labels) == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_frozen_onnx_graph_replays(version: str) -> None:
    probes = read_lookup(GOLDEN / version / "lookup").golden
    (difference,) = replay_probes([load_onnx(GOLDEN / version / "model.onnx")], probes, 2)
    assert difference.problems == ()


@pytest.mark.parametrize("version", VERSIONS)
def test_frozen_tables_replay_in_todays_runtime(version: str) -> None:
    model = load_lookup(GOLDEN / version / "lookup")
    probes = read_lookup(GOLDEN / version / "lookup").golden
    found = model.probabilities(*pad_ids([probe.ids for probe in probes]))
    expected = np.array([probe.probabilities for probe in probes], np.float32)
    tolerance = read_lookup(GOLDEN / version / "lookup").tolerance
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    assert [label for label, _ in model.predict([probes[5].text], k=2)[0]]


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_from_version_2_on_there_is_a_word_table(version: str) -> None:
    words = read_lookup(GOLDEN / version / "lookup").words
    entry = read_artifact(GOLDEN / version).manifest["word_table"]
    assert words is not None
    assert words.sizes.words == entry["words"] == 11
    assert entry["refusal"] is None


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_from_version_2_on_arrays_are_compressed(version: str) -> None:
    files = read_lookup(GOLDEN / version / "lookup")
    assert (files.config.table_dtype, files.config.recurrent_dtype) == ("int16", "int8")
    compression = read_artifact(GOLDEN / version).manifest["compression"]
    assert compression["tolerance"] == files.tolerance
    assert len(compression["options"]) == 7


@pytest.mark.parametrize("version", VERSIONS)
def test_from_version_3_on_both_manifests_hold_their_checksum(version: str) -> None:
    is_sealed = version not in ("v1", "v2")
    for folder in (GOLDEN / version, GOLDEN / version / "lookup"):
        data = (folder / "manifest.json").read_bytes()
        digest = json.loads(data).get("manifest_sha256")
        assert (digest is not None) == is_sealed
        assert digest is None or hash_sealed(data, digest) == digest


@pytest.mark.parametrize("version", VERSIONS)
def test_frozen_tables_replay_in_the_runtime_they_carry(version: str) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); "
        "from runtime import load_lookup; load_lookup(sys.argv[1]).predict(['cat'])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", code, str(GOLDEN / version / "lookup")],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_frozen_artifact_passes_verification(version: str) -> None:
    backends = verify_artifact(GOLDEN / version).backends
    engines = ["lookup", "lookup_numpy"] if is_available() else ["lookup"]
    names = [backend.name for backend in backends]
    assert names == ["saved_model", "saved_model_text", "onnx", *engines]
