"""The lookup folder on disk: `write_lookup` and `read_lookup` are inverses.

The format is described in `docs/artifact_format.md`. The reader goes from cheap and safe to
costly: sizes, version, names, array headers, checksums, values. Nothing is unpickled, no path is
taken from a file, and a folder that fails is refused as a whole. `runtime/`, the copy of this
package that travels with the arrays, is code: the reader neither runs nor checks it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import LookupArrays, map_array, release_pages, write_array
from .config import (
    ArraySpec,
    LookupConfig,
    array_file,
    array_specs,
    check_max_tokens,
    word_specs,
)
from .errors import (
    REMEDY,
    LabelsError,
    NonFiniteError,
    PaddingRowError,
    QuantisationError,
    WordTableError,
)
from .folder_scan import check_hash, check_names, scan_folder
from .golden import Probe, check_probe, format_golden, parse_golden
from .manifest import (
    GOLDEN_FILE,
    LABELS_FILE,
    MANIFEST_FILE,
    RUNTIME_FOLDER,
    SIDE_FILE_CAPS,
    TOKENIZER_FILE,
    TOLERANCE,
    FileRecord,
    LookupManifest,
    check_tolerance,
    format_manifest,
    parse_json,
    parse_manifest,
)
from .values import check_kernel_integers, check_padding_row, check_scale, is_finite
from .word_arrays import WordArrays, check_word_bounds, check_word_content


@dataclass(frozen=True, kw_only=True)
class LookupFiles:
    """Content of a lookup folder, arrays memory-mapped read-only.

    Attributes:
        folder: Where it lies.
        config: Shape of the model.
        max_tokens: Texts are cut to so many ids.
        arrays: Manifest name to array; names, shapes and types as `array_specs` gives them.
        labels: Label names in id order, C of them, distinct.
        tokenizer: Bytes of the SentencePiece model.
        golden: Probes, at least one.
        tolerance: Largest difference of a probability when the golden probes are replayed.
        words: The word table, or None.
    """

    folder: Path
    config: LookupConfig
    max_tokens: int
    arrays: LookupArrays
    labels: tuple[str, ...]
    tokenizer: bytes
    golden: tuple[Probe, ...]
    tolerance: float = TOLERANCE
    words: WordArrays | None = None


def write_lookup(
    folder: Path,
    *,
    config: LookupConfig,
    arrays: LookupArrays,
    labels: Sequence[str],
    tokenizer: bytes,
    golden: Sequence[Probe],
    max_tokens: int,
    tolerance: float = TOLERANCE,
    words: WordArrays | None = None,
) -> None:
    """Write a lookup folder, `runtime/` included, in one rename. The same content, the same bytes.

    Args:
        folder: Where to; must not exist.
        config: See `LookupFiles`.
        arrays: See `LookupFiles`; row 0 of each gate table must equal row 1, because padding
            where a token should be counts as an unknown token.
        labels: See `LookupFiles`.
        tokenizer: See `LookupFiles`.
        golden: See `LookupFiles`.
        max_tokens: See `LookupFiles`.
        tolerance: See `LookupFiles`; 1e-5 unless `config` compresses something.
        words: See `LookupFiles`.

    Raises:
        FileExistsError: `folder` exists.
        ValueError: The content is not of the shape that `config` describes.
    """
    if folder.exists():
        raise FileExistsError(f"{folder}: expected a new folder, found an existing one.")
    check_max_tokens(max_tokens)
    check_tolerance(tolerance, config)
    _check_arrays(arrays, config)
    if words is not None:
        _check_types(vars(words), word_specs(words.sizes))
        check_word_bounds(words, config.vocab_size)
        check_word_content(words)
    _check_labels(list(labels), config)
    if not golden:
        raise ValueError("golden: expected at least one probe, found none.")
    for number, probe in enumerate(golden):
        try:
            check_probe(probe, config)
        except ValueError as err:
            raise ValueError(f"golden[{number}].{err}") from err
    side_files = {
        LABELS_FILE: (json.dumps(list(labels), indent=2, ensure_ascii=False) + "\n").encode(),
        TOKENIZER_FILE: tokenizer,
        GOLDEN_FILE: format_golden(golden).encode(),
    }
    for name, data in side_files.items():
        if not 0 < len(data) <= SIDE_FILE_CAPS[name]:
            raise ValueError(
                f"{name}: expected 1 to {SIDE_FILE_CAPS[name]} bytes, found {len(data)}."
            )
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, data in side_files.items():
        (partial / name).write_bytes(data)
    for name, array in {**arrays, **(vars(words) if words else {})}.items():
        write_array(partial / array_file(name), array)
    files = {}
    for path in sorted(partial.iterdir()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        files[path.name] = FileRecord(size=path.stat().st_size, sha256=digest)
    manifest = LookupManifest(
        config=config,
        max_tokens=max_tokens,
        files=files,
        tolerance=tolerance,
        word_table=words.sizes if words else None,
    )
    (partial / MANIFEST_FILE).write_bytes(format_manifest(manifest).encode())
    _copy_runtime(partial / RUNTIME_FOLDER)
    partial.rename(folder)


def _check_types(arrays: LookupArrays, specs: Mapping[str, ArraySpec]) -> None:
    """Check names, shapes and types of arrays about to be written."""
    if arrays.keys() != specs.keys():
        raise ValueError(
            f"arrays: expected {', '.join(specs)}; missing "
            f"{', '.join(sorted(specs.keys() - arrays.keys())) or 'none'}, unknown "
            f"{', '.join(sorted(arrays.keys() - specs.keys())) or 'none'}."
        )
    for name, spec in specs.items():
        array, dtype = arrays[name], np.dtype(spec.dtype)
        if array.dtype != dtype or array.shape != spec.shape:
            raise ValueError(
                f"arrays[{name!r}]: expected {dtype} {spec.shape}, found {array.dtype} "
                f"{array.shape}."
            )


def _check_arrays(arrays: LookupArrays, config: LookupConfig) -> None:
    """Check the weights about to be written."""
    _check_types(arrays, array_specs(config))
    for name, array in arrays.items():
        if not is_finite(array):
            raise ValueError(f"arrays[{name!r}]: expected finite values, found NaN or infinity.")
        try:
            if name.startswith("gate_table"):
                check_padding_row(array)
            _check_quantised(name, array)
        except ValueError as err:
            raise ValueError(f"arrays[{name!r}]: {err}") from err


def _check_quantised(name: str, array: NDArray[Any]) -> None:
    """Check what only compressed arrays must satisfy."""
    if "_scale" in name:
        check_scale(array)
    elif "recurrent_kernel" in name and array.dtype.kind == "i":
        check_kernel_integers(array)


def _check_labels(labels: object, config: LookupConfig) -> tuple[str, ...]:
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ValueError("labels: expected a list of strings, found something else.")
    if len(labels) != config.num_classes:
        raise ValueError(f"labels: expected {config.num_classes}, found {len(labels)}.")
    if len(set(labels)) != len(labels):
        twice = Counter(labels).most_common(1)[0][0]
        raise ValueError(f"labels: expected distinct ones, found {twice!r} twice.")
    return tuple(labels)


def _copy_runtime(target: Path) -> None:
    """Copy this package's own source files: what loads the folder travels in it."""
    package = Path(__file__).parent
    for pattern in ("*.py", "kernel/*.py", "kernel/*.c", "kernel/*.h"):
        for source in sorted(package.glob(pattern)):
            copy = target / source.relative_to(package)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(source.read_bytes())


