"""The lookup folder's `manifest.json`: what a model looks like and which files hold it.

`format_manifest` and `parse_manifest` are inverses. The parser trusts nothing: duplicate keys,
unknown keys, booleans in the place of integers and values out of range are refused, and the
names and shapes of the files follow from the axes alone, never from the manifest's own list.
The format is described in `docs/artifact_format.md`.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from .errors import ManifestError, UnexpectedFileError, UnsupportedVersionError

Pooling = Literal["last", "max", "mean"]

FORMAT = "gatetable-lookup"
FORMAT_VERSION = 1
"""Raised with every change of the folder's layout; history in `docs/artifact_format.md`."""

MANIFEST_FILE = "manifest.json"
LABELS_FILE = "labels.json"
TOKENIZER_FILE = "tokenizer.model"
GOLDEN_FILE = "golden.jsonl"
RUNTIME_FOLDER = "runtime"

UNK_ID = 1
"""Id of an unknown piece. A text without any piece is this one id."""

MAX_MANIFEST_BYTES = 2**20
MAX_TOKENS_LIMIT = 65_536
SIDE_FILE_CAPS = {LABELS_FILE: 2**26, TOKENIZER_FILE: 2**26, GOLDEN_FILE: 2**29}
"""Bytes each side file may have: far above real ones (kilobytes), far below a machine's memory."""

