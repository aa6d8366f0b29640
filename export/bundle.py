"""Second contract: the artifact folder. `publish_artifact` writes it, `read_artifact` reads it.

The layout is described in `docs/artifact_format.md`. A version is assembled under a hidden name
beside the others, flushed to disk, and renamed; readers see it whole or not at all. Nothing here
imports a runtime, and nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.run_folder import (
    LATEST_FILE,
    ModelConfig,
    check_run_name,
)

SCHEMA_VERSION = 3
"""Of manifest.json's own keys."""
FORMAT_VERSION = 3
"""Of the files of an artifact; history in `docs/artifact_format.md`."""

MANIFEST_FILE = "manifest.json"
LABELS_FILE = "labels.json"
TOKENIZER_FILE = "tokenizer.model"
GOLDEN_FILE = "golden.jsonl"
SAVED_MODEL_FOLDER = "saved_model"
SAVED_MODEL_TEXT_FOLDER = "saved_model_text"
ONNX_FILE = "model.onnx"
ORACLE_FILE = "oracle/model_tf2onnx.onnx"
LOOKUP_FOLDER = "lookup"
MODEL_CARD_FILE = "MODEL_CARD.md"
REQUIRED_FILES = (
    LABELS_FILE,
    TOKENIZER_FILE,
    GOLDEN_FILE,
    f"{SAVED_MODEL_FOLDER}/saved_model.pb",
    f"{SAVED_MODEL_TEXT_FOLDER}/saved_model.pb",
    ONNX_FILE,
    f"{LOOKUP_FOLDER}/{MANIFEST_FILE}",
    MODEL_CARD_FILE,
)
OPTIONAL_FILES = (ORACLE_FILE,)
"""May be deleted from a published artifact."""

MAX_MANIFEST_BYTES = 4 * 2**20
MAX_LABELS_BYTES = 64 * 2**20
MAX_FILES = 10_000

_SHA256 = re.compile(r"[0-9a-f]{64}")
_REMEDY = "Copy the artifact again, or export the run again with `make export`."
_KEYS_1 = frozenset(
    {
        "schema_version",
        "format_version",
        "name",
        "version",
        "model",
        "axes",
        "pooling",
        "max_tokens",
        "labels_sha256",
        "tokenizer_sha256",
        "files",
        "metrics",
        "parity",
        "provenance",
    }
)
_KEYS_2 = _KEYS_1 | {"compression", "word_table"}
_SEAL = "manifest_sha256"
_SEALED_SINCE = 3
"""Schema version from which the manifest holds its own checksum."""
_KEYS = {1: _KEYS_1, 2: _KEYS_2, 3: _KEYS_2 | {_SEAL}}
"""Schema version to the keys of manifest.json."""


class BundleError(Exception):
    """An artifact folder that cannot be read: missing, damaged, unsafe, or of a newer format."""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """One published artifact as its manifest describes it.

    Attributes:
        folder: Where it lies.
        name: What it classifies; the dataset's name unless chosen otherwise.
        version: Increasing integer.
        manifest: The whole `manifest.json`.
        labels: Label names in id order, C of them.
        max_tokens: Texts are cut to so many ids.
        vocab_size: V.
    """

    folder: Path
    name: str
    version: int
    manifest: Mapping[str, Any]
    labels: tuple[str, ...]
    max_tokens: int
    vocab_size: int

    @property
    def saved_model_path(self) -> Path:
        """SavedModel, ids in."""
        return self.folder / SAVED_MODEL_FOLDER

    @property
    def saved_model_text_path(self) -> Path:
        """SavedModel, raw text in; needs tensorflow-text."""
        return self.folder / SAVED_MODEL_TEXT_FOLDER

    @property
    def onnx_path(self) -> Path:
        """ONNX graph with fused GRU operators."""
        return self.folder / ONNX_FILE

    @property
    def oracle_path(self) -> Path:
        """The tf2onnx graph of the same model (Loop); optional, may be absent."""
        return self.folder / ORACLE_FILE

    @property
    def lookup_path(self) -> Path:
        """Lookup folder."""
        return self.folder / LOOKUP_FOLDER

    @property
    def tokenizer_path(self) -> Path:
        """SentencePiece model."""
        return self.folder / TOKENIZER_FILE

    @property
    def golden_path(self) -> Path:
        """Golden probes, JSON Lines."""
        return self.folder / GOLDEN_FILE

    @property
    def model_card_path(self) -> Path:
        """The generated model card."""
        return self.folder / MODEL_CARD_FILE


