"""The two ways in which a rewrite ends without a graph."""

from __future__ import annotations


class RewriteError(Exception):
    """The model cannot be said in fused GRU operators; lists every reason."""


class ParityError(Exception):
    """The graph was made, and gives other answers than the Keras model."""
