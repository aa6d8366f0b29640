"""What differs between two artifacts: settings, files, arrays, figures, and answers to the probes.

Arrays are compared memory-mapped, piece by piece; answers by the lookup runtime. TensorFlow is not
imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.bundle import MANIFEST_FILE, OPTIONAL_FILES, Artifact, BundleError, read_artifact
from export.inspection import is_lookup_folder
from export.lookup import LookupFiles, LookupModel, read_lookup
from export.runtimes import pad_ids

UNAVOIDABLE_FILES = (
    "saved_model/saved_model.pb",
    "saved_model/fingerprint.pb",
    "saved_model_text/saved_model.pb",
    "saved_model_text/fingerprint.pb",
    *OPTIONAL_FILES,
    "MODEL_CARD.md",
    "lookup/runtime/*",
)
"""Files that may differ where answers and settings do not: TensorFlow numbers the functions of a
graph by a counter of the process, the oracle is made from that graph, and the card and the runtime
tell of the exporter's code. Weights are not among them, those of a SavedModel neither."""
UNAVOIDABLE_KEYS = ("version", "files", "manifest_sha256", "metrics", "parity", "provenance")
"""Keys of the manifest likewise: where an artifact comes from and what was measured, not what it
does. `files` is compared as files."""

_CHUNK = 2**20
"""Numbers compared at a time: 8 MiB of float64 a side."""

Progress = Callable[[str, int, int], None]
Pair = tuple[Any, Any]


@dataclass(frozen=True, kw_only=True)
class ArrayDifference:
    """One array of `lookup/` that is not the same in both.

    Attributes:
        first: Stored type and shape, or None where only the second has it.
        second: Likewise.
        largest: Largest absolute difference of the numbers as stored; None where types or shapes
            differ.
    """

    first: str | None
    second: str | None
    largest: float | None = None


@dataclass(frozen=True, kw_only=True)
class ProbeDifference:
    """How the second answers the golden probes of the first.

    Attributes:
        rows: Probes asked; 0 where they cannot be compared.
        top_1_changes: Of which so many have another first class.
        max_abs_probability_diff: Over all of them.
        other_ids: Probes whose text gives other ids.
        reason: Why nothing was compared, else None.
    """

    rows: int = 0
    top_1_changes: int = 0
    max_abs_probability_diff: float = 0.0
    other_ids: int = 0
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class ArtifactDiff:
    """What differs between two artifacts. Pairs are (first, second), None where one has none.

    Attributes:
        first: Folder.
        second: Folder.
        is_identical: Whether both hold the same bytes.
        settings: Of the manifest, all but `UNAVOIDABLE_KEYS`; by dotted key.
        labels_added: Only the second has them.
        labels_removed: Only the first has them.
        same_files: Files of the same bytes.
        files: Name to `other`, `only in A` or `only in B`.
        arrays: By name, those that are not the same.
        metrics: By dotted key.
        parity: By dotted key.
        provenance: By dotted key.
        probes: See `ProbeDifference`.
    """

    first: str
    second: str
    is_identical: bool
    settings: Mapping[str, Pair] = field(default_factory=dict)
    labels_added: tuple[str, ...] = ()
    labels_removed: tuple[str, ...] = ()
    same_files: int = 0
    files: Mapping[str, str] = field(default_factory=dict)
    arrays: Mapping[str, ArrayDifference] = field(default_factory=dict)
    metrics: Mapping[str, Pair] = field(default_factory=dict)
    parity: Mapping[str, Pair] = field(default_factory=dict)
    provenance: Mapping[str, Pair] = field(default_factory=dict)
    probes: ProbeDifference = ProbeDifference()

    @property
    def matters(self) -> bool:
        """Whether anything but the unavoidable differs."""
        return bool(
            self.settings
            or any(not is_unavoidable(name) for name in self.files)
            or self.probes.reason
            or self.probes.top_1_changes
            or self.probes.other_ids
            or self.probes.max_abs_probability_diff > 0
        )


def is_unavoidable(name: str) -> bool:
    """Tell whether a file may differ between two artifacts that do the same."""
    return any(fnmatchcase(name, pattern) for pattern in UNAVOIDABLE_FILES)


def _silence(*_: object) -> None:
    """Show no progress."""


def compare_artifacts(first: Path, second: Path, *, progress: Progress = _silence) -> ArtifactDiff:
    """Compare two artifacts; checksums are verified first.

    Args:
        first: A version's folder.
        second: Another one.
        progress: Told an array's name, numbers compared, and numbers in all.

    Raises:
        BundleError: One of them cannot be read or is damaged.
        ArtifactError: The lookup folder of one of them is.
    """
    one, two = _read(first), _read(second)
    files, same_files = _compare_files(one, two)
    manifests = [(folder / MANIFEST_FILE).read_bytes() for folder in (first, second)]
    if not files and manifests[0] == manifests[1]:
        return ArtifactDiff(first=str(first), second=str(second), is_identical=True)
    old, new = (
        read_lookup(artifact.lookup_path, check_hashes=False) for artifact in (one, two)
    )  # checksums were compared with the artifact's own list
    settings = _compare_values(_settings(one), _settings(two))
    return ArtifactDiff(
        first=str(first),
        second=str(second),
        is_identical=False,
        settings=settings,
        labels_added=tuple(sorted(set(two.labels) - set(one.labels))),
        labels_removed=tuple(sorted(set(one.labels) - set(two.labels))),
        same_files=same_files,
        files=files,
        arrays=_compare_arrays(old, new, progress),
        **{
            key: _compare_values(one.manifest[key], two.manifest[key])
            for key in ("metrics", "parity", "provenance")
        },
        probes=_compare_answers(old, new),
    )


