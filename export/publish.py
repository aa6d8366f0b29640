"""Run -> published artifact: the order of the export, from preflight to rename.

TensorFlow is imported only once there is something to do: asking again for an artifact that
exists answers in a second.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from export import bundle
from export.bundle import Artifact, BundleError, read_artifact
from export.compression import DEFAULT_MAX_ACCURACY_LOSS, EXACT_OPTION, Option
from export.lookup.native import is_available
from export.model_card import read_evidence, write_model_card
from export.model_card.evidence import EVIDENCE_FILES
from export.preflight import DEFAULT_MAX_TABLE_MB
from export.store.versions import is_chosen
from pipeline.run_folder import Run, check_run_name, import_tensorflow, read_run

Progress = Callable[[str, int, int], None]
"""(what is being done, rows done, rows in all); both 0 for a step that is not counted."""

_LIBRARIES = (
    "keras",
    "numpy",
    "onnx",
    "onnxruntime",
    "sentencepiece",
    "tensorflow",
    "tensorflow-text",
    "tf2onnx",
)


class BusyError(Exception):
    """Another export is writing the same artifact."""


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """Outcome of an export.

    Attributes:
        artifact: The published artifact, read back from disk.
        is_new: False when the newest version already was this one and nothing was written.
        latency_us: Microseconds a text of each compressed option, on this machine and now;
            empty when nothing was written.
    """

    artifact: Artifact
    is_new: bool
    latency_us: Mapping[Option, float]


def hash_run(run: Run) -> str:
    """Return the sha256 over every file an export reads from the run."""
    total = hashlib.sha256()
    names = ["run.json", "labels.json", "model.keras", "test_split.jsonl", "tokenizer.model"]
    optional = (run.words_path.name, *EVIDENCE_FILES)
    names += [name for name in optional if (run.folder / name).is_file()]
    for name in names:
        total.update(f"{name} {bundle.hash_file(run.folder / name)}\n".encode())
    return total.hexdigest()


def hash_exporter() -> str:
    """Return the sha256 over the source of this stage: other code may write other bytes."""
    package = Path(__file__).parent
    total = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        # What a compiler left beside its sources is not one of them.
        if path.suffix in (".py", ".c", ".h"):
            total.update(f"{path.relative_to(package).as_posix()} ".encode())
            total.update(f"{bundle.hash_file(path)}\n".encode())
    return total.hexdigest()


def _provenance(run: Run, option: Option, max_accuracy_loss: float) -> dict[str, Any]:
    """Return where an artifact comes from; equal provenance means equal bytes."""
    return {
        "options": {**option._asdict(), "max_accuracy_loss": max_accuracy_loss},
        # It measures the options, so another one may give other last digits.
        "engine": "native" if is_available() else "numpy",
        "run": run.name,
        "run_sha256": hash_run(run),
        "exporter_sha256": hash_exporter(),
        "data": dict(run.data),
        "seed": run.seed,
        "training": dict(run.training),
        "training_versions": dict(run.versions),
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _LIBRARIES},
        },
    }


def _find_same(folder: Path, provenance: Mapping[str, Any]) -> Artifact | None:
    """Return the newest version if it has this provenance and is undamaged."""
    version = max(bundle.iterate_versions(folder), default=None)
    if version is None:
        return None
    try:
        artifact = read_artifact(folder / str(version))
    except BundleError:
        return None  # it cannot be used: a new version is what is wanted
    return artifact if artifact.manifest["provenance"] == provenance else None


def export_run(
    run_folder: Path,
    artifacts: Path,
    *,
    name: str | None = None,
    force: bool = False,
    max_table_mb: int = DEFAULT_MAX_TABLE_MB,
    option: Option = EXACT_OPTION,
    max_accuracy_loss: float = DEFAULT_MAX_ACCURACY_LOSS,
    progress: Progress = lambda what, done, total: None,
) -> ExportResult:
    """Export a run in every form, prove that all agree with Keras, and publish.

    Args:
        run_folder: A run of the pipeline.
        artifacts: Folder that holds `<name>/<version>/`.
        name: Artifact name; the dataset's when None.
        force: Export even if the newest version is the same.
        max_table_mb: Largest gate tables allowed, in MiB.
        option: How the lookup folder stores its numbers.
        max_accuracy_loss: Largest fall of accuracy on the test split that `option` may cost.
        progress: Told what is being done.

    Returns:
        The published artifact.

    Raises:
        RunError: The run cannot be read.
        ExportError: The run cannot be exported; every reason is listed.
        AgreementError: A form differs from the trained model, or `option` costs too much
            accuracy; nothing was published.
        BusyError: Another export is writing the same artifact.
        ValueError: The name is unsafe.
    """
    run = read_run(run_folder)
    evidence = read_evidence(run)  # now, not when all else is done
    name = str(run.data.get("name", run.name)) if name is None else name
    check_run_name(name)
    folder = artifacts / name
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", blocking=False):
            provenance = _provenance(run, option, max_accuracy_loss)
            same = None if force else _find_same(folder, provenance)
            if same is not None:
                if not is_chosen(folder):
                    bundle.write_latest(folder)  # heals an export killed between rename and latest
                return ExportResult(artifact=same, is_new=False, latency_us={})
            bundle.remove_partials(folder)
            partial = folder / f".partial-{os.getpid()}"
            try:
                # Imports TensorFlow, so not before there is something to do.
                import_tensorflow()
                from export.forms import write_forms

                partial.mkdir()
                forms = write_forms(
                    run,
                    partial,
                    name,
                    max_table_mb=max_table_mb,
                    option=option,
                    max_accuracy_loss=max_accuracy_loss,
                    progress=progress,
                )
                fields = {**forms.fields, "provenance": provenance}
                write_model_card(run, fields, partial, evidence)
                published = bundle.publish_artifact(partial, folder, fields)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except Timeout as err:
        raise BusyError(
            f"{folder}: expected to be the only export of {name!r}, found another one at work. "
            "Wait for it to end, or choose another --name."
        ) from err
    return ExportResult(
        artifact=read_artifact(published, check_hashes=False),
        is_new=True,
        latency_us=forms.latency_us,
    )
