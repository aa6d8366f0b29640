from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from export.bundle import Artifact, read_artifact
from export.text_onnx import (
    MissingExtensionsError,
    TextOnnxError,
    export_text_onnx,
    run_text_onnx,
)

pytest.importorskip("onnxruntime_extensions")
GOLDEN = Path(__file__).parents[1] / "golden" / "v2"
"""A whole artifact of a few kilobytes: two labels, texts of at most 6 tokens."""


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return read_artifact(GOLDEN)


def test_the_golden_probes_get_their_probabilities(artifact: Artifact) -> None:
    result = export_text_onnx(artifact)
    rows = (GOLDEN / "golden.jsonl").read_text(encoding="utf-8").strip().split("\n")
    assert result.probes >= len(rows) - 1  # one holds a NUL
    assert result.max_difference < 1e-5
    onnx.checker.check_model(result.model)
    operators = [node.op_type for node in result.model.graph.node]
    assert operators.count("SentencepieceTokenizer") == 1
    assert not {"Loop", "Scan", "If"} & set(operators)


def test_a_text_alone_and_in_a_batch_gives_the_same(artifact: Artifact) -> None:
    model = export_text_onnx(artifact).model
    rows = [json.loads(line) for line in (GOLDEN / "golden.jsonl").read_text().split("\n") if line]
    longest = max((row["text"] for row in rows if "\0" not in row["text"]), key=len)
    texts = ["", longest, " ", rows[3]["text"], longest * 5]  # cut at max_tokens
    together = run_text_onnx(model, texts)
    alone = np.concatenate([run_text_onnx(model, [text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_array_equal(together[0], together[2])
    empty = run_text_onnx(model, ["", ""])  # no id in the whole batch
    np.testing.assert_allclose(empty, together[[0, 2]], atol=1e-6)


def test_a_graph_with_other_answers_is_refused(artifact: Artifact, tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    shutil.copytree(GOLDEN, folder)
    model = onnx.load(folder / "model.onnx")
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    softmax.CopyFrom(helper.make_node("Sigmoid", softmax.input, softmax.output))
    onnx.save(model, folder / "model.onnx")
    changed = Artifact(**{**vars(artifact), "folder": folder})
    with pytest.raises(TextOnnxError, match="expected the probabilities of .* within 1e-05, found"):
        export_text_onnx(changed)


def test_a_missing_package_is_named(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime_extensions", None)
    with pytest.raises(MissingExtensionsError) as caught:
        export_text_onnx(artifact)
    assert str(caught.value) == (
        "onnxruntime-extensions: expected the package that runs a tokenizer in a graph, found "
        "none. Install the extra `text-onnx`."
    )


def test_the_loader_runs_with_the_file_alone(artifact: Artifact, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(export_text_onnx(artifact).model.SerializeToString())
    script = Path(__file__).parents[2] / "docs" / "loaders" / "onnxruntime_text.py"
    done = subprocess.run(
        [sys.executable, "-I", script, "model.onnx", GOLDEN / "labels.json"],
        cwd=tmp_path,
        input=(GOLDEN / "golden.jsonl").read_text(encoding="utf-8"),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (GOLDEN / "golden.jsonl").read_text().split("\n") if line]
    for row, printed in zip(rows, done.stdout.rstrip("\n").split("\n"), strict=True):
        if "\0" not in row["text"]:
            best = artifact.labels[int(np.argmax(row["probabilities"]))]
            assert printed.split("\t")[0] == best


def test_a_graph_that_cannot_run_is_told_with_the_last_line(artifact: Artifact) -> None:
    model = export_text_onnx(artifact).model
    model.graph.node[0].attribute[0].s = b"no tokenizer"
    with pytest.raises(TextOnnxError) as caught:
        run_text_onnx(model, ["a"])
    start = "onnxruntime with its extensions: expected an answer, found exit code "
    assert str(caught.value).startswith(start)
