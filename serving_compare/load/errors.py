"""What can go wrong with a load, as one family: the commands print it and end with exit code 2."""

from __future__ import annotations


class LoadError(Exception):
    """A load that cannot be run as asked."""


class ConnectError(LoadError):
    """The server cannot be reached at all."""


class UrlError(LoadError):
    """A URL that cannot be loaded."""


class ServerError(LoadError):
    """A server under test that does not start, or does not stay."""


class GeneratorError(LoadError):
    """The generator's process failed."""
