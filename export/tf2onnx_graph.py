"""The same classifier converted by tf2onnx: an independent oracle, not a product.

tf2onnx knows nothing of our graph and turns each GRU into a Loop, slow but correct. It is kept
under `oracle/` of an artifact, used to check `model.onnx`, and timed as a row of the comparison.

The conversion reads the SavedModel from disk in a process of its own, for two reasons. It takes
ten seconds, which other steps use meanwhile. And its bytes follow the order of Python sets, hence
the hash seed and the addresses of objects, and hold the path it was given: a fresh process fixes
all three, so that the same run gives the same bytes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

OPSET = 18


class OracleError(Exception):
    """tf2onnx could not convert the SavedModel."""


@contextmanager
def convert_in_background(
    folder: Path, saved_model: str, target: str
) -> Iterator[Callable[[], None]]:
    """Convert a SavedModel while the caller does something else.

    Args:
        folder: The artifact under construction.
        saved_model: Name of the SavedModel in it.
        target: Name of the ONNX file to write in it.

    Yields:
        A function that waits for the file, and raises `OracleError` if there is none.
    """
    process = subprocess.Popen(
        # -P: this file's folder must not become an import path.
        [sys.executable, "-P", str(Path(__file__).resolve()), saved_model, target],
        cwd=folder,
        env={**os.environ, "PYTHONHASHSEED": "0", "TF_CPP_MIN_LOG_LEVEL": "2"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )

    def wait() -> None:
        _, log = process.communicate()
        if process.returncode or not (folder / target).is_file():
            raise OracleError(
                f"{folder / target}: expected tf2onnx to write it, found exit code "
                f"{process.returncode}: {log.strip()[-500:]}"
            )

    try:
        yield wait
    finally:
        if process.returncode is None:  # the caller failed or was interrupted before waiting
            process.kill()
            process.communicate()


def _convert(saved_model: str, target: str) -> None:
    """Convert, in the child process."""
    import tf2onnx.convert
    import tf2onnx.graph

    # By name instead of by address: nodes are kept in sets.
    tf2onnx.graph.Node.__hash__ = lambda node: zlib.crc32(node.name.encode())
    sys.argv = [
        "tf2onnx",
        *("--saved-model", saved_model),
        *("--signature_def", "serving_default"),
        *("--output", target),
        *("--opset", str(OPSET)),
    ]
    tf2onnx.convert.main()


if __name__ == "__main__":
    _convert(sys.argv[1], sys.argv[2])
