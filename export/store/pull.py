"""A bucket -> a published artifact on disk: nothing appears before every byte of it was checked.

Files are fetched into a hidden folder beside the versions, each under its name only once its sha256
is right, so a pull that was killed goes on behind what it has. Then the folder is read as any
artifact is, renamed to its version, and only then `latest` moves: whatever fails, the version that
serves goes on serving.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from export.bundle import (
    MANIFEST_FILE,
    OPTIONAL_FILES,
    BundleError,
    hash_file,
    list_files,
    read_artifact,
)
from export.store.blobs import Blob, Count, fetch_file
from export.store.deadline import run_all
from export.store.errors import ConflictError, DamageError, MissingObjectError, StoreError
from export.store.files import be_only, signature_path, sync_folder, write_whole
from export.store.location import LATEST_KEY, ArtifactKeys, Location, is_version
from export.store.remote import (
    RemoteManifest,
    find_latest,
    find_manifest,
    find_signature,
    parse_manifest,
)
from export.store.s3 import ObjectStore
from export.store.upload import THREADS, Progress, count_bytes
from export.store.versions import promote, read_latest
from pipeline.run_folder import check_run_name

if TYPE_CHECKING:
    from export.store.signing import PublicKey

PARTIAL = ".pull-"
DEFAULT_MAX_BYTES = 8 * 2**30
MAX_NAMES = 100
"""Looked at below a prefix to find the only artifact in it."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a pull's address means.

    Attributes:
        name: Of the artifact.
        keys: Its keys.
        version: Asked for by number, or the one that the store's `latest` names.
        follows: Whether it is that one, so that `latest` on disk moves to it.
    """

    name: str
    keys: ArtifactKeys
    version: int
    follows: bool


@dataclass(frozen=True, kw_only=True)
class PullResult:
    """Outcome of a pull.

    Attributes:
        folder: The version on disk.
        is_new: False where it was there already, and whole.
        fetched_bytes: Asked of the store; less than `size` after an interrupted pull.
        size: Bytes of all files.
        is_latest: Whether `latest` on disk names it.
        is_signed: Whether its signature was checked.
    """

    folder: Path
    is_new: bool
    fetched_bytes: int
    size: int
    is_latest: bool
    is_signed: bool


def find_target(store: ObjectStore) -> Target:
    """Find out what `s3://bucket/prefix[/name[/version|latest]]` means by what is there.

    Raises:
        StoreError: There is no artifact, or more than one.
    """
    location = store.location
    segments = location.segments
    if len(segments) > 1 and segments[-1] == LATEST_KEY:
        target = _find_name(store, location.above())
        if target is None:
            raise StoreError(
                f"{location} at {store.endpoint}: expected a pointer to a version, found none. "
                "Name a version, or upload one."
            )
        return target
    if len(segments) > 1 and is_version(segments[-1]):
        keys, version = ArtifactKeys(location.above()), int(segments[-1])
        if find_manifest(store, keys, version) is not None:
            return Target(name=segments[-2], keys=keys, version=version, follows=False)
    if segments and (target := _find_name(store, location)):
        return target
    names = store.list_folders(location.prefix)
    targets = [_find_name(store, location.below(name)) for name in names[:MAX_NAMES]]
    found = [target for target in targets if target is not None]
    if len(found) == 1:
        return found[0]
    several = ", ".join(target.name for target in found)
    raise StoreError(
        f"{location} at {store.endpoint}: expected one artifact, found "
        + (
            f"{several}. Name one of them."
            if found
            else "none. Upload one, or correct the address."
        )
    )


def _find_name(store: ObjectStore, place: Location) -> Target | None:
    """Return what `latest` names at `<prefix>/<name>`, None where there is no pointer."""
    keys = ArtifactKeys(place)
    latest = find_latest(store, keys)
    if latest is None:
        return None
    return Target(name=place.segments[-1], keys=keys, version=latest, follows=True)


def pull_artifact(
    store: ObjectStore,
    artifacts: Path,
    progress: Progress,
    *,
    public_keys: Sequence[PublicKey] = (),
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> PullResult:
    """Fetch, check and publish a version, or find that it is there and whole.

    Args:
        store: Of the bucket; its location says what is asked for.
        artifacts: Folder that holds `<name>/<version>/`.
        progress: Told what is being done.
        public_keys: Accepted signers; empty asks for no signature.
        max_bytes: Of all files together.

    Raises:
        SignatureError: The signature is missing or wrong; nothing was fetched.
        DamageError: The store holds something else than the manifest names; nothing was published.
        ConflictError: Another artifact lies at that version on disk.
        StoreError: The store or the disk cannot be used.
    """
    progress("looking", 0, 0)
    target = find_target(store)
    manifest = _read_manifest(store, target, max_bytes)
    place = f"{target.keys.place}/{target.version}"
    signature = find_signature(store, target.keys, manifest)
    if public_keys:
        from export.store.signing import check_signature  # its library, only where it is needed

        check_signature(manifest.data, signature, public_keys, place)
    folder = artifacts / target.name
    folder.mkdir(parents=True, exist_ok=True)
    version = folder / str(target.version)
    with be_only(folder / ".pull.lock", "pull"):
        is_new = not version.exists()
        fetched = 0
        if is_new:
            try:
                fetched = _fetch(store, target.keys, manifest, folder, progress)
            except DamageError as err:
                if find_manifest(store, target.keys, target.version) is None:
                    raise StoreError(
                        f"{place}: expected it to stay while it is fetched, found it pruned "
                        "meanwhile. Pull again, or name another version."
                    ) from err
                raise
        else:
            _check_present(version, manifest, place)
        if signature is not None:
            write_whole(signature_path(version), signature)
        if target.follows or read_latest(folder) is None:
            promote(folder, target.version, why="pull")
    return PullResult(
        folder=version,
        is_new=is_new,
        fetched_bytes=fetched,
        size=manifest.size,
        is_latest=read_latest(folder) == target.version,
        is_signed=bool(public_keys),
    )


def _read_manifest(store: ObjectStore, target: Target, max_bytes: int) -> RemoteManifest:
    place = f"{target.keys.place}/{target.version}/{MANIFEST_FILE}"
    data = find_manifest(store, target.keys, target.version)
    if data is None:
        raise DamageError(
            f"{place}: expected the manifest of the version that {LATEST_KEY} names, found none. "
            "Upload the artifact again, or name another version."
        )
    manifest = parse_manifest(data, place)
    try:
        check_run_name(manifest.name)
    except ValueError as err:
        raise DamageError(f"{place}: {err} Upload the artifact again.") from err
    if (manifest.name, manifest.version) != (target.name, target.version):
        raise DamageError(
            f"{place}: expected {target.name!r} version {target.version}, found the manifest of "
            f"{manifest.name!r} version {manifest.version}. Upload the artifact again."
        )
    if manifest.size > max_bytes:
        raise StoreError(
            f"{place}: expected at most {max_bytes} bytes, found {manifest.size}. Pass a larger "
            "--max-gb if you trust it."
        )
    return manifest


def _check_present(version: Path, manifest: RemoteManifest, place: str) -> None:
    """Hold the version on disk against the store's manifest."""
    path = version / MANIFEST_FILE
    if not path.is_file() or path.read_bytes() != manifest.data:
        raise ConflictError(
            f"{version}: expected no version {manifest.version} but the one at {place}, found "
            "another artifact. It was left as it is. Pull with another --to, or move it away."
        )
    try:
        read_artifact(version)
    except BundleError as err:
        raise DamageError(f"{err} Move {version} away to pull it again.") from err


