"""What a microbenchmark times: this project's own forms of one model, each with the best settings.

A form is asked for a call for rows of one length, because some are prepared for a length (static
shapes); the call takes NumPy ids and gives NumPy probabilities. Whoever cannot run here says why
with `UnavailableError`, and the report prints that. Runtimes of others are in `peers`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from serving_compare.backends import (
    ArtifactFiles,
    Backend,
    LookupNumpyBackend,
    OnnxBackend,
    SavedModelBackend,
    StageClock,
    Tf2onnxBackend,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ids = NDArray[np.int32]
    Lengths = NDArray[np.int32]
    Probabilities = NDArray[np.float32]

Call = Callable[["Ids", "Lengths"], "Probabilities"]
"""(B, T) int32, (B,) int32 -> (B, C) float32."""

ISA_VARIABLE = "GATETABLE_ISA"
INSTRUCTION_SETS = ("avx512", "avx2", "portable")
"""What the native engine may be forced to, fastest first."""
NOT_BUILT = "the native engine is not built"


class UnavailableError(Exception):
    """A form that cannot run here, and why; never a reason to stop."""


class FormFiles(NamedTuple):
    """Where the forms of one untrained model lie.

    Attributes:
        folder: What `python -m export.untrained` wrote.
        num_classes: C.
        litert: Folder of `<T>.tflite` files; empty where LiteRT is not installed.
    """

    folder: str
    num_classes: int
    litert: str

    def path(self, name: str) -> Path:
        """Return the path of a file or folder in it."""
        return Path(self.folder, name)


class Form(Protocol):
    """One way to run the model. Lives in one process; never shared between threads."""

    def make_call(self, tokens: int) -> Call:
        """Return the call for single rows of exactly `tokens` ids.

        Its answer may be overwritten by the next call.
        """
        ...


class BackendForm:
    """A backend of `compare` over the untrained model's files.

    Args:
        files: Where they lie.
        backend: Whose `run_ids` is timed.
    """

    def __init__(self, files: FormFiles, backend: Backend) -> None:
        self._backend = backend
        paths = ArtifactFiles(
            saved_model=str(files.path("saved_model")),
            saved_model_text="",
            onnx=str(files.path("model.onnx")),
            lookup=str(files.path("lookup")),
            tokenizer="",
            tf2onnx=str(files.path("oracle/model_tf2onnx.onnx")),
            max_tokens=0,
            num_classes=files.num_classes,
        )
        backend.load(paths, "ids", StageClock(time.perf_counter_ns()))

    def make_call(self, tokens: int) -> Call:
        """See `Form.make_call`."""
        return self._backend.run_ids


class NativeForm:
    """The lookup runtime with its native engine.

    Args:
        files: Where the model lies.
        lookup: Name of the lookup folder in it: each kind of weights has its own.
        isa: Instruction set to force, or None for the fastest this CPU has.

    Raises:
        UnavailableError: The engine is not built, or this CPU lacks the instruction set.
    """

    def __init__(self, files: FormFiles, *, lookup: str = "lookup", isa: str | None = None) -> None:
        from export.lookup import load_lookup
        from export.lookup.native import NativeUnavailableError, load_extension

        try:
            extension = load_extension()
        except NativeUnavailableError as err:
            raise UnavailableError(NOT_BUILT) from err
        if isa is not None and isa not in extension.list_isas():
            raise UnavailableError(f"this CPU has no {isa}")
        # Read when the engine is made; what the caller's environment says must not count here.
        previous = os.environ.pop(ISA_VARIABLE, None)
        if isa is not None:
            os.environ[ISA_VARIABLE] = isa
        try:
            self.model = load_lookup(
                files.path(lookup), engine="native", check_hashes=False, replay_golden=False
            )
        finally:
            os.environ.pop(ISA_VARIABLE, None)
            if previous is not None:
                os.environ[ISA_VARIABLE] = previous

    def make_call(self, tokens: int) -> Call:
        """See `Form.make_call`."""
        return self.model.probabilities


class StaticOnnxForm:
    """onnxruntime on the fused graph with both dimensions fixed, one session a length.

    Args:
        files: Where the model lies.
    """

    def __init__(self, files: FormFiles) -> None:
        self._graph = str(files.path("model.onnx"))

    def make_session(self, tokens: int) -> Any:
        """Return a session for (1, tokens) ids, with the settings of `compare` otherwise."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        options.add_free_dimension_override_by_name("B", 1)
        options.add_free_dimension_override_by_name("T", tokens)
        return onnxruntime.InferenceSession(
            self._graph, options, providers=["CPUExecutionProvider"]
        )

    def make_call(self, tokens: int) -> Call:
        """See `Form.make_call`."""
        run = self.make_session(tokens).run

        def call(ids: Ids, lengths: Lengths) -> Probabilities:
            probabilities: Probabilities = run(
                ["probabilities"], {"tokens": ids, "lengths": lengths}
            )[0]
            return probabilities

        return call


