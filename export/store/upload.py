"""A published artifact -> a bucket: files first, then the manifest, which publishes, then `latest`.

Files and signatures are stored under the sha256 of their content, so uploads that were killed, or
that lose a race, leave nothing wrong behind. `manifest.json` is put on the condition that there is
none: of two that publish one version, the store lets one. What is stored already is claimed before
it is relied upon, so that nobody prunes it meanwhile (notices.py).
"""

from __future__ import annotations

import functools
import hashlib
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from export.bundle import MANIFEST_FILE, OPTIONAL_FILES, BundleError, read_artifact
from export.store.blobs import Blob, Count, Part, find_missing, send_file
from export.store.deadline import run_all
from export.store.errors import ConflictError, DamageError, PreconditionError
from export.store.files import signature_path
from export.store.location import ArtifactKeys, Location
from export.store.notices import Claim, make_claim
from export.store.remote import (
    RemoteManifest,
    find_latest,
    find_manifest,
    move_latest,
    parse_manifest,
)
from export.store.s3 import ObjectStore

THREADS = 4
PUBLISHER_KEY = "publisher"
"""Of the manifest's metadata: who won, if the answer to the winning request was lost."""

Progress = Callable[[str, int, int], None]
"""(what is being done, bytes done, bytes in all)."""


@dataclass(frozen=True, kw_only=True)
class UploadConfig:
    """What to upload and how.

    Attributes:
        folder: A published version.
        location: Bucket and prefix; the artifact's name is added.
        part_bytes: Size of a part of a large file.
        make_signature: Signs the folder's manifest; None sends the signature that lies beside it,
            if any.
        read_back: Whether stored bytes are read again to compare them.
        promote: Whether `latest` moves to this version even if it names a higher one.
        dry_run: Only say what would be sent.
    """

    folder: Path
    location: Location
    part_bytes: int
    make_signature: Callable[[Path], bytes] | None = None
    read_back: bool = False
    promote: bool = False
    dry_run: bool = False


@dataclass(frozen=True, kw_only=True)
class UploadResult:
    """Outcome of an upload.

    Attributes:
        place: `s3://bucket/prefix/name/version`.
        is_new: Whether this upload published the version.
        sent_files: Files that were sent, or would be: contents that were not there.
        sent_bytes: Of them.
        files: Different contents of the artifact.
        size: Bytes of them.
        is_latest: Whether the store's `latest` names it now; None where nobody asked it.
        is_signed: Whether a signature went with it.
    """

    place: str
    is_new: bool
    sent_files: int
    sent_bytes: int
    files: int
    size: int
    is_latest: bool | None
    is_signed: bool


def list_blobs(folder: Path, manifest: RemoteManifest, keys: ArtifactKeys) -> list[Blob]:
    """Return each different content of an artifact once, largest first."""
    blobs = {}
    for name, record in manifest.files.items():
        path = folder / name
        if name in OPTIONAL_FILES and not path.exists():
            continue
        blobs[record.sha256] = Blob(
            path=path, key=keys.blob(record.sha256), size=record.size, sha256=record.sha256
        )
    return sorted(blobs.values(), key=lambda blob: (-blob.size, blob.sha256))


def upload_artifact(store: ObjectStore, config: UploadConfig, progress: Progress) -> UploadResult:
    """Upload and publish a version, or find that it is there and whole.

    Raises:
        BundleError: The folder is damaged; nothing was sent.
        ConflictError: Another artifact has this name and version.
        DamageError: The store holds other bytes than were sent.
        StoreError: The store cannot be used.
    """
    progress("checking", 0, 0)
    artifact = read_artifact(config.folder)
    data = (config.folder / MANIFEST_FILE).read_bytes()
    manifest = parse_manifest(data, str(config.folder / MANIFEST_FILE))
    if (manifest.name, manifest.version) != (artifact.name, artifact.version):
        raise BundleError(
            f"{config.folder}: expected it unchanged while it is read, found it changed."
        )
    keys = ArtifactKeys(config.location.below(manifest.name))
    place = f"{keys.place}/{manifest.version}"
    signature = _find_signature(config)

    is_new = not _is_published(store, keys, manifest, place)
    blobs = list_blobs(config.folder, manifest, keys)
    claim = None
    # A version that `latest` names is pruned by nobody, nor is what it needs.
    if not config.dry_run and (is_new or not _is_latest(store, keys, manifest.version)):
        claim = _claim(store, keys, manifest, blobs, progress)
        is_new = not _is_published(store, keys, manifest, place)
    missing = _find_missing(store, config, blobs, progress)
    sent_bytes = sum(blob.size for blob, _ in missing)
    is_latest: bool | None = None
    if not config.dry_run:
        _send(store, missing, progress)
        _clear_uploads(store, keys, blobs)
        if signature is not None:
            key = keys.signature(manifest.sha256)
            store.put(key, signature, metadata={})
        progress("publishing", 0, 0)
        if claim is not None:
            claim.check()
        if is_new:
            is_new = _publish(store, keys, manifest, place)
        is_latest = move_latest(store, keys, manifest.version, back=config.promote)
        if claim is not None:
            claim.end()
    return UploadResult(
        place=place,
        is_new=is_new,
        sent_files=len(missing),
        sent_bytes=sent_bytes,
        files=len(blobs),
        size=sum(blob.size for blob in blobs),
        is_latest=is_latest,
        is_signed=signature is not None,
    )


