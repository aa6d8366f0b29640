"""Runtimes of others as backends: OpenVINO, LiteRT and torch, where the extra `peers` is installed.

Each reads the same artifact, takes strings through sentencepiece as `onnx` does, and has the one
setting that is best for single texts of any length; `docs/measuring.md` says which, and why.
Libraries are imported in `load`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving_compare.sentencepiece_texts import SentencePieceTexts

if TYPE_CHECKING:
    from serving_compare.backends import ArtifactFiles, Ids, Interface, Lengths, Probabilities
    from serving_compare.backends import StageClock as Clock

PEER_LIBRARIES = {
    "openvino": ("openvino",),
    "litert": ("ai_edge_litert",),
    "torch": ("torch", "onnx"),
}
"""Name of a peer to the modules it needs."""


def list_missing(peer: str) -> list[str]:
    """Return the modules a peer needs that are not installed; nothing is imported."""
    return [name for name in PEER_LIBRARIES[peer] if importlib.util.find_spec(name) is None]


class OpenvinoBackend(SentencePieceTexts):
    """OpenVINO's CPU plugin on `model.onnx`, one compiled model for each length of a single row.

    A graph with free dimensions is prepared anew whenever the length differs from the call before:
    that took 1.9 ms a text where a compiled length took 0.2. Compiling one takes about 50 ms, at
    the first text of that length. Batches and rows beyond `MAX_COMPILED_TOKENS` take the free one.
    """

    MAX_COMPILED_TOKENS = 64

    def __init__(self, threads: int = 1) -> None:
        super().__init__()
        self._threads = threads
        self._core: Any = None
        self._graph = ""
        self._free: Callable[..., Any] | None = None
        self._compiled: dict[int, Callable[..., Any]] = {}

    def load(self, files: ArtifactFiles, interface: Interface, clock: Clock) -> None:
        """See `Backend.load`."""
        import openvino

        self.import_tokenizer(interface)
        clock.mark("import")
        if self._core is None:
            self._core = openvino.Core()
            self._graph = files.onnx
            self._free = self._compile(None)
        self.load_tokenizer(files, interface)
        clock.mark("load")

    def run_ids(self, ids: Ids, lengths: Lengths) -> Probabilities:
        """See `Backend.run_ids`."""
        rows, tokens = ids.shape
        infer = self._free
        if rows == 1 and tokens <= self.MAX_COMPILED_TOKENS:
            infer = self._compiled.get(tokens)
            if infer is None:
                infer = self._compiled[tokens] = self._compile(tokens)
        assert infer is not None
        answer = infer({"tokens": ids, "lengths": lengths}, share_inputs=True, share_outputs=True)
        # Its own memory is written over by the next call.
        probabilities: Probabilities = answer[0].copy()
        return probabilities

    def _compile(self, tokens: int | None) -> Callable[..., Any]:
        model = self._core.read_model(self._graph)
        if tokens is not None:
            model.reshape({"tokens": [1, tokens], "lengths": [1]})
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": self._threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            # The process is pinned already; the plugin would count cores it may not use.
            "ENABLE_CPU_PINNING": False,
        }
        request = self._core.compile_model(model, "CPU", settings).create_infer_request()
        infer: Callable[..., Any] = request.infer
        return infer


class LitertBackend(SentencePieceTexts):
    """LiteRT with XNNPACK, row by row, on one file with a loop over the tokens.

    TensorFlow's converter writes the file, once for each `model.onnx`, in a process of its own.
    """

    def __init__(self, threads: int = 1) -> None:
        super().__init__()
        self._threads = threads
        self._interpreter: Any = None
        self._tokens = 0
        self._entry = 0
        self._answer = 0
        self._numpy: Any = None

    def load(self, files: ArtifactFiles, interface: Interface, clock: Clock) -> None:
        """See `Backend.load`. Converting counts as neither stage: a user does it beforehand."""
        import numpy as np
        from ai_edge_litert.interpreter import Interpreter

        from serving_compare.peer_litert import convert_once

        self.import_tokenizer(interface)
        clock.mark("import")
        if self._interpreter is None:
            self._numpy = np
            self._interpreter = Interpreter(
                str(convert_once(Path(files.onnx))), num_threads=self._threads
            )
            (entry,) = self._interpreter.get_input_details()
            (answer,) = self._interpreter.get_output_details()
            self._entry, self._answer = entry["index"], answer["index"]
        self.load_tokenizer(files, interface)
        clock.mark("load")

    def run_ids(self, ids: Ids, lengths: Lengths) -> Probabilities:
        """See `Backend.run_ids`."""
        rows = [
            self._run_row(row[: max(1, length)]) for row, length in zip(ids, lengths, strict=True)
        ]
        probabilities: Probabilities = self._numpy.concatenate(rows) if len(rows) > 1 else rows[0]
        return probabilities

    def _run_row(self, row: Any) -> Any:
        interpreter = self._interpreter
        if len(row) != self._tokens:
            self._tokens = len(row)
            interpreter.resize_tensor_input(self._entry, [self._tokens])
            interpreter.allocate_tensors()
        interpreter.set_tensor(self._entry, row)
        interpreter.invoke()
        return interpreter.get_tensor(self._answer)


class TorchBackend(SentencePieceTexts):
    """`torch.nn.GRU` with the same weights, eager, in inference mode; batches are packed."""

    def __init__(self, threads: int = 1) -> None:
        super().__init__()
        self._threads = threads
        self._torch: Any = None
        self._module: Any = None

    def load(self, files: ArtifactFiles, interface: Interface, clock: Clock) -> None:
        """See `Backend.load`."""
        import torch

        from serving_compare.peer_torch import build_module
        from serving_compare.peer_weights import read_graph_weights

        self.import_tokenizer(interface)
        clock.mark("import")
        if self._module is None:
            torch.set_num_threads(self._threads)
            self._torch = torch
            self._module = build_module(read_graph_weights(Path(files.onnx)))
        self.load_tokenizer(files, interface)
        clock.mark("load")

    def run_ids(self, ids: Ids, lengths: Lengths) -> Probabilities:
        """See `Backend.run_ids`."""
        torch = self._torch
        with torch.inference_mode():
            answer = self._module(torch.from_numpy(ids), torch.from_numpy(lengths))
        probabilities: Probabilities = answer.numpy()
        return probabilities