def read_lookup(folder: Path, *, check_hashes: bool = True) -> LookupFiles:
    """Check a lookup folder and map its arrays.

    Args:
        folder: A folder that `write_lookup` wrote.
        check_hashes: Read every byte once to compare checksums and to look for NaN in the gate
            tables and for words out of place. False leaves the tables unread, for the quickest
            start from storage that is trusted; the manifest's own checksum and everything that
            memory safety rests on are checked all the same.

    Returns:
        The content.

    Raises:
        ArtifactError: The folder cannot be used; one subclass per cause.
    """
    sizes = scan_folder(folder)
    manifest_path = folder / MANIFEST_FILE
    manifest = parse_manifest(manifest_path.read_bytes(), str(manifest_path))
    check_names(folder, sizes, manifest)

    config = manifest.config

    def map_all(specs: Mapping[str, ArraySpec]) -> dict[str, NDArray[Any]]:
        arrays = {}
        for name, spec in specs.items():
            path = folder / array_file(name)
            with path.open("rb") as file:
                arrays[name] = map_array(file, sizes[path.name], spec, str(path))
        return arrays

    arrays = map_all(array_specs(config))
    words = None
    if manifest.word_table is not None:
        words = WordArrays(**map_all(word_specs(manifest.word_table)))
    side_files = {}
    for file_name in SIDE_FILE_CAPS:
        with (folder / file_name).open("rb") as file:
            side_files[file_name] = file.read(sizes[file_name])
    if check_hashes:
        for file_name, record in sorted(manifest.files.items()):
            check_hash(folder / file_name, side_files.get(file_name), record.sha256)
    _check_values(folder, arrays, read_tables=check_hashes)
    if words is not None:
        try:
            check_word_bounds(words, config.vocab_size)
            if check_hashes:
                check_word_content(words)
        except ValueError as err:
            raise WordTableError(f"{folder}: {err} {REMEDY}") from err
    labels_path = folder / LABELS_FILE
    try:
        labels = _check_labels(parse_json(side_files[LABELS_FILE]), config)
    except ValueError as err:
        raise LabelsError(f"{labels_path}: {err} {REMEDY}") from err
    return LookupFiles(
        folder=folder,
        config=config,
        max_tokens=manifest.max_tokens,
        arrays=arrays,
        labels=labels,
        tokenizer=side_files[TOKENIZER_FILE],
        golden=parse_golden(side_files[GOLDEN_FILE], config, str(folder / GOLDEN_FILE)),
        tolerance=manifest.tolerance,
        words=words,
    )


def _check_values(folder: Path, arrays: LookupArrays, *, read_tables: bool) -> None:
    """Check the numbers in the arrays; in the gate tables only where they are read anyway."""
    for name, array in arrays.items():
        path = folder / array_file(name)
        is_table = name.startswith("gate_table") and array.ndim == 2
        if (read_tables or not is_table) and not is_finite(array):
            raise NonFiniteError(
                f"{path}: expected finite weights, found NaN or infinity. Train and export again."
            )
        if is_table:
            release_pages(array)
        try:
            if name.startswith("gate_table"):
                check_padding_row(array)
        except ValueError as err:
            raise PaddingRowError(f"{path}: {err} {REMEDY}") from err
        try:
            _check_quantised(name, array)
        except ValueError as err:
            raise QuantisationError(f"{path}: {err} {REMEDY}") from err
