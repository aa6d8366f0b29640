"""What computes a lookup model: the protocol every engine keeps, and the choice among them.

An engine gets checked input only; `LookupModel` and `Stream` do the checking once for all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .arrays import Float32Array
from .format import LookupFiles
from .gru import Int32Array
from .native import is_available
from .native_engine import NativeEngine
from .numpy_engine import NumpyEngine


class EngineStream(Protocol):
    """State of one text that arrives token by token. Not safe to share between threads."""

    def push(self, token: int) -> None:
        """Read one more token, 0 <= token < V."""

    def logits(self) -> Float32Array:
        """Return the logits (C,) of the tokens so far, at least one."""

    def fork(self) -> EngineStream:
        """Return an independent copy."""


class Engine(Protocol):
    """Computes logits from the arrays of a lookup folder. Safe to share between threads."""

    @property
    def name(self) -> str:
        """Name under which `load_lookup(engine=...)` knows it."""

    def logits(self, ids: Int32Array, lengths: Int32Array) -> Float32Array:
        """Return logits (B, C) of ids (B, T) in range and lengths (B,) from 1 to T; B may be 0."""

    def start_stream(self) -> EngineStream:
        """Return a stream that has read nothing."""


ENGINES: dict[str, Callable[[LookupFiles], Engine]] = {
    "native": NativeEngine,
    "numpy": lambda files: NumpyEngine(files.config, files.arrays),
}
"""Engine name to constructor, fastest first."""


def make_engine(name: str, files: LookupFiles) -> Engine:
    """Return the named engine over a folder's content.

    Args:
        name: "native", "numpy", or "auto": native if its kernel is built here, else numpy.
        files: Content of the folder.

    Raises:
        ValueError: There is no engine of that name, or GATETABLE_ISA names an instruction set
            that this machine does not have.
        NativeUnavailableError: The native engine was asked for and its kernel is not built.
    """
    if name == "auto":
        name = "native" if is_available() else "numpy"
    if name not in ENGINES:
        raise ValueError(f"engine: expected one of auto, {', '.join(ENGINES)}, found {name!r}.")
    return ENGINES[name](files)