def _fetch(
    store: ObjectStore,
    keys: ArtifactKeys,
    manifest: RemoteManifest,
    folder: Path,
    progress: Progress,
) -> int:
    """Fetch a version, check it as a whole, and publish it; return the bytes asked of the store."""
    partial = folder / f"{PARTIAL}{manifest.sha256[:16]}"
    partial.mkdir(exist_ok=True)
    _keep_only(partial, manifest)
    free = shutil.disk_usage(partial).free
    needed = sum(
        record.size for name, record in manifest.files.items() if not (partial / name).exists()
    )
    if needed > free:
        raise StoreError(
            f"{partial}: expected {needed} bytes of free disk, found {free}. Make room, or pull "
            "with another --to."
        )
    count = count_bytes("fetching", manifest.size, progress)
    blobs = []
    for name, record in manifest.files.items():
        path = partial / name
        path.parent.mkdir(parents=True, exist_ok=True)
        blobs.append(
            Blob(path=path, key=keys.blob(record.sha256), size=record.size, sha256=record.sha256)
        )
    blobs.sort(key=lambda blob: (-blob.size, blob.sha256))
    fetched: list[int] = []
    tasks = [functools.partial(_fetch_one, store, blob, partial, count, fetched) for blob in blobs]
    run_all(tasks, THREADS, store.deadline)
    progress("checking", 0, 0)
    (partial / MANIFEST_FILE).write_bytes(manifest.data)
    for path in (partial / MANIFEST_FILE, partial, *partial.rglob("*/")):
        sync_folder(path)
    try:
        read_artifact(partial)
    except BundleError as err:
        shutil.rmtree(partial)
        raise DamageError(f"{err} Nothing was published.") from err
    partial.rename(folder / str(manifest.version))
    sync_folder(folder)
    for path in folder.glob(f"{PARTIAL}*"):  # of versions that were given up
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
    return sum(fetched)


def _keep_only(partial: Path, manifest: RemoteManifest) -> None:
    """Remove from an interrupted pull what is no file of this version, whole or begun."""
    wanted = set(manifest.files)
    for name in list_files(partial):
        path = partial / name
        whole = name if name in wanted else None
        if path.name.startswith(".") and path.name.endswith(".part"):
            whole = path.with_name(path.name[1 : -len(".part")]).relative_to(partial).as_posix()
        if whole not in wanted:
            path.unlink()


def _fetch_one(
    store: ObjectStore, blob: Blob, partial: Path, count: Count, fetched: list[int]
) -> None:
    """Fetch a file unless an earlier run did."""
    if blob.path.is_file() and hash_file(blob.path) == blob.sha256:
        count(blob.size)
        return
    name = blob.path.relative_to(partial).as_posix()
    begun = blob.path.with_name(f".{blob.path.name}.part")
    kept = begun.stat().st_size if begun.is_file() else 0
    try:
        fetch_file(store, blob, count)
    except MissingObjectError as err:
        if name in OPTIONAL_FILES:
            begun.unlink(missing_ok=True)
            count(blob.size)
            return
        raise DamageError(
            f"{err} {name} of the artifact is it. Upload the artifact again."
        ) from err
    fetched.append(max(0, blob.size - kept))
