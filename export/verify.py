"""Holds a published artifact against itself: checksums, consistency, and its golden probes.

Needs no run: the golden probes carry the trained model's answers. Whatever is wrong with the
folder is one `BundleError`, `ArtifactError` or `AgreementError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from export.agreement import check_agreement, find_other_ids, replay_probes, tokenizer_problems
from export.bundle import (
    GOLDEN_FILE,
    LABELS_FILE,
    LOOKUP_FOLDER,
    TOKENIZER_FILE,
    Artifact,
    BundleError,
    read_artifact,
)
from export.difference import BackendDifference
from export.lookup import LookupFiles, read_lookup
from export.runtimes import load_runtimes


@dataclass(frozen=True, kw_only=True)
class VerifyResult:
    """Outcome of a verification that found nothing wrong.

    Attributes:
        artifact: The artifact.
        backends: One entry a form, over the golden probes.
    """

    artifact: Artifact
    backends: tuple[BackendDifference, ...]


def _check_copies(artifact: Artifact) -> None:
    """Check that files which exist twice, or are named by hash elsewhere, are the same."""
    files = artifact.manifest["files"]
    for name in (LABELS_FILE, TOKENIZER_FILE, GOLDEN_FILE):
        copy = f"{LOOKUP_FOLDER}/{name}"
        if files[name]["sha256"] != files.get(copy, {}).get("sha256"):
            raise BundleError(
                f"{artifact.folder / copy}: expected the same bytes as {name}, found others. "
                "Export the run again with `make export`."
            )
    for key, name in (("labels_sha256", LABELS_FILE), ("tokenizer_sha256", TOKENIZER_FILE)):
        if artifact.manifest[key] != files[name]["sha256"]:
            raise BundleError(
                f"{artifact.folder}/manifest.json {key}: expected {files[name]['sha256']} as "
                f"{name} has, found {artifact.manifest[key]}. Export the run again."
            )


def _check_compression(artifact: Artifact, files: LookupFiles) -> None:
    """Check that the artifact tells of its lookup folder what the folder tells of itself."""
    config = files.config
    told = artifact.manifest.get("compression", {})  # schema version 1 tells nothing: exact
    for key, found in (
        ("table_dtype", config.table_dtype),
        ("recurrent_dtype", config.recurrent_dtype),
        ("tolerance", files.tolerance),
    ):
        if told.get(key, found) != found:
            raise BundleError(
                f"{artifact.folder}/manifest.json compression.{key}: expected {found!r} as "
                f"{LOOKUP_FOLDER}/ has, found {told[key]!r}. Export the run again."
            )


def verify_artifact(folder: Path) -> VerifyResult:
    """Check a published artifact and replay its golden probes on every form.

    Args:
        folder: The artifact.

    Returns:
        What was measured.

    Raises:
        BundleError: The folder is damaged or inconsistent.
        ArtifactError: Its lookup folder is.
        AgreementError: A form does not give what the trained model gave.
    """
    artifact = read_artifact(folder)
    _check_copies(artifact)
    files = read_lookup(artifact.lookup_path)
    _check_compression(artifact, files)
    probes = files.golden
    runtimes = load_runtimes(folder, artifact.max_tokens)
    k = int(artifact.manifest["parity"]["k"])
    backends = replay_probes(runtimes, probes, k)
    others = list(
        find_other_ids(runtimes, [probe.text for probe in probes], [probe.ids for probe in probes])
    )
    check_agreement(
        [
            *tokenizer_problems(others),
            *(problem for backend in backends for problem in backend.problems),
        ]
    )
    return VerifyResult(artifact=artifact, backends=backends)