def hash_file(path: Path) -> str:
    """Return the sha256 of a file, lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_files(folder: Path) -> list[str]:
    """Return every file below `folder`, sorted, as relative POSIX paths.

    Byte-code that Python left when `lookup/runtime` was imported in place is skipped.

    Raises:
        BundleError: There is a link, something that is no file, or too many files.
    """
    names = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for entry in (*files, *folders):
            path = Path(parent, entry)
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise BundleError(
                    f"{path}: expected a regular file, found a link or something else. Copy the "
                    "files themselves into the folder."
                )
        names += [Path(parent, name).relative_to(folder).as_posix() for name in files]
        if len(names) > MAX_FILES:
            raise BundleError(f"{folder}: expected at most {MAX_FILES} files, found more.")
    return sorted(names)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_text(path: Path, text: str) -> None:
    """Write a small file so that readers see the old or the new content."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    _fsync(partial)
    partial.replace(path)


def iterate_versions(folder: Path) -> Iterator[int]:
    """Yield the versions published in `<artifacts>/<name>`, in no order."""
    for path in folder.glob("*/" + MANIFEST_FILE):
        if re.fullmatch(r"[1-9][0-9]{0,8}", path.parent.name):
            yield int(path.parent.name)


def publish_artifact(partial: Path, folder: Path, fields: Mapping[str, Any]) -> Path:
    """Complete a partial artifact folder and publish it as the next version.

    Safe beside another process that publishes the same name: a rename never replaces a version
    that exists, the loser takes the next number.

    Args:
        partial: Folder on the same file system as `folder`, holding every file but the manifest.
        folder: `<artifacts>/<name>`.
        fields: The manifest without `files`, `version` and the schema keys.

    Returns:
        The published folder.

    Raises:
        BundleError: A required file is missing from `partial`.
    """
    names = list_files(partial)
    missing = sorted(set(REQUIRED_FILES) - set(names))
    if missing:
        raise BundleError(
            f"{partial}: expected {', '.join(missing)} before it is published, found none."
        )
    files = {
        name: {"bytes": (partial / name).stat().st_size, "sha256": hash_file(partial / name)}
        for name in names
    }
    for name in names:
        _fsync(partial / name)
    folder.mkdir(parents=True, exist_ok=True)
    version = max(iterate_versions(folder), default=0) + 1
    while True:
        manifest = {
            **fields,
            "schema_version": SCHEMA_VERSION,
            "format_version": FORMAT_VERSION,
            "version": version,
            "files": files,
        }
        _write_text(partial / MANIFEST_FILE, format_manifest(manifest))
        for path in (partial, *(path for path in partial.rglob("*") if path.is_dir())):
            _fsync(path)
        target = folder / str(version)
        try:
            partial.rename(target)
            break
        except OSError:
            if not target.exists():
                raise
            version += 1
    _fsync(folder)
    write_latest(folder)
    return target


