"""An artifact in the folders that other servers read: Triton's and TensorFlow Serving's.

Both read `<models>/<name>/<version>/`, a version being a number. A version is copied beside its
place, flushed and renamed, its hashes checked before, so that a server that polls the folder sees
it whole. Nothing is linked; a version that is there with other files is refused. Sources: Triton's
`model_config.proto` and the documentation of its onnxruntime and Python backends; TensorFlow
Serving's documentation of its servable versions.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from export import bundle
from export.bundle import Artifact, read_artifact

Server = Literal["triton", "tfserving"]
SERVERS: tuple[Server, ...] = get_args(Server)
TOP_LABELS = 3
"""Labels that Triton's text model answers with, or all where there are fewer."""
MAX_BATCH = 256
"""Texts that Triton may gather into one call of the text model."""


class LayoutError(Exception):
    """The models folder holds something that would be overwritten."""


@dataclass(frozen=True)
class Tensor:
    """An input or output in Triton's words; -1 is an open axis."""

    name: str
    data_type: str
    dims: tuple[int, ...]
    label_file: str | None = None


def _format_tensors(kind: str, tensors: Sequence[Tensor]) -> str:
    """Write the inputs or outputs of a config.pbtxt."""
    entries = []
    for tensor in tensors:
        lines = [
            f"name: {_quote(tensor.name)}",
            f"data_type: {tensor.data_type}",
            f"dims: [ {', '.join(map(str, tensor.dims))} ]",
        ]
        if tensor.label_file is not None:
            lines.append(f"label_filename: {_quote(tensor.label_file)}")
        entries.append("  {\n" + "".join(f"    {line}\n" for line in lines) + "  }")
    return f"{kind} [\n" + ",\n".join(entries) + "\n]\n"


def _quote(text: str) -> str:
    """Return a string as protobuf's text format writes it; ours have no control characters."""
    return json.dumps(text, ensure_ascii=False)


def format_onnx_config(name: str, num_classes: int) -> str:
    """Write the config.pbtxt of `model.onnx` in Triton's onnxruntime backend.

    Triton makes no batches of it: rows of other lengths cannot be put into one. So
    `max_batch_size` is 0 and the batch is an axis like others, for the client to fill.
    """
    inputs = (Tensor("tokens", "TYPE_INT32", (-1, -1)), Tensor("lengths", "TYPE_INT32", (-1,)))
    output = Tensor("probabilities", "TYPE_FP32", (-1, num_classes), "labels.txt")
    return (
        f"name: {_quote(name)}\n"
        'backend: "onnxruntime"\n'
        "max_batch_size: 0\n"
        + _format_tensors("input", inputs)
        + _format_tensors("output", [output])
        + "instance_group [ { kind: KIND_CPU } ]\n"
        # A second thread costs more than it gives at this size; more instances give throughput.
        + 'parameters { key: "intra_op_thread_count" value { string_value: "1" } }\n'
    )


def format_text_config(name: str, num_classes: int) -> str:
    """Write the config.pbtxt of the lookup folder in Triton's Python backend: text in."""
    outputs = (
        Tensor("probabilities", "TYPE_FP32", (num_classes,), "labels.txt"),
        Tensor("labels", "TYPE_STRING", (min(TOP_LABELS, num_classes),)),
    )
    return (
        f"name: {_quote(name)}\n"
        'backend: "python"\n'
        f"max_batch_size: {MAX_BATCH}\n"
        + _format_tensors("input", [Tensor("text", "TYPE_STRING", (1,))])
        + _format_tensors("output", outputs)
        + "instance_group [ { kind: KIND_CPU } ]\n"
        + "dynamic_batching { }\n"
    )


TEXT_MODEL = f'''"""A lookup folder in Triton's Python backend: texts in, labels out.

Needs numpy and sentencepiece in the server's Python.
"""

import sys
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """What Triton loads: one for each instance."""

    def initialize(self, args):
        """Load the folder beside this file: checks hashes, replays probes."""
        folder = Path(__file__).resolve().parent / "lookup"
        sys.path.insert(0, str(folder))
        from runtime import load_lookup

        self.model = load_lookup(str(folder))
        self.labels = np.array(self.model.labels, dtype=object)

    def execute(self, requests):
        """Answer all requests by one call of the model."""
        responses = [None] * len(requests)
        texts, rows = [], []
        for index, request in enumerate(requests):
            given = pb_utils.get_input_tensor_by_name(request, "text").as_numpy()
            try:
                decoded = [value.decode("utf-8") for value in given.reshape(-1)]
            except UnicodeDecodeError as err:
                error = pb_utils.TritonError(f"text: expected UTF-8, found {{err}}.")
                responses[index] = pb_utils.InferenceResponse(error=error)
                continue
            rows.append((index, len(texts), len(texts) + len(decoded)))
            texts += decoded
        if texts:
            probabilities = self.model.predict_proba(texts)
            best = np.argsort(-probabilities, axis=1, kind="stable")[:, :{TOP_LABELS}]
            labels = self.labels[best]
        for index, start, end in rows:
            outputs = [
                pb_utils.Tensor("probabilities", probabilities[start:end]),
                pb_utils.Tensor("labels", labels[start:end]),
            ]
            responses[index] = pb_utils.InferenceResponse(output_tensors=outputs)
        return responses
'''


