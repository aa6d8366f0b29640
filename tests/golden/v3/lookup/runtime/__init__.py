"""Serve a GRU text classifier from lookup tables, with NumPy alone.

    from runtime import load_lookup

    model = load_lookup("lookup/")
    model.probabilities(ids, lengths)  # (B, T) int32, (B,) int32 -> (B, C) float32
    model.predict(["a small domesticated feline"], k=3)  # [[(label, probability), ...]]

Raw text needs the package sentencepiece besides. This package imports nothing else and only
itself by relative imports, so it works under any name wherever it is copied: it travels inside
every artifact as `lookup/runtime/`. The folder's format is in `docs/artifact_format.md`.
"""

from .config import ArraySpec, LookupConfig, array_specs
from .errors import (
    ArrayHeaderError,
    ArrayShapeError,
    ArrayTypeError,
    ArtifactError,
    ChecksumError,
    FileSizeError,
    FileTooLargeError,
    GoldenError,
    LabelsError,
    ManifestError,
    MissingFileError,
    NonFiniteError,
    PaddingRowError,
    QuantisationError,
    TokenizerError,
    UnexpectedFileError,
    UnsafeFileError,
    UnsupportedVersionError,
    WordTableError,
)
from .format import LookupFiles, read_lookup, write_lookup
from .golden import Probe, format_golden
from .model import LookupModel, load_lookup
from .native import NativeUnavailableError
from .stream import Stream, StreamBatch
from .word_arrays import WordArrays

__all__ = [
    "ArrayHeaderError",
    "ArrayShapeError",
    "ArraySpec",
    "ArrayTypeError",
    "ArtifactError",
    "ChecksumError",
    "FileSizeError",
    "FileTooLargeError",
    "GoldenError",
    "LabelsError",
    "LookupConfig",
    "LookupFiles",
    "LookupModel",
    "ManifestError",
    "MissingFileError",
    "NativeUnavailableError",
    "NonFiniteError",
    "PaddingRowError",
    "Probe",
    "QuantisationError",
    "Stream",
    "StreamBatch",
    "TokenizerError",
    "UnexpectedFileError",
    "UnsafeFileError",
    "UnsupportedVersionError",
    "WordArrays",
    "WordTableError",
    "array_specs",
    "format_golden",
    "load_lookup",
    "read_lookup",
    "write_lookup",
]
