"""The lookup folder's `manifest.json`: what a model looks like and which files hold it.

`format_manifest` writes the newest version, `parse_manifest` reads every version and is its
inverse. The parser trusts nothing: another checksum than the bytes', duplicate keys, unknown keys,
booleans in the place of integers and values out of range are refused, and the names, shapes and
types of the files follow from the axes and options alone, never from the manifest's own list.
The format is described in `docs/artifact_format.md`.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .arrays import MAX_HEADER_BYTES
from .config import (
    ArraySpec,
    LookupConfig,
    WordTableSizes,
    array_file,
    array_specs,
    check_int,
    check_max_tokens,
    word_specs,
)
from .errors import (
    REMEDY,
    ChecksumError,
    ManifestError,
    UnexpectedFileError,
    UnsupportedVersionError,
)
from .seal import BLANK, SEAL_KEY, hash_sealed, seal_text

FORMAT = "gatetable-lookup"
FORMAT_VERSION = 3
"""Raised with every change of the folder's layout; history in `docs/artifact_format.md`."""

MANIFEST_FILE = "manifest.json"
LABELS_FILE = "labels.json"
TOKENIZER_FILE = "tokenizer.model"
GOLDEN_FILE = "golden.jsonl"
RUNTIME_FOLDER = "runtime"

UNK_ID = 1
"""Id of an unknown piece. A text without any piece is this one id."""
TOLERANCE = 1e-5
"""Largest accepted difference of a probability of exact arrays: the bound the export keeps."""

MAX_MANIFEST_BYTES = 2**20
SIDE_FILE_CAPS = {LABELS_FILE: 2**26, TOKENIZER_FILE: 2**26, GOLDEN_FILE: 2**29}
"""Bytes each side file may have: far above real ones (kilobytes), far below a machine's memory."""

_AXES = {"V": "vocab_size", "E": "embed_dim", "H": "units", "C": "num_classes"}
_OPTIONS_1 = ("layers", "bidirectional", "pooling", "relu")
_OPTIONS_2 = (*_OPTIONS_1, "table_dtype", "recurrent_dtype")
_OPTIONS = {1: _OPTIONS_1, 2: _OPTIONS_2, 3: _OPTIONS_2}
"""Format version to the keys that are fields of `LookupConfig` by the same name."""
_KEYS_1 = {"format", "format_version", "axes", "max_tokens", "files", *_OPTIONS_1}
_KEYS_2 = {*_KEYS_1, *_OPTIONS_2, "tolerance", "word_table"}
_KEYS = {1: _KEYS_1, 2: _KEYS_2, 3: {*_KEYS_2, SEAL_KEY}}
_WORD_TABLE_KEYS = {field.name for field in dataclasses.fields(WordTableSizes)}
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """Length in bytes and sha256, lower-case hex, of one file of the folder."""

    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class LookupManifest:
    """Content of `manifest.json`.

    Attributes:
        config: Shape of the model.
        max_tokens: Texts are cut to so many ids.
        files: File name to record, for every file but the manifest and the runtime.
        tolerance: Largest difference of a probability when the golden probes are replayed.
        word_table: Sizes of the word table, None where the folder has none.
    """

    config: LookupConfig
    max_tokens: int
    files: Mapping[str, FileRecord]
    tolerance: float = TOLERANCE
    word_table: WordTableSizes | None = None


def check_tolerance(value: object, config: LookupConfig) -> float:
    """Return `value` if it is a usable bound for the replay of the golden probes.

    Raises:
        ValueError: It is not 1e-5 for exact arrays, or not a number from 1e-5 to 1 for others.
    """
    high = TOLERANCE if config.is_exact else 1.0
    if isinstance(value, bool) or not isinstance(value, float | int):
        raise ValueError(f"tolerance: expected a number, found {value!r}.")
    if not TOLERANCE <= value <= high:
        expected = f"{TOLERANCE} for exact arrays" if config.is_exact else f"{TOLERANCE} to 1"
        raise ValueError(f"tolerance: expected {expected}, found {value!r}.")
    return float(value)


def file_specs(config: LookupConfig, word_table: WordTableSizes | None) -> dict[str, ArraySpec]:
    """Return shape and type of every array by its file name."""
    specs = array_specs(config) | (word_specs(word_table) if word_table else {})
    return {array_file(name): spec for name, spec in specs.items()}


def format_manifest(manifest: LookupManifest) -> str:
    """Return the manifest as JSON text of the newest version; inverse of `parse_manifest`."""
    config = manifest.config
    specs = file_specs(config, manifest.word_table)
    files: dict[str, dict[str, Any]] = {}
    for name, record in manifest.files.items():
        files[name] = {"bytes": record.size, "sha256": record.sha256}
        if name in specs:
            files[name] |= {"dtype": specs[name].dtype, "shape": list(specs[name].shape)}
    fields = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "axes": {axis: getattr(config, field) for axis, field in _AXES.items()},
        **{name: getattr(config, name) for name in _OPTIONS[FORMAT_VERSION]},
        "max_tokens": manifest.max_tokens,
        "tolerance": manifest.tolerance,
        "word_table": manifest.word_table and dataclasses.asdict(manifest.word_table),
        "files": files,
        SEAL_KEY: BLANK,
    }
    return seal_text(json.dumps(fields, indent=2, sort_keys=True) + "\n")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"expected each key once, found {twice!r} twice.")
    return fields