def _read(folder: Path) -> Artifact:
    if (folder / MANIFEST_FILE).is_file() and is_lookup_folder(folder):
        raise BundleError(
            f"{folder}: expected an artifact, found a lookup folder alone. Give the folder above."
        )
    return read_artifact(folder)


def _settings(artifact: Artifact) -> dict[str, Any]:
    manifest = {key: artifact.manifest[key] for key in artifact.manifest}
    for key in UNAVOIDABLE_KEYS:
        manifest.pop(key, None)
    compression = manifest.pop("compression", {"table_dtype": "float32"})
    words = manifest.pop("word_table", {"words": 0})
    stored = {"table_dtype": "float32", "recurrent_dtype": "float32", "tolerance": 1e-5}
    return {
        **manifest,
        **{key: compression.get(key, default) for key, default in stored.items()},
        "words": words.get("words", 0),
    }


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return leaves by dotted key; a list is a leaf."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    leaves: dict[str, Any] = {}
    for key, inner in value.items():
        leaves |= _flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    return leaves


def _compare_values(first: Any, second: Any) -> dict[str, Pair]:
    one, two = _flatten(first), _flatten(second)
    return {
        key: (one.get(key), two.get(key))
        for key in sorted(one.keys() | two.keys())
        if one.get(key) != two.get(key)
    }


def _compare_files(one: Artifact, two: Artifact) -> tuple[dict[str, str], int]:
    """Return what is not the same, and how many files are."""
    lists = []
    for artifact in (one, two):
        lists.append(
            {
                name: record["sha256"]
                for name, record in artifact.manifest["files"].items()
                if name not in OPTIONAL_FILES or (artifact.folder / name).exists()
            }
        )
    old, new = lists
    found = {}
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            found[name] = "only in A"
        elif name not in old:
            found[name] = "only in B"
        elif old[name] != new[name]:
            found[name] = "other"
    return found, len(old.keys() & new.keys()) - sum(what == "other" for what in found.values())


def _describe_array(array: NDArray[Any] | None) -> str | None:
    return None if array is None else f"{array.dtype.str} {array.shape}"


def _list_arrays(files: LookupFiles) -> dict[str, NDArray[Any]]:
    return {**files.arrays, **(vars(files.words) if files.words is not None else {})}


def _compare_arrays(
    old: LookupFiles, new: LookupFiles, progress: Progress
) -> dict[str, ArrayDifference]:
    one, two = _list_arrays(old), _list_arrays(new)
    done, total = 0, sum(array.size for array in one.values())
    found = {}
    for name in sorted(one.keys() | two.keys()):
        first, second = one.get(name), two.get(name)
        progress(name, done, total)
        done += 0 if first is None else first.size
        largest = None
        if (
            first is not None
            and second is not None
            and (first.dtype, first.shape) == (second.dtype, second.shape)
        ):
            largest = measure_largest_difference(first, second)
        if largest != 0:
            found[name] = ArrayDifference(
                first=_describe_array(first), second=_describe_array(second), largest=largest
            )
    return found


def measure_largest_difference(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Return the largest absolute difference of two arrays of one shape, 0 of empty ones."""
    one, two = first.reshape(-1), second.reshape(-1)  # views: both are C-ordered
    largest = 0.0
    for start in range(0, one.size, _CHUNK):
        piece = slice(start, start + _CHUNK)
        difference = one[piece].astype(np.float64) - two[piece].astype(np.float64)
        largest = max(largest, float(np.abs(difference).max()))
    return largest


def _compare_answers(old: LookupFiles, new: LookupFiles) -> ProbeDifference:
    """Ask both for the golden probes of the first, from text to probabilities."""
    if old.labels != new.labels:
        return ProbeDifference(reason="The labels are not the same.")
    models = [LookupModel(files, check_tokenizer=False) for files in (old, new)]
    ids = [list(probe.ids) for probe in old.golden]
    others = ids
    if old.tokenizer != new.tokenizer or old.max_tokens != new.max_tokens:
        try:
            tokens, lengths = models[1].encode([probe.text for probe in old.golden])
        except ImportError:
            return ProbeDifference(
                reason="The tokenizers are not the same, and sentencepiece is not installed."
            )
        others = [row[:n].tolist() for row, n in zip(tokens, lengths, strict=True)]
    answers = [
        model.probabilities(*pad_ids(rows))
        for model, rows in zip(models, (ids, others), strict=True)
    ]
    return ProbeDifference(
        rows=len(ids),
        top_1_changes=int((answers[0].argmax(axis=1) != answers[1].argmax(axis=1)).sum()),
        max_abs_probability_diff=float(np.abs(answers[0] - answers[1]).max()),
        other_ids=sum(one != two for one, two in zip(ids, others, strict=True)),
    )
