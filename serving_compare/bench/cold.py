"""Cold start: a fresh process to its first answer. `python -m serving_compare.bench.cold`.

A JSON job comes on stdin, facts go to `<output>.json`. Every process starts one backend with one
interface and ends. Up to the first answer only the standard library and the backend's own
libraries are imported; `null` imports NumPy and answers, so what it needs is the interpreter,
NumPy and the harness.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from serving_compare.backends import (
    ArtifactFiles,
    Backend,
    Interface,
    LookupNumpyBackend,
    NullBackend,
    OnnxBackend,
    SavedModelBackend,
    StageClock,
)
from serving_compare.whole_file import write_whole
from serving_compare.worker import read_memory_bytes, settle_process

STAGES = ("start", "import", "load", "first")
"""From the parent's call to the job being read; libraries; files; one answer."""


class NumpyStart(LookupNumpyBackend):
    """The lookup runtime with its NumPy engine, asked as a caller would: `predict`."""

    def load(self, files: ArtifactFiles, interface: Interface, clock: StageClock) -> None:
        """See `Backend.load`. sentencepiece is left to the runtime, which may not need it."""
        super().load(files, "ids", clock)

    def run_texts(self, texts: Any) -> Any:
        """Return the best labels of each text."""
        return self._model.predict(texts)


class NativeStart(NumpyStart):
    """The same with the native engine."""

    engine = "native"


STARTS: dict[str, Callable[[], Backend]] = {
    "lookup native": NativeStart,
    "lookup numpy": NumpyStart,
    "onnx": OnnxBackend,
    "saved_model": SavedModelBackend,
    "null": NullBackend,
}
"""In the order of the tables."""


def run_job(job: Mapping[str, Any]) -> None:
    """Start a backend, let it answer once, write how long that took and what memory it needed.

    Args:
        job: `backend`, `interface`, `files` (fields of `ArtifactFiles`), `texts`, `ids`, `round`,
            `spawned_ns`, `core` (number or null), `timeout_s`, `output` (path without suffix).
    """
    settle_process(job)
    clock = StageClock(job["spawned_ns"])
    clock.mark("start")
    backend = STARTS[job["backend"]]()
    backend.load(ArtifactFiles(**job["files"]), job["interface"], clock)
    if job["interface"] == "text":
        # Another text in each round: not every text needs the tokenizer.
        backend.run_texts([job["texts"][job["round"] % len(job["texts"])]])
    else:
        import numpy as np

        backend.run_ids(np.array([job["ids"]], np.int32), np.array([len(job["ids"])], np.int32))
    clock.mark("first")
    facts = {"stages_ns": dict(clock.stages_ns), "memory": read_memory_bytes()}
    write_whole(Path(job["output"]).with_suffix(".json"), json.dumps(facts))


if __name__ == "__main__":
    run_job(json.load(sys.stdin))
