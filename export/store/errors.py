"""What can go wrong between a folder and a store, one class a cause a caller treats differently."""

from __future__ import annotations


class StoreError(Exception):
    """What was asked for cannot be done: bad input, no access, no answer. Exit code 2."""


class MissingObjectError(StoreError):
    """There is no such object in the bucket."""


class PreconditionError(StoreError):
    """The object was there already, or was not the one that was to be replaced."""


class DeadlineError(StoreError):
    """The total time was used up."""


class RefusedError(StoreError):
    """A check failed, and nothing was published. Exit code 1."""


class ConflictError(RefusedError):
    """Another artifact has this name and version."""


class DamageError(RefusedError):
    """Stored bytes are not those that the manifest names."""


class SignatureError(RefusedError):
    """A signature is missing, or is not one of the configured keys'."""
