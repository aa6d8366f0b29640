"""Runtimes of others on the same model, where they are installed: OpenVINO, LiteRT, torch.

Each with one thread and the best form known for it: shapes fixed, weights inside the graph. They
are the extra `peers` and never needed; one that is absent or cannot run the model is a row "n/a".
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving_compare.bench.forms import Call, Form, FormFiles, UnavailableError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from serving_compare.bench.forms import Ids, Lengths, Probabilities


class OpenvinoForm:
    """OpenVINO's CPU plugin on `model.onnx`, one compiled model a length.

    Args:
        files: Where the model lies.
        precision: "f32", or "bf16" where the CPU computes in it.

    Raises:
        UnavailableError: The CPU has no arithmetic of that precision.
    """

    def __init__(self, files: FormFiles, precision: str) -> None:
        import openvino

        self._graph = str(files.path("model.onnx"))
        self._core = openvino.Core()
        self._settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            # The process is pinned already; the plugin would count cores it may not use.
            "ENABLE_CPU_PINNING": False,
        }
        abilities = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and "BF16" not in abilities:
            raise UnavailableError("this CPU has no bf16 arithmetic")

    def make_call(self, tokens: int) -> Call:
        """See `Form.make_call`."""
        model = self._core.read_model(self._graph)
        model.reshape({"tokens": [1, tokens], "lengths": [1]})
        request = self._core.compile_model(model, "CPU", self._settings).create_infer_request()
        infer = request.infer

        def call(ids: Ids, lengths: Lengths) -> Probabilities:
            answer = infer({"tokens": ids, "lengths": lengths}, share_inputs=True,
                           share_outputs=True)  # fmt: skip
            probabilities: Probabilities = answer[0]
            return probabilities

        return call


class LitertForm:
    """LiteRT (ai-edge-litert) with XNNPACK, steps unrolled.

    Args:
        files: Where the model lies; `litert.convert_lengths` has written the files.
    """

    def __init__(self, files: FormFiles) -> None:
        self._folder = Path(files.litert)

    def make_call(self, tokens: int) -> Call:
        """See `Form.make_call`. The length is part of the file and not asked again."""
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(str(self._folder / f"{tokens}.tflite"), num_threads=1)
        interpreter.allocate_tensors()
        (entry,) = interpreter.get_input_details()
        (answer,) = interpreter.get_output_details()

        def call(ids: Ids, lengths: Lengths) -> Probabilities:
            interpreter.set_tensor(entry["index"], ids)
            interpreter.invoke()
            probabilities: Probabilities = interpreter.get_tensor(answer["index"])
            return probabilities

        return call


class TorchForm:
    """`torch.nn.GRU` with the same weights, in inference mode.

    Args:
        files: Where the model lies.
        traced: Whether the module is traced and frozen for each length, or run eagerly.
    """

    def __init__(self, files: FormFiles, *, traced: bool) -> None:
        import torch

        from serving_compare.bench.models import WEIGHTS_FILE, read_weights

        torch.set_num_threads(1)
        self._torch = torch
        self._traced = traced
        self._module = _build_torch_module(torch, read_weights(files.path(WEIGHTS_FILE)))

    def make_call(self, tokens: int) -> Call:
        """See `Form.make_call`. Rows fill their width, so the lengths are not needed."""
        torch = self._torch
        from_numpy, inference_mode = torch.from_numpy, torch.inference_mode
        module: Any = self._module
        if self._traced:
            example = torch.ones((1, tokens), dtype=torch.int32)
            with inference_mode():
                module = torch.jit.freeze(torch.jit.trace(module, example))

        def call(ids: Ids, lengths: Lengths) -> Probabilities:
            with inference_mode():
                probabilities: Probabilities = module(from_numpy(ids)).numpy()
            return probabilities

        return call


def _build_torch_module(torch: Any, weights: dict[str, Any]) -> Any:
    """Return the classifier as a torch module in eval mode."""

    def reorder(gates: NDArray[np.float32]) -> Any:
        # (3H, ...) in Keras's order z, r, candidate; torch has r first
        z, r, candidate = torch.from_numpy(gates.copy()).chunk(3)
        return torch.cat((r, z, candidate))

    kernel = weights["kernel"]
    units = weights["recurrent_kernel"].shape[0]

    class Classifier(torch.nn.Module):  # type: ignore[misc]
        """Embedding, one GRU layer, last state, softmax."""

        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding.from_pretrained(
                torch.from_numpy(weights["embedding"])
            )
            self.gru = torch.nn.GRU(kernel.shape[0], units, batch_first=True)
            self.head = torch.nn.Linear(units, weights["head_bias"].shape[0])

        def forward(self, ids: Any) -> Any:
            """Return probabilities (B, C) of ids (B, T)."""
            outputs, _ = self.gru(self.embedding(ids))
            return torch.softmax(self.head(outputs[:, -1]), dim=-1)

    module = Classifier()
    with torch.no_grad():
        module.gru.weight_ih_l0.copy_(reorder(kernel.T))
        module.gru.weight_hh_l0.copy_(reorder(weights["recurrent_kernel"].T))
        module.gru.bias_ih_l0.copy_(reorder(weights["bias"][0]))
        module.gru.bias_hh_l0.copy_(reorder(weights["bias"][1]))
        module.head.weight.copy_(torch.from_numpy(weights["head_kernel"].T.copy()))
        module.head.bias.copy_(torch.from_numpy(weights["head_bias"]))
    return module.eval()


PEER_FORMS: dict[str, Callable[[FormFiles], Form]] = {
    "openvino f32": lambda files: OpenvinoForm(files, "f32"),
    "openvino bf16": lambda files: OpenvinoForm(files, "bf16"),
    "litert": LitertForm,
    "torch eager": lambda files: TorchForm(files, traced=False),
    "torch trace": lambda files: TorchForm(files, traced=True),
}
"""Every peer's form by its name, in the order of the tables."""
LIBRARIES = {"openvino": "openvino", "litert": "ai_edge_litert", "torch": "torch"}
"""First word of a form's name to the module it needs."""


def is_installed(form: str) -> bool:
    """Return whether the library of a peer's form can be imported; nothing is imported."""
    return importlib.util.find_spec(LIBRARIES[form.split()[0]]) is not None
