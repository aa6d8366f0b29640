"""What computes a lookup model: the protocol every engine keeps, and the choice among them.

An engine gets checked input only; `LookupModel` and `Stream` do the checking once for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from .arrays import Float32Array
from .config import LookupConfig
from .gru import Int32Array
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


ENGINES: dict[str, Callable[[LookupConfig, Mapping[str, Float32Array]], Engine]] = {
    "numpy": NumpyEngine
}
"""Engine name to constructor, best first: "auto" takes the first."""


def make_engine(name: str, config: LookupConfig, arrays: Mapping[str, Float32Array]) -> Engine:
    """Return the named engine over `arrays`; "auto" picks the fastest there is.

    Raises:
        ValueError: There is no engine of that name.
    """
    chosen = next(iter(ENGINES)) if name == "auto" else name
    if chosen not in ENGINES:
        raise ValueError(f"engine: expected one of auto, {', '.join(ENGINES)}, found {name!r}.")
    return ENGINES[chosen](config, arrays)
