"""What a folder is: an artifact, or a lookup folder alone, told from its files alone.

No model is loaded and no runtime imported; an ONNX file is parsed as a list of nodes where the
package onnx is installed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from export.bundle import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    MODEL_CARD_FILE,
    ONNX_FILE,
    OPTIONAL_FILES,
    ORACLE_FILE,
    Artifact,
    BundleError,
    find_artifact,
    hash_file,
    iterate_versions,
    read_artifact,
)
from export.lookup import LookupFiles, read_lookup
from export.lookup.manifest import FORMAT as LOOKUP_FORMAT
from export.store.files import signature_path

MAX_ONNX_BYTES = 512 * 2**20
"""Larger graphs are not opened: parsing one takes several times its size of memory."""
_MAX_CARD_BYTES = 2**20
_MAX_NODES = 1_000_000

Progress = Callable[[str, int, int], None]
"""Told what is done: a file's name, bytes so far, bytes in all."""


@dataclass(frozen=True, kw_only=True)
class ListedFile:
    """One file as a manifest lists it.

    Attributes:
        name: Path in the folder.
        size: Bytes.
        sha256: As listed.
        holds: Whether the file has that sha256; None where that was not compared.
    """

    name: str
    size: int
    sha256: str
    holds: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Graph:
    """What an ONNX file says of itself.

    Attributes:
        name: Path in the folder.
        opsets: Domain to version; the standard domain is "".
        ir_version: Of the file format.
        operators: Operator to how often, subgraphs included, most frequent first.
    """

    name: str
    opsets: Mapping[str, int]
    ir_version: int
    operators: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What a folder is. What only an artifact has is None or empty of a lookup folder alone.

    Attributes:
        kind: `artifact` or `lookup`.
        folder: Where it lies.
        name: Of the artifact.
        version: Of the artifact.
        schema_version: Of its manifest.
        format_version: Of the folder's files.
        lookup_format_version: Of the lookup folder's.
        model: `layers`, `bidirectional`, `units`, `embed_dim`, `pooling`, `relu`, and of an
            artifact the dropouts.
        axes: V, E, H, C.
        max_tokens: Texts are cut to so many ids.
        labels: In id order.
        files: In the order of their names.
        arrays: Array to stored type and shape.
        table_dtype: How gate tables are stored.
        recurrent_dtype: How recurrent kernels are stored.
        tolerance: Of a probability at the replay of the probes.
        words: In the word table; 0 without one.
        probes: Golden probes in the folder.
        metrics: As in the manifest.
        calibration: What the model card says about it.
        parity: As in the manifest.
        provenance: As in the manifest.
        is_signed: Whether a signature lies beside the folder. Whose is for `pull` to say.
        graphs: ONNX files that could be read.
        notes: What could not be told, and why.
    """

    kind: str
    folder: str
    name: str | None = None
    version: int | None = None
    schema_version: int | None = None
    format_version: int
    lookup_format_version: int
    model: Mapping[str, Any]
    axes: Mapping[str, int]
    max_tokens: int
    labels: tuple[str, ...]
    files: tuple[ListedFile, ...]
    arrays: Mapping[str, tuple[str, tuple[int, ...]]]
    table_dtype: str
    recurrent_dtype: str
    tolerance: float
    words: int
    probes: int
    metrics: Mapping[str, Any] = field(default_factory=dict)
    calibration: str | None = None
    parity: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    is_signed: bool = False
    graphs: tuple[Graph, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def damaged(self) -> tuple[str, ...]:
        """Names of files that do not have the sha256 their manifest lists."""
        return tuple(file.name for file in self.files if file.holds is False)


def find_folder(text: str | None, artifacts: Path) -> Path:
    """Return the folder that a user names.

    Args:
        text: A version's folder, a lookup folder, an artifact's folder or name (then the version
            in use), or None for the artifact published last.
        artifacts: Where names are looked up.

    Raises:
        BundleError: There is no such folder.
    """
    if text is None:
        return find_artifact(artifacts)
    path = Path(text)
    if not path.is_dir():
        if "/" not in text:
            return find_artifact(artifacts, text)
        raise BundleError(f"{path}: expected an artifact's folder, found none. Correct the path.")
    if (path / MANIFEST_FILE).is_file():
        return path
    if any(iterate_versions(path)):
        return find_artifact(path.resolve().parent, path.resolve().name)
    raise BundleError(
        f"{path / MANIFEST_FILE}: no such file, so {path} is neither an artifact nor a lookup "
        "folder. Export a run with `make export`."
    )


def is_lookup_folder(folder: Path) -> bool:
    """Tell whether a folder's manifest says it is a lookup folder; a reader must still check it."""
    try:
        with (folder / MANIFEST_FILE).open("rb") as file:
            manifest = json.loads(file.read(MAX_MANIFEST_BYTES))
    except (ValueError, RecursionError):
        return False  # the reader of artifacts says what is wrong
    return isinstance(manifest, dict) and manifest.get("format") == LOOKUP_FORMAT


def _silence(*_: object) -> None:
    """Show no progress."""


