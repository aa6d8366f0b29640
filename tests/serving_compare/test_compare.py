from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.bundle import Artifact
from export.lookup.native import is_available
from serving_compare.compare import (
    BackendsError,
    choose_backends,
    describe_artifact,
    make_questions,
    measure_accuracy,
)
from serving_compare.workload import LabelledTexts


def test_all_backends_with_files_are_compared_by_default(artifact: Artifact, tmp_path: Path):
    found = choose_backends(artifact, None)
    assert [name for name in found if name != "lookup_numpy"] == [
        "saved_model",
        "onnx",
        "lookup",
        "null",
    ]
    # Without a kernel, `lookup` is the NumPy engine already.
    assert ("lookup_numpy" in found) == is_available()
    (tmp_path / "oracle").mkdir()
    (tmp_path / "oracle" / "model_tf2onnx.onnx").touch()
    with_oracle = replace(artifact, folder=tmp_path)
    assert choose_backends(with_oracle, None)[-2] == "tf2onnx"
    assert choose_backends(with_oracle, ["tf2onnx"]) == ["tf2onnx", "null"]


def test_chosen_backends_come_in_the_order_of_the_tables_with_null(artifact: Artifact):
    assert choose_backends(artifact, ["lookup", "onnx"]) == ["onnx", "lookup", "null"]


def test_null_alone_says_nothing_and_is_refused(artifact: Artifact):
    with pytest.raises(BackendsError, match="at least one backend beside null, found null alone"):
        choose_backends(artifact, ["null"])


def without(monkeypatch: pytest.MonkeyPatch, *peers: str) -> None:
    """Make the given peers look as though they were absent, and the others present."""
    monkeypatch.setattr(
        "serving_compare.compare.list_missing", lambda peer: [peer] if peer in peers else []
    )


def test_peers_are_added_on_demand_only(artifact: Artifact, monkeypatch: pytest.MonkeyPatch):
    without(monkeypatch, "litert")
    assert not {"openvino", "litert", "torch"} & set(choose_backends(artifact, None))
    found = choose_backends(artifact, None, with_peers=True)
    assert found[-3:] == ["openvino", "torch", "null"]
    chosen = choose_backends(artifact, ["lookup"], with_peers=True)
    assert chosen == ["lookup", "openvino", "torch", "null"]


def test_a_peer_that_is_not_installed_is_refused(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
):
    without(monkeypatch, "torch", "litert", "openvino")
    with pytest.raises(
        BackendsError,
        match=r"--backends torch: expected torch to be installed, found not\. Install",
    ):
        choose_backends(artifact, ["torch"])
    with pytest.raises(BackendsError, match=r"--peers: expected at least one of openvino, litert"):
        choose_backends(artifact, None, with_peers=True)


def test_unknown_backends_are_refused(artifact: Artifact):
    with pytest.raises(BackendsError, match=r"expected names out of saved_model, .* found 'tf'"):
        choose_backends(artifact, ["tf"])


def test_tf2onnx_without_its_graph_is_refused(artifact: Artifact):
    with pytest.raises(BackendsError, match=r"expected oracle/model_tf2onnx\.onnx in .* found non"):
        choose_backends(artifact, ["tf2onnx"])


def test_questions_without_a_split_are_made_from_the_probes(artifact: Artifact):
    questions = make_questions(artifact, None, "")
    assert questions.split.texts == tuple(questions.golden_texts)
    assert questions.split.labels is None
    assert questions.source.startswith("the artifact's own probes")
    assert questions.golden.shape == (13, 3)
    assert questions.golden_rows[0] == [1]


def test_questions_keep_the_split_they_are_given(artifact: Artifact):
    split = LabelledTexts(texts=("red",), labels=(0,))
    questions = make_questions(artifact, split, "the file given")
    assert (questions.split, questions.source) == (split, "the file given")


def test_accuracy_counts_first_and_kth_place():
    top_k = np.array([[0, 1], [1, 0], [2, 1], [2, 0]])
    assert measure_accuracy(top_k, [0, 0, 0, 2], single_rows=3) == {
        "top_1": 0.5,
        "top_k": 0.75,
        "k": 2,
        "rows": 4,
        "single_rows": 3,
    }


def test_artifact_is_described_by_the_hash_of_its_manifest(artifact: Artifact):
    described = describe_artifact(artifact)
    assert (described["name"], described["version"], described["max_tokens"]) == ("tiny", 1, 32)
    assert len(described["manifest_sha256"]) == 64
