"""Every way a lookup folder can be unusable, one exception class a cause.

Each message names the file, what was expected, what was found and what to do; the class tells a
program the same, so that a caller can, say, download again after a `ChecksumError` but upgrade
after an `UnsupportedVersionError`.
"""

from __future__ import annotations

REMEDY = "Copy the artifact again, or export the run again."
"""What a user does about a folder that was damaged after it was written."""


class ArtifactError(Exception):
    """A lookup folder that cannot be loaded. Base of every error the reader raises."""


class MissingFileError(ArtifactError):
    """The folder, or a file its manifest requires, is not there."""


class UnsafeFileError(ArtifactError):
    """An entry is a symbolic link, or is not a regular file."""


class FileTooLargeError(ArtifactError):
    """A file exceeds the format's size cap, so it was not opened."""


class ManifestError(ArtifactError):
    """`manifest.json` is not JSON, lacks a key, has one too many, or holds a value out of range."""


class UnsupportedVersionError(ArtifactError):
    """The folder is of a format version this reader does not know."""


class UnexpectedFileError(ArtifactError):
    """The folder or its manifest names a file that the format does not have."""


class FileSizeError(ArtifactError):
    """A file has another length than the manifest says: cut off, or grown."""


class ArrayHeaderError(ArtifactError):
    """A `.npy` header is not the small version 1.0 header the format demands."""


class ArrayTypeError(ArtifactError):
    """An array is not of the type that the manifest's options give, or not in C order."""


class ArrayShapeError(ArtifactError):
    """An array has another shape than the axes in the manifest give."""


class ChecksumError(ArtifactError):
    """A file's sha256 differs from the manifest's, or the manifest's from its own."""


class NonFiniteError(ArtifactError):
    """An array holds NaN or an infinity."""


class PaddingRowError(ArtifactError):
    """Row 0 of a gate table, padding, is not row 1, an unknown token."""


class QuantisationError(ArtifactError):
    """A compressed array breaks a bound that arithmetic on it rests on: a scale, a column sum."""


class WordTableError(ArtifactError):
    """The word table cannot be searched: ends, ids, order or bytes are not as documented."""


class LabelsError(ArtifactError):
    """`labels.json` is not a list of C distinct strings."""


class GoldenError(ArtifactError):
    """`golden.jsonl` is malformed, or its probabilities are not what the arrays give."""


class TokenizerError(ArtifactError):
    """`tokenizer.model` cannot be loaded, or turns the golden texts into other ids."""