def inspect_folder(
    folder: Path, *, check_hashes: bool = True, progress: Progress = _silence
) -> Inspection:
    """Tell what an artifact or a lookup folder is.

    Args:
        folder: Either.
        check_hashes: Whether every byte is read to compare checksums. A file that does not have
            its checksum is told, not refused.
        progress: See `Progress`.

    Raises:
        BundleError: The artifact cannot be read.
        ArtifactError: The lookup folder cannot.
    """
    if is_lookup_folder(folder):
        lookup = read_lookup(folder, check_hashes=False)
        manifest = json.loads((folder / MANIFEST_FILE).read_bytes())
        files = _list_files(folder, manifest["files"], check_hashes, progress)
        return Inspection(
            kind="lookup",
            folder=str(folder),
            format_version=manifest["format_version"],
            files=files,
            model=_describe_model(lookup),
            **_describe_lookup(lookup, manifest),
        )
    return _inspect_artifact(read_artifact(folder, check_hashes=False), check_hashes, progress)


def _inspect_artifact(artifact: Artifact, check_hashes: bool, progress: Progress) -> Inspection:
    manifest, folder = artifact.manifest, artifact.folder
    files = _list_files(folder, manifest["files"], check_hashes, progress)
    lookup = read_lookup(artifact.lookup_path, check_hashes=False)
    inner = json.loads((artifact.lookup_path / MANIFEST_FILE).read_bytes())
    graphs, notes = [], []
    for name in (ONNX_FILE, ORACLE_FILE):
        if (folder / name).is_file():
            try:
                graphs.append(read_graph(folder, name))
            except ValueError as err:
                notes.append(str(err))
    return Inspection(
        kind="artifact",
        folder=str(folder),
        name=artifact.name,
        version=artifact.version,
        schema_version=manifest["schema_version"],
        format_version=manifest["format_version"],
        model=manifest["model"],
        files=files,
        metrics=manifest["metrics"],
        calibration=_find_calibration(folder / MODEL_CARD_FILE),
        parity=manifest["parity"],
        provenance=manifest["provenance"],
        # Of the folder's real name: `latest`-like links and "." have none beside them.
        is_signed=signature_path(folder.resolve()).is_file(),
        graphs=tuple(graphs),
        notes=tuple(notes),
        **_describe_lookup(lookup, inner),
    )


def _describe_model(lookup: LookupFiles) -> dict[str, Any]:
    names = ("layers", "bidirectional", "units", "embed_dim", "pooling", "relu")
    return {name: getattr(lookup.config, name) for name in names}


def _describe_lookup(lookup: LookupFiles, manifest: Mapping[str, Any]) -> dict[str, Any]:
    config = lookup.config
    words = vars(lookup.words) if lookup.words is not None else {}
    return {
        "lookup_format_version": manifest["format_version"],
        "axes": manifest["axes"],
        "max_tokens": lookup.max_tokens,
        "labels": lookup.labels,
        "arrays": {
            name: (array.dtype.str, array.shape)
            for name, array in {**lookup.arrays, **words}.items()
        },
        "table_dtype": config.table_dtype,
        "recurrent_dtype": config.recurrent_dtype,
        "tolerance": lookup.tolerance,
        "words": 0 if lookup.words is None else lookup.words.sizes.words,
        "probes": len(lookup.golden),
    }


def _list_files(
    folder: Path, records: Mapping[str, Any], check_hashes: bool, progress: Progress
) -> tuple[ListedFile, ...]:
    there = {
        name: record
        for name, record in sorted(records.items())
        if name not in OPTIONAL_FILES or (folder / name).exists()
    }
    files = []
    done, total = 0, sum(record["bytes"] for record in there.values())
    for name, record in there.items():
        progress(name, done, total)
        holds = hash_file(folder / name) == record["sha256"] if check_hashes else None
        done += record["bytes"]
        files.append(
            ListedFile(name=name, size=record["bytes"], sha256=record["sha256"], holds=holds)
        )
    return tuple(files)


def _find_calibration(card: Path) -> str | None:
    """Return the paragraph of a model card that tells of calibration."""
    with card.open("rb") as file:
        text = file.read(_MAX_CARD_BYTES).decode("utf-8", errors="replace")
    for paragraph in text.split("\n\n"):
        line = " ".join(paragraph.split())
        if line.startswith("The probabilities are"):
            return line
    return None


def read_graph(folder: Path, name: str) -> Graph:
    """Return what an ONNX file says of itself. Its weights are parsed, but nothing is run.

    Raises:
        ValueError: It is no such file, too large, or the package onnx is absent.
    """
    path = folder / name
    if path.stat().st_size > MAX_ONNX_BYTES:
        raise ValueError(f"{path}: expected at most {MAX_ONNX_BYTES} bytes to open it, found more.")
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as err:
        raise ValueError(f"{path}: not opened. Install the extra `export` for onnx.") from err
    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError as err:
        raise ValueError(f"{path}: expected an ONNX model, found {err}.") from err
    counts: Counter[str] = Counter()
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        for node in graph.node:
            counts[f"{node.domain}.{node.op_type}" if node.domain else node.op_type] += 1
            for attribute in node.attribute:
                graphs += [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
        if counts.total() > _MAX_NODES:
            raise ValueError(f"{path}: expected at most {_MAX_NODES} nodes, found more.")
    operators = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    return Graph(
        name=name,
        opsets={one.domain: one.version for one in model.opset_import},
        ir_version=model.ir_version,
        operators=operators,
    )