_LIMITS = {
    "vocab_size": (2, 1_000_000),  # rows 0 and 1, padding and unknown, always exist
    "embed_dim": (1, 4096),
    "units": (1, 4096),
    "num_classes": (2, 100_000),
    "layers": (1, 8),
}
_AXES = {"V": "vocab_size", "E": "embed_dim", "H": "units", "C": "num_classes"}
_KEYS = {
    "format",
    "format_version",
    "axes",
    "layers",
    "bidirectional",
    "pooling",
    "relu",
    "max_tokens",
    "files",
}
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class LookupConfig:
    """Shape of the model that a lookup folder holds; its field names are the pipeline's.

    Attributes:
        vocab_size: V, rows of the gate table.
        embed_dim: E of the trained model. Nothing here depends on it; it is told to readers.
        units: H, state size of each direction.
        num_classes: C.
        layers: Number of (Bi)GRU layers.
        bidirectional: Whether each layer also reads from right to left.
        pooling: `last` state, or `max` or `mean` over the outputs at the row's own positions.
        relu: Whether a ReLU stands between pooling and head.
    """

    vocab_size: int
    embed_dim: int
    units: int
    num_classes: int
    layers: int = 1
    bidirectional: bool = True
    pooling: Pooling = "max"
    relu: bool = True

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            _check_int(name, getattr(self, name), low, high)
        for name in ("bidirectional", "relu"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise ValueError(f"{name}: expected true or false, found {value!r}.")
        if self.pooling not in get_args(Pooling):
            raise ValueError(
                f"pooling: expected one of {', '.join(get_args(Pooling))}, found {self.pooling!r}."
            )

    @property
    def pooled_dim(self) -> int:
        """Width of a layer's output: directions x H."""
        return self.units * (2 if self.bidirectional else 1)


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
    """

    config: LookupConfig
    max_tokens: int
    files: Mapping[str, FileRecord]


def _check_int(name: str, value: object, low: int, high: int) -> int:
    # bool is an int in Python, and JSON's `true` must not pass for 1.
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name}: expected an integer from {low} to {high}, found {value!r}.")
    return value


def check_max_tokens(value: object) -> int:
    """Return `value` if it is a usable bound on the ids of a text.

    Raises:
        ValueError: It is not an integer from 1 to 65536.
    """
    return _check_int("max_tokens", value, 1, MAX_TOKENS_LIMIT)


def array_shapes(config: LookupConfig) -> dict[str, tuple[int, ...]]:
    """Return every array's shape by its manifest name, in a fixed order.

    Args:
        config: Shape of the model.

    Returns:
        `gate_table` (V, 3H), `recurrent_kernel` (H, 3H), `candidate_bias` (H,), then per further
        layer `layer_<k>_kernel` (directions*H, 3H), `layer_<k>_bias` (3H,) and its own recurrent
        kernel and candidate bias; the same again with the suffix `_backward` where the model is
        bidirectional; last `head_kernel` (directions*H, C) and `head_bias` (C,).
    """
    units, pooled = config.units, config.pooled_dim
    shapes: dict[str, tuple[int, ...]] = {}
    for suffix in ("", "_backward") if config.bidirectional else ("",):
        shapes[f"gate_table{suffix}"] = (config.vocab_size, 3 * units)
        shapes[f"recurrent_kernel{suffix}"] = (units, 3 * units)
        shapes[f"candidate_bias{suffix}"] = (units,)
        for layer in range(1, config.layers):
            shapes[f"layer_{layer}_kernel{suffix}"] = (pooled, 3 * units)
            shapes[f"layer_{layer}_bias{suffix}"] = (3 * units,)
            shapes[f"layer_{layer}_recurrent_kernel{suffix}"] = (units, 3 * units)
            shapes[f"layer_{layer}_candidate_bias{suffix}"] = (units,)
    shapes["head_kernel"] = (pooled, config.num_classes)
    shapes["head_bias"] = (config.num_classes,)
    return shapes


def array_file(name: str) -> str:
    """Return the file name of the array `name`."""
    return f"{name}.npy"


def file_names(config: LookupConfig) -> set[str]:
    """Return the names that the manifest of such a model lists: arrays and side files."""
    return {array_file(name) for name in array_shapes(config)} | set(SIDE_FILE_CAPS)


def format_manifest(manifest: LookupManifest) -> str:
    """Return the manifest as JSON text; inverse of `parse_manifest`."""
    config = manifest.config
    shapes = {array_file(name): shape for name, shape in array_shapes(config).items()}
    files: dict[str, dict[str, Any]] = {}
    for name, record in manifest.files.items():
        files[name] = {"bytes": record.size, "sha256": record.sha256}
        if name in shapes:
            files[name] |= {"dtype": "<f4", "shape": list(shapes[name])}
    fields = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "axes": {axis: getattr(config, field) for axis, field in _AXES.items()},
        "layers": config.layers,
        "bidirectional": config.bidirectional,
        "pooling": config.pooling,
        "relu": config.relu,
        "max_tokens": manifest.max_tokens,
        "files": files,
    }
    return json.dumps(fields, indent=2, sort_keys=True) + "\n"


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"expected each key once, found {twice!r} twice.")
    return fields


def _refuse_constant(text: str) -> float:
    raise ValueError(f"expected finite numbers, found {text}.")


def parse_json(data: bytes) -> Any:
    """Parse strict JSON: UTF-8, no duplicate keys, no NaN, bounded depth.

    Raises:
        ValueError: It is anything else.
    """
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_refuse_duplicates,
            parse_constant=_refuse_constant,
        )
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
    if isinstance(version, bool) or not isinstance(version, int) or version != FORMAT_VERSION:
        raise UnsupportedVersionError(
            f"{place}: expected format_version {FORMAT_VERSION}, found {version!r}. Use the "
            f"{RUNTIME_FOLDER}/ that lies in the artifact itself, or upgrade gatetable."
        )
    try:
        _check_keys("the manifest", fields, _KEYS)
        _check_keys("axes", fields["axes"], set(_AXES))
        config = LookupConfig(
            **{field: fields["axes"][axis] for axis, field in _AXES.items()},
            **{name: fields[name] for name in ("layers", "bidirectional", "pooling", "relu")},
        )
        max_tokens = check_max_tokens(fields["max_tokens"])
        _check_files(fields["files"], config, place)
    except ValueError as err:
        raise ManifestError(f"{place}: {err}") from err
    return LookupManifest(
        config=config,
        max_tokens=max_tokens,
        files={
            name: FileRecord(size=record["bytes"], sha256=record["sha256"])
            for name, record in fields["files"].items()
        },
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


def _check_files(files: object, config: LookupConfig, place: str) -> None:
    """Check that `files` lists exactly the format's names, with a plausible record each."""
    expected = file_names(config)
    if isinstance(files, dict) and (extra := sorted(files.keys() - expected)):
        raise UnexpectedFileError(
            f"{place}: expected only files that version {FORMAT_VERSION} has, found "
            f"{extra[0]!r} in its list. Export the run again."
        )
    files = _check_keys("files", files, expected)
    shapes = {array_file(name): shape for name, shape in array_shapes(config).items()}
    for name, record in files.items():
        keys = {"bytes", "sha256"} | ({"dtype", "shape"} if name in shapes else set())
        _check_keys(f"files[{name!r}]", record, keys)
        cap = SIDE_FILE_CAPS.get(name, 0) or 4 * math.prod(shapes[name]) + 1024
        _check_int(f"files[{name!r}].bytes", record["bytes"], 0, cap)
        digest = record["sha256"]
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise ValueError(
                f"files[{name!r}].sha256: expected 64 lower-case hex digits, found {digest!r}."
            )
        if name in shapes and (record["dtype"], record["shape"]) != ("<f4", list(shapes[name])):
            raise ValueError(
                f"files[{name!r}]: expected dtype '<f4' and shape {list(shapes[name])} from the "
                f"axes, found {record['dtype']!r} and {record['shape']!r}."
            )
