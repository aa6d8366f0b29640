"""The things that are compared, behind one protocol: load, ids in, text in.

Every backend takes NumPy ids or Python strings and gives NumPy probabilities, so that the price
of crossing into its runtime and back is part of its time. Each has the best settings for one
thread that are documented for its users; `docs/measuring.md` lists them with their reasons.

The module itself and what it imports need the standard library only. A backend's libraries are
imported inside its `load`, because the import is a stage of its cold start, and because whoever
compares two backends need not install a third.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from serving_compare.peers import LitertBackend, OpenvinoBackend, TorchBackend
from serving_compare.sentencepiece_texts import UNK_ID as UNK_ID
from serving_compare.sentencepiece_texts import SentencePieceTexts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ids = NDArray[np.int32]
    Lengths = NDArray[np.int32]
    Probabilities = NDArray[np.float32]

Interface = Literal["ids", "text"]


class ArtifactFiles(NamedTuple):
    """Where a backend finds its files: plain paths, so a child process pays for no reader.

    Attributes:
        saved_model: SavedModel with ids in.
        saved_model_text: SavedModel with strings in.
        onnx: ONNX graph with fused GRU nodes.
        lookup: The self-contained lookup folder.
        tokenizer: SentencePiece model, for the backends that tokenise outside their graph.
        tf2onnx: What tf2onnx makes of the same run; may be absent.
        max_tokens: Texts are cut to so many ids.
        num_classes: C.
    """

    saved_model: str
    saved_model_text: str
    onnx: str
    lookup: str
    tokenizer: str
    tf2onnx: str
    max_tokens: int
    num_classes: int


class StageClock:
    """Splits one process's way from spawn to first answer into named stages.

    Args:
        spawned_ns: The parent's `time.perf_counter_ns()` right before it started this process.
            On Linux, macOS and Windows that clock is one for the whole machine.
    """

    def __init__(self, spawned_ns: int) -> None:
        self._last_ns = spawned_ns
        self.stages_ns: dict[str, int] = {}

    def mark(self, stage: str) -> None:
        """End the running stage, give it its name (adding to it if it ran before)."""
        now_ns = time.perf_counter_ns()
        self.stages_ns[stage] = self.stages_ns.get(stage, 0) + now_ns - self._last_ns
        self._last_ns = now_ns


class Backend(Protocol):
    """One runtime with one artifact. Not shared between threads; each lives in a child process.

    Made with `threads`, how many of them the runtime may use for one call: 1 unless a whole machine
    is asked for one batch at a time.
    """

    def load(self, files: ArtifactFiles, interface: Interface, clock: StageClock) -> None:
        """Import the libraries, mark `import`; open the files `interface` needs, mark `load`.

        Called once per interface; `run_ids` and `run_texts` work after their own `load`.
        """
        ...

    def run_ids(self, ids: Ids, lengths: Lengths) -> Probabilities:
        """Return probabilities (B, C) float32 of ids (B, T) int32 and lengths (B,) int32."""
        ...

    def run_texts(self, texts: Sequence[str]) -> Probabilities:
        """Return probabilities (B, C) float32 of B raw texts, tokenising included."""
        ...


class SavedModelBackend:
    """TensorFlow: the concrete function behind `serving_default`; text is tokenised in graph."""

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._tensorflow: Any = None
        # A signature holds only a weak reference to its model: drop the model, lose the variables.
        self._models: list[Any] = []
        self._ids_function: Callable[..., Mapping[str, Any]] | None = None
        self._text_function: Callable[..., Mapping[str, Any]] | None = None

    def load(self, files: ArtifactFiles, interface: Interface, clock: StageClock) -> None:
        """See `Backend.load`. tensorflow_text is imported for the text graph only."""
        first_load = self._tensorflow is None
        import tensorflow as tf

        if interface == "text":
            import tensorflow_text  # noqa: F401  (registers the tokeniser's op)
        clock.mark("import")
        if first_load:
            tf.config.threading.set_intra_op_parallelism_threads(self._threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
            tf.config.set_visible_devices([], "GPU")
            self._tensorflow = tf
        model = tf.saved_model.load(
            files.saved_model if interface == "ids" else files.saved_model_text
        )
        self._models.append(model)
        function = model.signatures["serving_default"]
        if interface == "ids":
            self._ids_function = function
        else:
            self._text_function = function
        clock.mark("load")

    def run_ids(self, ids: Ids, lengths: Lengths) -> Probabilities:
        """See `Backend.run_ids`."""
        assert self._ids_function is not None
        constant = self._tensorflow.constant
        answer = self._ids_function(tokens=constant(ids), lengths=constant(lengths))
        probabilities: Probabilities = answer["probabilities"].numpy()
        return probabilities

    def run_texts(self, texts: Sequence[str]) -> Probabilities:
        """See `Backend.run_texts`."""
        assert self._text_function is not None
        answer = self._text_function(text=self._tensorflow.constant(texts))
        probabilities: Probabilities = answer["probabilities"].numpy()
        return probabilities


class OnnxBackend(SentencePieceTexts):
    """onnxruntime on the fused graph; text is tokenised by sentencepiece."""

    graph: Literal["onnx", "tf2onnx"] = "onnx"

    def __init__(self, threads: int = 1) -> None:
        super().__init__()
        self._threads = threads
        self._run: Callable[..., list[Any]] | None = None

    def load(self, files: ArtifactFiles, interface: Interface, clock: StageClock) -> None:
        """See `Backend.load`. NumPy comes with onnxruntime."""
        import onnxruntime

        self.import_tokenizer(interface)
        clock.mark("import")
        if self._run is None:
            options = onnxruntime.SessionOptions()
            # The default (a thread per core) gave a p99 of 3.8 ms instead of 0.1 ms here.
            options.intra_op_num_threads = self._threads
            options.inter_op_num_threads = 1
            options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
            options.log_severity_level = 3
            session = onnxruntime.InferenceSession(
                files.onnx if self.graph == "onnx" else files.tf2onnx,
                options,
                providers=["CPUExecutionProvider"],
            )
            self._run = session.run
        self.load_tokenizer(files, interface)
        clock.mark("load")

    def run_ids(self, ids: Ids, lengths: Lengths) -> Probabilities:
        """See `Backend.run_ids`."""
        assert self._run is not None
        probabilities: Probabilities = self._run(
            ["probabilities"], {"tokens": ids, "lengths": lengths}
        )[0]
        return probabilities


class Tf2onnxBackend(OnnxBackend):
    """onnxruntime on the graph tf2onnx makes of the same run: a Loop node a layer and direction."""

    graph = "tf2onnx"


class LookupBackend:
    """The lookup runtime as a user gets it: the native engine where its kernel is built.

    Text goes in raw.

    The artifact's hashes and probes are checked by the parent before anything is timed. The
    other runtimes check nothing when they load, so the timed load leaves the checks out here too.
    """

    engine = "auto"

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._model: Any = None

    def load(self, files: ArtifactFiles, interface: Interface, clock: StageClock) -> None:
        """See `Backend.load`."""
        from export.lookup import load_lookup

        if interface == "text":
            import sentencepiece  # noqa: F401  (the runtime imports it at its first `encode`)
        clock.mark("import")
        if self._model is None:
            self._model = load_lookup(
                Path(files.lookup),
                engine=self.engine,
                threads=self._threads,
                check_hashes=False,
                replay_golden=False,
            )
        clock.mark("load")

    def run_ids(self, ids: Ids, lengths: Lengths) -> Probabilities:
        """See `Backend.run_ids`."""
        probabilities: Probabilities = self._model.probabilities(ids, lengths)
        return probabilities

    def run_texts(self, texts: Sequence[str]) -> Probabilities:
        """See `Backend.run_texts`."""
        probabilities: Probabilities = self._model.predict_proba(texts)
        return probabilities


class LookupNumpyBackend(LookupBackend):
    """The lookup runtime with its NumPy engine, which needs no compiler."""

    engine = "numpy"


class NullBackend:
    """Answers at once with a ready-made array: what is timed is the harness itself."""

    def __init__(self, threads: int = 1) -> None:
        self._answer: Any = None

    def load(self, files: ArtifactFiles, interface: Interface, clock: StageClock) -> None:
        """See `Backend.load`. NumPy is imported as every answer is an array."""
        import numpy as np

        clock.mark("import")
        self._answer = np.full((1, files.num_classes), 1 / files.num_classes, np.float32)
        clock.mark("load")

    def run_ids(self, ids: Ids, lengths: Lengths) -> Probabilities:
        """Return one row (1, C), whatever is asked."""
        answer: Probabilities = self._answer
        return answer

    def run_texts(self, texts: Sequence[str]) -> Probabilities:
        """Return one row (1, C), whatever is asked."""
        answer: Probabilities = self._answer
        return answer


NULL = "null"
BACKENDS: dict[str, Callable[..., Backend]] = {
    "saved_model": SavedModelBackend,
    "onnx": OnnxBackend,
    "lookup": LookupBackend,
    "lookup_numpy": LookupNumpyBackend,
    "tf2onnx": Tf2onnxBackend,
    "openvino": OpenvinoBackend,
    "litert": LitertBackend,
    "torch": TorchBackend,
    NULL: NullBackend,
}
"""Every backend by its name in files, flags, JSON and tables, in the order of the tables."""


def needed_paths(backend: str, interface: Interface, files: ArtifactFiles) -> list[Path]:
    """Return what must lie on a machine for `backend` to serve `interface`; folders count whole.

    Example: `onnx` with text needs model.onnx and tokenizer.model; `saved_model` with text
    needs saved_model_text/ alone, its tokeniser is in the graph.
    """
    tokenizer = [files.tokenizer] if interface == "text" else []
    needed = {
        "saved_model": [files.saved_model if interface == "ids" else files.saved_model_text],
        "onnx": [files.onnx, *tokenizer],
        "tf2onnx": [files.tf2onnx, *tokenizer],
        "openvino": [files.onnx, *tokenizer],
        "litert": [_find_litert_file(files) if backend == "litert" else "", *tokenizer],
        "torch": [files.onnx, *tokenizer],
        "lookup": [files.lookup],  # its own tokenizer, labels, probes and runtime included
        "lookup_numpy": [files.lookup],
        NULL: [],
    }
    return [Path(path) for path in needed[backend]]


def _find_litert_file(files: ArtifactFiles) -> str:
    """What LiteRT was given, or `model.onnx`, which it is made from, before it was."""
    from serving_compare.peer_litert import find_converted

    converted = find_converted(Path(files.onnx))
    return str(converted) if converted.is_file() else files.onnx


def measure_size_bytes(backend: str, interface: Interface, files: ArtifactFiles) -> int:
    """Return the summed size in bytes of the files `needed_paths` names."""
    total_bytes = 0
    for path in needed_paths(backend, interface, files):
        members = path.rglob("*") if path.is_dir() else [path]
        # Byte code that an import leaves in runtime/ is no part of the artifact.
        total_bytes += sum(
            member.stat().st_size
            for member in members
            if member.is_file() and "__pycache__" not in member.parts
        )
    return total_bytes