def format_manifest(manifest: Mapping[str, Any]) -> str:
    """Return the text of manifest.json, with its own checksum where its schema has one.

    The rule is that of `export/lookup/seal.py`; importing that package would load NumPy, which
    nothing here needs.

    Args:
        manifest: Every key but the checksum, which is ignored.
    """
    is_sealed = manifest["schema_version"] >= _SEALED_SINCE
    fields = {**manifest, **({_SEAL: _BLANK} if is_sealed else {})}
    text = json.dumps(fields, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    if is_sealed:
        digest = hashlib.sha256(text.encode()).hexdigest()
        text = text.replace(_format_seal(_BLANK), _format_seal(digest), 1)
    return text


_BLANK = "0" * 64
"""Stands for the checksum while it is computed."""


def _format_seal(digest: str) -> str:
    # Unescaped quotes: no string in a manifest can hold this text.
    return f'"{_SEAL}": "{digest}"'


def _check_seal(place: Path, data: bytes, digest: Any) -> None:
    """Check that the manifest's bytes, its own checksum blanked, have that checksum."""
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        raise BundleError(
            f"{place} {_SEAL}: expected 64 lower-case hex digits, found {digest!r:.80}. {_REMEDY}"
        )
    blank = data.replace(f'"{digest}"'.encode(), f'"{_BLANK}"'.encode(), 1)
    found = hashlib.sha256(blank).hexdigest()
    if found != digest:
        raise BundleError(f"{place}: expected {_SEAL} {digest}, found {found}. {_REMEDY}")


def write_latest(folder: Path) -> None:
    """Point `<artifacts>/<name>/latest` at the highest version."""
    _write_text(folder / LATEST_FILE, f"{max(iterate_versions(folder))}\n")
    _fsync(folder)


def remove_partials(folder: Path) -> None:
    """Delete what killed exporters left in `<artifacts>/<name>`; the caller holds its lock."""
    for path in folder.glob(".partial-*"):
        shutil.rmtree(path, ignore_errors=True)


def find_artifact(artifacts: Path, name: str | None = None, version: int | None = None) -> Path:
    """Return the folder of an artifact.

    Args:
        artifacts: Folder that holds `<name>/<version>/`.
        name: Which; the one published last when None.
        version: Which; when None the one in use, which `latest` names.

    Raises:
        BundleError: There is no such artifact.
    """
    if name is None:
        latest = sorted(
            artifacts.glob(f"[!.]*/{LATEST_FILE}"), key=lambda path: (path.stat().st_mtime, path)
        )
        if not latest:
            raise BundleError(f"{artifacts}: no artifact yet. Export a run with `make export`.")
        name = latest[-1].parent.name
    try:
        check_run_name(name)
    except ValueError as err:
        raise BundleError(f"artifact {err}") from err
    versions = sorted(iterate_versions(artifacts / name))
    if not versions:
        known = sorted(
            {path.parent.parent.name for path in artifacts.glob("[!.]*/*/manifest.json")}
        )
        raise BundleError(
            f"{artifacts}: no artifact named {name!r}; there are: {', '.join(known) or 'none'}. "
            "Export a run with `make export`."
        )
    if version is None:
        version = _find_used(artifacts / name, versions)
    if version not in versions:
        raise BundleError(
            f"{artifacts / name}: no version {version}; there are: {', '.join(map(str, versions))}."
        )
    return artifacts / name / str(version)


def _find_used(folder: Path, versions: Sequence[int]) -> int:
    """Return the version that `latest` names; the highest where it names none of `versions`."""
    try:
        named = int((folder / LATEST_FILE).read_bytes()[:64])
    except (FileNotFoundError, ValueError):
        return versions[-1]
    return named if named in versions else versions[-1]


def _read_capped(path: Path, cap: int) -> bytes:
    try:
        size = path.stat().st_size
        if size > cap:
            raise BundleError(f"{path}: expected at most {cap} bytes, found {size}. {_REMEDY}")
        return path.read_bytes()
    except FileNotFoundError as err:
        raise BundleError(f"{path}: no such file. {_REMEDY}") from err


def _parse_json(path: Path, data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as err:
        raise BundleError(f"{path}: expected JSON, found {err}. {_REMEDY}") from err


def _check_names(folder: Path, files: Any) -> None:
    """Compare the files on disk with the manifest's list: safe names, presence, lengths."""
    place = folder / MANIFEST_FILE
    if not isinstance(files, dict):
        raise BundleError(f"{place} files: expected an object, found {files!r:.40}. {_REMEDY}")
    for name, record in files.items():
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in name or pure.as_posix() != name:
            raise BundleError(f"{place} files: expected relative paths, found {name!r}. {_REMEDY}")
        if (
            not isinstance(record, dict)
            or type(record.get("bytes")) is not int
            or not _SHA256.fullmatch(str(record.get("sha256")))
        ):
            raise BundleError(
                f"{place} files[{name!r}]: expected bytes and sha256, found {record!r:.80}. "
                f"{_REMEDY}"
            )
    present = set(list_files(folder)) - {MANIFEST_FILE}
    for name in sorted((set(files) | set(REQUIRED_FILES)) - present - set(OPTIONAL_FILES)):
        raise BundleError(f"{folder / name}: expected this file, found none. {_REMEDY}")
    for name in sorted(present - set(files)):
        raise BundleError(
            f"{folder / name}: expected only files that {MANIFEST_FILE} lists, found this one. "
            "Remove it, or copy the artifact again."
        )
    for name in sorted(present):
        size = (folder / name).stat().st_size
        if size != files[name]["bytes"]:
            raise BundleError(
                f"{folder / name}: expected {files[name]['bytes']} bytes from {MANIFEST_FILE}, "
                f"found {size}. {_REMEDY}"
            )


def read_artifact(folder: Path, *, check_hashes: bool = True) -> Artifact:
    """Read and check an artifact folder: size caps, version, names, lengths, checksums.

    Args:
        folder: A folder that `publish_artifact` published, wherever it was copied.
        check_hashes: Whether every byte is read to compare checksums.

    Returns:
        The artifact. No model is loaded.

    Raises:
        BundleError: The folder is missing, incomplete, damaged, unsafe, or of a newer format.
    """
    place = folder / MANIFEST_FILE
    if not place.is_file():
        raise BundleError(
            f"{place}: no such file, so {folder} is not an artifact. Export a run with "
            "`make export`."
        )
    data = _read_capped(place, MAX_MANIFEST_BYTES)
    manifest = _parse_json(place, data)
    if not isinstance(manifest, dict):
        raise BundleError(f"{place}: expected an object, found {manifest!r:.40}. {_REMEDY}")
    for key, newest in (("schema_version", SCHEMA_VERSION), ("format_version", FORMAT_VERSION)):
        found = manifest.get(key)
        if type(found) is not int or not 1 <= found <= newest:
            raise BundleError(
                f"{place}: expected {key} 1 to {newest}, found {found!r}. Upgrade gatetable, or "
                "export the run again."
            )
    keys = _KEYS[manifest["schema_version"]]
    if manifest.keys() != keys:
        raise BundleError(
            f"{place}: missing {sorted(keys - manifest.keys())}, unknown "
            f"{sorted(manifest.keys() - keys)}. {_REMEDY}"
        )
    if _SEAL in keys:
        _check_seal(place, data, manifest[_SEAL])
    _check_names(folder, manifest["files"])
    if check_hashes:
        for name in sorted(manifest["files"]):
            path = folder / name
            if name in OPTIONAL_FILES and not path.exists():
                continue
            sha256 = hash_file(path)
            if sha256 != manifest["files"][name]["sha256"]:
                raise BundleError(
                    f"{path}: expected sha256 {manifest['files'][name]['sha256']} from "
                    f"{MANIFEST_FILE}, found {sha256}. {_REMEDY}"
                )
    labels_path = folder / LABELS_FILE
    labels = _parse_json(labels_path, _read_capped(labels_path, MAX_LABELS_BYTES))
    try:
        model = ModelConfig.from_json(manifest["model"])
        artifact = Artifact(
            folder=folder,
            name=str(manifest["name"]),
            version=int(manifest["version"]),
            manifest=manifest,
            labels=tuple(str(label) for label in labels),
            max_tokens=int(manifest["max_tokens"]),
            vocab_size=model.vocab_size,
        )
    except (TypeError, ValueError) as err:
        raise BundleError(f"{place}: {err} {_REMEDY}") from err
    if len(artifact.labels) != model.num_classes:
        raise BundleError(
            f"{folder / LABELS_FILE}: expected {model.num_classes} labels as in {MANIFEST_FILE}, "
            f"found {len(artifact.labels)}. {_REMEDY}"
        )
    return artifact