class BoundOnnxForm(StaticOnnxForm):
    """The static form with its inputs and its output bound once to buffers of ours.

    Args:
        files: Where the model lies.
    """

    def __init__(self, files: FormFiles) -> None:
        super().__init__(files)
        self._num_classes = files.num_classes

    def make_call(self, tokens: int) -> Call:
        """See `Form.make_call`. The answer is the bound buffer itself."""
        import numpy as np

        session = self.make_session(tokens)
        tokens_buffer, lengths_buffer = np.zeros((1, tokens), np.int32), np.zeros(1, np.int32)
        answer: Probabilities = np.zeros((1, self._num_classes), np.float32)
        binding = session.io_binding()
        for name, buffer in (("tokens", tokens_buffer), ("lengths", lengths_buffer)):
            binding.bind_input(name, "cpu", 0, np.int32, buffer.shape, buffer.ctypes.data)
        binding.bind_output("probabilities", "cpu", 0, np.float32, answer.shape, answer.ctypes.data)
        run = session.run_with_iobinding

        def call(ids: Ids, lengths: Lengths) -> Probabilities:
            tokens_buffer[:] = ids
            lengths_buffer[:] = lengths
            run(binding)
            return answer

        return call


class NullForm:
    """Answers at once with a ready-made array: what is timed is the loop around the call.

    Args:
        files: Where the model lies.
    """

    def __init__(self, files: FormFiles) -> None:
        import numpy as np

        self._answer = np.full((1, files.num_classes), 1 / files.num_classes, np.float32)

    def make_call(self, tokens: int) -> Call:
        """See `Form.make_call`."""

        def call(ids: Ids, lengths: Lengths) -> Probabilities:
            return self._answer

        return call


def _make_native(lookup: str, isa: str | None) -> Callable[[FormFiles], Form]:
    return lambda files: NativeForm(files, lookup=lookup, isa=isa)


NATIVE = "lookup native"
OWN_FORMS: dict[str, Callable[[FormFiles], Form]] = {
    **{f"{NATIVE} {isa}": _make_native("lookup", isa) for isa in INSTRUCTION_SETS},
    f"{NATIVE} int16": _make_native("lookup_int16", None),
    f"{NATIVE} int8": _make_native("lookup_int8", None),
    "lookup numpy": lambda files: BackendForm(files, LookupNumpyBackend()),
    "onnx": lambda files: BackendForm(files, OnnxBackend()),
    "onnx static": StaticOnnxForm,
    "onnx io_binding": BoundOnnxForm,
    "tf2onnx": lambda files: BackendForm(files, Tf2onnxBackend()),
    "saved_model": lambda files: BackendForm(files, SavedModelBackend()),
    "null": NullForm,
}
"""Every form by its name in files, JSON and tables, in the order of the tables."""
EXACT_NATIVE = tuple(f"{NATIVE} {isa}" for isa in INSTRUCTION_SETS)
"""float32 throughout; the first that is available is what engine="auto" takes."""
ONNX_FORMS = ("onnx", "onnx static", "onnx io_binding")
"""The same fused graph, asked in three ways; a table takes the fastest."""