def _refuse_constant(text: str) -> float:
    raise ValueError(f"expected finite numbers, found {text}.")


_DECODER = json.JSONDecoder(object_pairs_hook=_refuse_duplicates, parse_constant=_refuse_constant)
"""Made once: for each probe anew it takes as long as the parsing."""


def parse_json(data: bytes) -> Any:
    """Parse strict JSON: UTF-8, no duplicate keys, no NaN, bounded depth.

    Raises:
        ValueError: It is anything else.
    """
    try:
        return _DECODER.decode(data.decode("utf-8"))
    except RecursionError as err:
        raise ValueError("expected shallow JSON, found deep nesting.") from err


def parse_manifest(data: bytes, place: str) -> LookupManifest:
    """Check and parse the bytes of a `manifest.json`.

    Args:
        data: The file's bytes, already bounded.
        place: The file's path, for messages.

    Returns:
        The manifest. Its `files` are exactly the names the config calls for.

    Raises:
        UnsupportedVersionError: Another format version.
        ChecksumError: The bytes have another checksum than they hold.
        UnexpectedFileError: `files` names something the format does not have.
        ManifestError: Anything else that is wrong.
    """
    try:
        fields = parse_json(data)
    except ValueError as err:
        raise ManifestError(f"{place}: expected JSON, found a defect: {err}") from err
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        found = fields.get("format") if isinstance(fields, dict) else type(fields).__name__
        raise ManifestError(
            f"{place}: expected the manifest of a lookup folder, with format {FORMAT!r}, found "
            f"{found!r}. Give the path of an artifact's lookup/ folder."
        )
    version = fields.get("format_version")
    if isinstance(version, bool) or not isinstance(version, int) or version not in _KEYS:
        raise UnsupportedVersionError(
            f"{place}: expected format_version 1 to {FORMAT_VERSION}, found {version!r}. Use the "
            f"{RUNTIME_FOLDER}/ that lies in the artifact itself, or upgrade gatetable."
        )
    try:
        _check_keys("the manifest", fields, _KEYS[version])
        if SEAL_KEY in _KEYS[version]:
            digest = _check_digest(SEAL_KEY, fields[SEAL_KEY])
            if (found := hash_sealed(data, digest)) != digest:
                raise ChecksumError(
                    f"{place}: expected {SEAL_KEY} {digest}, found {found}. {REMEDY}"
                )
        _check_keys("axes", fields["axes"], set(_AXES))
        config = LookupConfig(
            **{field: fields["axes"][axis] for axis, field in _AXES.items()},
            **{name: fields[name] for name in _OPTIONS[version]},
        )
        max_tokens = check_max_tokens(fields["max_tokens"])
        # What version 1 lacks, it has by default: every array exact, no word table.
        tolerance = check_tolerance(fields.get("tolerance", TOLERANCE), config)
        word_table = None
        if (sizes := fields.get("word_table")) is not None:
            word_table = WordTableSizes(**_check_keys("word_table", sizes, _WORD_TABLE_KEYS))
        _check_files(fields["files"], file_specs(config, word_table), version, place)
    except ValueError as err:
        raise ManifestError(f"{place}: {err}") from err
    return LookupManifest(
        config=config,
        max_tokens=max_tokens,
        files={
            name: FileRecord(size=record["bytes"], sha256=record["sha256"])
            for name, record in fields["files"].items()
        },
        tolerance=tolerance,
        word_table=word_table,
    )


def _check_keys(subject: str, value: object, expected: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{subject}: expected an object, found {type(value).__name__}.")
    missing, extra = sorted(expected - value.keys()), sorted(value.keys() - expected)
    if missing or extra:
        raise ValueError(
            f"{subject}: expected the keys {', '.join(sorted(expected))}; missing "
            f"{', '.join(missing) or 'none'}, unknown {', '.join(extra) or 'none'}."
        )
    return value


def _check_digest(subject: str, value: object) -> str:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise ValueError(f"{subject}: expected 64 lower-case hex digits, found {value!r:.80}.")
    return value


def _check_files(files: object, specs: Mapping[str, ArraySpec], version: int, place: str) -> None:
    """Check that `files` lists exactly the format's names, with a plausible record each."""
    expected = specs.keys() | SIDE_FILE_CAPS.keys()
    if isinstance(files, dict) and (extra := sorted(files.keys() - expected)):
        raise UnexpectedFileError(
            f"{place}: expected only files that version {version} has for these options, found "
            f"{extra[0]!r} in its list. Export the run again."
        )
    files = _check_keys("files", files, expected)
    for name, record in files.items():
        spec = specs.get(name)
        keys = {"bytes", "sha256"} | ({"dtype", "shape"} if spec else set())
        _check_keys(f"files[{name!r}]", record, keys)
        cap = spec.size + MAX_HEADER_BYTES if spec else SIDE_FILE_CAPS[name]
        check_int(f"files[{name!r}].bytes", record["bytes"], 0, cap)
        _check_digest(f"files[{name!r}].sha256", record["sha256"])
        if spec and (record["dtype"], record["shape"]) != (spec.dtype, list(spec.shape)):
            raise ValueError(
                f"files[{name!r}]: expected dtype {spec.dtype!r} and shape {list(spec.shape)} "
                f"from axes and options, found {record['dtype']!r} and {record['shape']!r}."
            )