def _find_signature(config: UploadConfig) -> bytes | None:
    """Return the signature to send: made now, or made when the artifact was exported."""
    if config.make_signature is not None and not config.dry_run:
        return config.make_signature(config.folder)
    path = signature_path(config.folder)
    return path.read_bytes() if path.is_file() else None


def _is_latest(store: ObjectStore, keys: ArtifactKeys, version: int) -> bool:
    try:
        return find_latest(store, keys) == version
    except DamageError:  # `move_latest` mends it, or says so
        return False


def _claim(
    store: ObjectStore,
    keys: ArtifactKeys,
    manifest: RemoteManifest,
    blobs: list[Blob],
    progress: Progress,
) -> Claim:
    """Keep everything that the version needs from being pruned, the version itself included."""
    needed = {blob.key for blob in blobs}
    needed |= {keys.manifest(manifest.version), keys.signature(manifest.sha256)}
    return make_claim(store, keys, frozenset(needed), progress)


def _is_published(
    store: ObjectStore, keys: ArtifactKeys, manifest: RemoteManifest, place: str
) -> bool:
    """Whether this very artifact is published already.

    Raises:
        ConflictError: Another one is.
    """
    found = find_manifest(store, keys, manifest.version)
    if found is None:
        return False
    if found == manifest.data:
        return True
    theirs = hashlib.sha256(found).hexdigest()
    raise ConflictError(
        f"{place}: expected no version {manifest.version} but this one (manifest sha256 "
        f"{manifest.sha256[:12]}), found another that was published before ({theirs[:12]}). It was "
        "left as it is. Pull it and export again to get the next version, or choose another "
        "prefix."
    )


def _find_missing(
    store: ObjectStore, config: UploadConfig, blobs: list[Blob], progress: Progress
) -> list[tuple[Blob, list[Part]]]:
    """Return the files that are not stored yet, and their parts."""
    missing: list[tuple[Blob, list[Part]]] = []
    lock, done, total = threading.Lock(), 0, sum(blob.size for blob in blobs)

    def look(blob: Blob) -> None:
        nonlocal done
        parts = find_missing(store, blob, part_bytes=config.part_bytes, deep=config.read_back)
        with lock:
            if parts is not None:
                missing.append((blob, parts))
            done += blob.size
            progress("looking", done, total)

    run_all([functools.partial(look, blob) for blob in blobs], THREADS, store.deadline)
    return sorted(missing, key=lambda entry: (-entry[0].size, entry[0].sha256))


def _send(store: ObjectStore, missing: list[tuple[Blob, list[Part]]], progress: Progress) -> None:
    count = count_bytes("sending", sum(blob.size for blob, _ in missing), progress)
    tasks = [functools.partial(send_file, store, blob, parts, count) for blob, parts in missing]
    run_all(tasks, THREADS, store.deadline)


def count_bytes(what: str, total: int, progress: Progress) -> Count:
    """Return a counter that several threads may tell of their bytes."""
    lock, done = threading.Lock(), 0

    def count(size: int) -> None:
        nonlocal done
        with lock:
            done += size
            progress(what, done, total)

    return count


def _clear_uploads(store: ObjectStore, keys: ArtifactKeys, blobs: list[Blob]) -> None:
    """Drop unfinished uploads of files that are stored: killed runs leave them, and they cost."""
    ours = {blob.key for blob in blobs}
    for upload in store.list_uploads(keys.blobs):
        if upload.key in ours:
            store.abort_upload(upload.key, upload.upload_id)


def _publish(store: ObjectStore, keys: ArtifactKeys, manifest: RemoteManifest, place: str) -> bool:
    """Put the manifest if there is none; return whether that was this process.

    Raises:
        ConflictError: Another artifact was published first.
    """
    publisher = uuid.uuid4().hex
    key = keys.manifest(manifest.version)
    try:
        store.put(key, manifest.data, metadata={PUBLISHER_KEY: publisher}, if_absent=True)
    except PreconditionError:
        _is_published(store, keys, manifest, place)
        facts = store.find(key)
        return facts is not None and facts.metadata.get(PUBLISHER_KEY) == publisher
    return True
