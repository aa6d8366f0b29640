"""`model.onnx` with its tokenizer in front: raw text in, for onnxruntime with its extensions.

The first node is SentencepieceTokenizer of onnxruntime-extensions (domain `ai.onnx.contrib`), which
holds the whole tokenizer model; sixteen plain nodes make a padded batch of its flat ids. Only
onnxruntime runs it, with that package's library registered, which is why an artifact holds the
graph without. A text ends at its first NUL character here, and nowhere else.
"""

from __future__ import annotations

import importlib.util
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from export.bundle import Artifact
from export.onnx_graph import IR_VERSION, OPSET

DOMAIN = "ai.onnx.contrib"
TOLERANCE = 1e-5
"""Of a probability, as everywhere."""


class TextOnnxError(Exception):
    """The graph gives other answers than the trained model."""


class MissingExtensionsError(Exception):
    """The package onnxruntime-extensions is not installed."""


@dataclass(frozen=True)
class TextOnnxResult:
    """The graph, and its largest difference of a probability over so many golden probes."""

    model: onnx.ModelProto
    probes: int
    max_difference: float


def _build_prelude(tokenizer: bytes, max_tokens: int) -> onnx.ModelProto:
    """Build the graph from `text`, (B,) string, to `tokens`, (B, T), and `lengths`, (B,)."""
    constants: dict[str, Any] = {
        "nbest": np.array([0], np.int64),
        "alpha": np.array([0.0], np.float32),
        "no": np.array([False]),
        "unknown": np.array([1], np.int32),
        "zero": np.array(0, np.int64),
        "one": np.array(1, np.int64),
        "first": np.array([0], np.int64),
        "second": np.array([1], np.int64),
        "last": np.array([-1], np.int64),
        "end": np.array([np.iinfo(np.int64).max], np.int64),
        "max_tokens": np.array([max_tokens], np.int64),
    }
    node = helper.make_node
    nodes = [
        node(
            "SentencepieceTokenizer",
            ["text", "nbest", "alpha", "no", "no", "no"],
            ["ids", "splits"],  # (N,) int32, (B + 1,) int64
            domain=DOMAIN,
            model=tokenizer,
        ),
        node("Slice", ["splits", "first", "last"], ["starts"]),
        node("Slice", ["splits", "second", "end"], ["ends"]),
        node("Sub", ["ends", "starts"], ["counts"]),
        node("Min", ["counts", "max_tokens"], ["kept"]),
        node("Max", ["kept", "second"], ["spans"]),  # a text without pieces is one unknown piece
        node("Cast", ["spans"], ["lengths"], to=TensorProto.INT32),
        node("ReduceMax", ["spans"], ["steps"], keepdims=0),
        node("Range", ["zero", "steps", "one"], ["positions"]),  # (T,)
        node("Unsqueeze", ["kept", "second"], ["kept_column"]),
        node("Less", ["positions", "kept_column"], ["valid"]),  # (B, T)
        node("Unsqueeze", ["starts", "second"], ["start_column"]),
        node("Add", ["start_column", "positions"], ["places"]),
        # Everything else reads the unknown id that is put behind the last id.
        node("Concat", ["ids", "unknown"], ["ids_and_unknown"], axis=0),
        node("Shape", ["ids"], ["unknown_place"]),
        node("Where", ["valid", "places", "unknown_place"], ["indices"]),
        node("Gather", ["ids_and_unknown", "indices"], ["tokens"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tokenizer",
        [helper.make_tensor_value_info("text", TensorProto.STRING, ["B"])],
        [
            helper.make_tensor_value_info("tokens", TensorProto.INT32, ["B", "T"]),
            helper.make_tensor_value_info("lengths", TensorProto.INT32, ["B"]),
        ],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def build_text_onnx(model: onnx.ModelProto, tokenizer: bytes, max_tokens: int) -> onnx.ModelProto:
    """Put a tokenizer in front of a graph from `tokens` and `lengths`.

    Args:
        model: `model.onnx` of an artifact.
        tokenizer: SentencePiece model.
        max_tokens: Texts are cut to so many ids.

    Returns:
        A graph from `text`, (B,) string with B at least 1, to `probabilities`, (B, C) float32.
    """
    prelude = compose.add_prefix(
        _build_prelude(tokenizer, max_tokens), "text/", rename_inputs=False, rename_outputs=False
    )
    merged = compose.merge_models(
        prelude,
        compose.add_prefix(model, "model/", rename_outputs=False),
        io_map=[("tokens", "model/tokens"), ("lengths", "model/lengths")],
        name="text_classifier",
        producer_name="gatetable",
    )
    onnx.checker.check_model(merged)
    return merged


def run_text_onnx(model: onnx.ModelProto, texts: Sequence[str]) -> np.ndarray:
    """Return the probabilities, (B, C) float32, of texts, from a process of its own.

    Raises:
        MissingExtensionsError: onnxruntime-extensions is not installed.
        TextOnnxError: onnxruntime does not run the graph.
    """
    if importlib.util.find_spec("onnxruntime_extensions") is None:
        raise MissingExtensionsError(
            "onnxruntime-extensions: expected the package that runs a tokenizer in a graph, found "
            "none. Install the extra `text-onnx`."
        )
    with tempfile.TemporaryDirectory(prefix="gatetable-text-onnx-") as folder:
        path = Path(folder) / "model_text.onnx"
        path.write_bytes(model.SerializeToString())
        done = subprocess.run(
            [sys.executable, "-m", "export.text_onnx_run", str(path)],
            input=json.dumps(list(texts)).encode(),
            capture_output=True,
            cwd=Path(__file__).parents[1],
        )
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise TextOnnxError(
            f"onnxruntime with its extensions: expected an answer, found exit code "
            f"{done.returncode}: {''.join(last)[:200]}"
        )
    found: np.ndarray = np.load(io.BytesIO(done.stdout), allow_pickle=False)
    return found


def export_text_onnx(artifact: Artifact) -> TextOnnxResult:
    """Build an artifact's text graph and replay its golden probes on it.

    Raises:
        TextOnnxError: A probe gets other probabilities.
        MissingExtensionsError: onnxruntime-extensions is not installed.
    """
    lines = (artifact.folder / "golden.jsonl").read_text(encoding="utf-8").split("\n")
    # A text ends at NUL in this package.
    rows = [row for row in map(json.loads, filter(None, lines)) if "\0" not in row["text"]]
    model = build_text_onnx(
        onnx.load(artifact.folder / "model.onnx"),
        (artifact.folder / "tokenizer.model").read_bytes(),
        artifact.manifest["max_tokens"],
    )
    found = run_text_onnx(model, [row["text"] for row in rows])
    gaps = np.abs(found - np.array([row["probabilities"] for row in rows])).max(axis=1)
    worst = int(gaps.argmax())
    if not gaps[worst] <= TOLERANCE:
        raise TextOnnxError(
            f"golden probe {rows[worst]['text']!r:.60}: expected the probabilities of "
            f"{artifact.folder} within {TOLERANCE:.0e}, found a difference of {gaps[worst]:.1e}. "
            "Tokenizers that are not of the type bpe may be cut in other places."
        )
    return TextOnnxResult(model, len(rows), float(gaps[worst]))