def _fsync_tree(folder: Path) -> None:
    """Flush every file and folder to disk."""
    for path in (*folder.rglob("*"), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _write_file(path: Path, text: str) -> None:
    """Write a small file so that readers see the old or the new content."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def _publish(model: Path, version: int, fill: Callable[[Path], None]) -> Path:
    """Make `<model>/<version>/` in one rename; `fill` writes into a folder that it is given."""
    target, partial = model / str(version), model / f".partial-{version}-{os.getpid()}"
    model.mkdir(parents=True, exist_ok=True)
    try:
        partial.mkdir()
        fill(partial)
        if target.exists():
            _check_same(partial, target)
            return target
        _fsync_tree(partial)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _check_same(new: Path, old: Path) -> None:
    """Check that a version that is there already is what would be written: after a kill it is.

    Raises:
        LayoutError: It holds something else.
    """
    if [*_hash_files(new)] != [*_hash_files(old)]:
        raise LayoutError(
            f"{old}: expected no such version, or the same files, found others. Remove it, or lay "
            "out a newer version."
        )


def _hash_files(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield every file's place and sha256, in order, byte code left out."""
    for name in bundle.list_files(folder):
        yield name, bundle.hash_file(folder / name)


def _copy_tree(source: Path, target: Path) -> None:
    """Copy the files that an artifact's manifest knows, without byte code."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))


def _format_labels(artifact: Artifact) -> str:
    """Write the labels in their order, one a line, as Triton reads them."""
    return "".join(" ".join(label.split("\n")) + "\n" for label in artifact.labels)


def _lay_out_triton(artifact: Artifact, models: Path) -> list[Path]:
    """Write the onnxruntime and the Python model."""
    count = len(artifact.labels)

    def fill_onnx(folder: Path) -> None:
        shutil.copyfile(artifact.folder / bundle.ONNX_FILE, folder / "model.onnx")

    def fill_text(folder: Path) -> None:
        _copy_tree(artifact.folder / bundle.LOOKUP_FOLDER, folder / "lookup")
        (folder / "model.py").write_text(TEXT_MODEL, encoding="utf-8")

    written = []
    for name, config, fill in (
        (artifact.name, format_onnx_config(artifact.name, count), fill_onnx),
        (f"{artifact.name}_text", format_text_config(f"{artifact.name}_text", count), fill_text),
    ):
        written.append(_publish(models / name, artifact.version, fill))
        _write_file(models / name / "labels.txt", _format_labels(artifact))
        # The config last: without it Triton leaves a new model alone.
        _write_file(models / name / "config.pbtxt", config)
    return written


def _lay_out_tfserving(artifact: Artifact, models: Path) -> list[Path]:
    """Copy both SavedModels, each a servable of its own."""
    written = []
    for name, source in (
        (artifact.name, bundle.SAVED_MODEL_FOLDER),
        (f"{artifact.name}_text", bundle.SAVED_MODEL_TEXT_FOLDER),
    ):

        def fill(folder: Path, source: str = source) -> None:
            shutil.copytree(artifact.folder / source, folder, dirs_exist_ok=True)

        written.append(_publish(models / name, artifact.version, fill))
    return written


def write_layout(folder: Path, server: Server, models: Path) -> list[Path]:
    """Copy an artifact into a models folder.

    Args:
        folder: The artifact; every checksum is compared first.
        server: Whose layout.
        models: The folder that the server is pointed at; other models and versions in it stay.

    Returns:
        The version folders that were written.

    Raises:
        BundleError: The artifact is damaged.
        LayoutError: The version is there with other files, or another model has this one's name
            and other labels.
    """
    artifact = read_artifact(folder)
    for name in (artifact.name, f"{artifact.name}_text"):
        labels = models / name / "labels.txt"
        if labels.is_file() and labels.read_text("utf-8") != _format_labels(artifact):
            raise LayoutError(
                f"{labels}: expected the labels of {artifact.folder}, found others. Triton has "
                "one list for all versions of a model: use another models folder."
            )
    lay_out = _lay_out_triton if server == "triton" else _lay_out_tfserving
    return lay_out(artifact, models)
