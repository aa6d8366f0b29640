"""What a store holds of an artifact, read and judged before a file of it is asked for.

The manifest in a bucket is somebody else's word: its size, names, lengths and count are bounded
here before anything follows it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from export.bundle import MAX_FILES, MAX_MANIFEST_BYTES
from export.store.errors import DamageError, MissingObjectError, PreconditionError, StoreError
from export.store.files import SIGNATURE_BYTES
from export.store.location import ArtifactKeys, is_version
from export.store.s3 import ObjectStore

MAX_POINTER_BYTES = 64
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """Bytes and sha256 of one file, as a manifest names them."""

    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class RemoteManifest:
    """A manifest in a bucket.

    Attributes:
        data: Its bytes.
        name: Of the artifact.
        version: Of the artifact.
        files: Safe relative POSIX path to record; the manifest itself is not among them.
    """

    data: bytes
    name: str
    version: int
    files: Mapping[str, FileRecord]

    @property
    def sha256(self) -> str:
        """Of its bytes."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(record.size for record in self.files.values())


def _is_safe(name: str) -> bool:
    pure = PurePosixPath(name)
    return (
        name.isprintable()
        and "\\" not in name
        and not pure.is_absolute()
        and pure.as_posix() == name
        # A dot file could stand in the way of our own partial ones.
        and not any(part.startswith(".") for part in pure.parts)
        and 0 < len(name.encode()) <= 512
    )


def _parse_record(name: object, record: Any) -> FileRecord:
    if not isinstance(name, str) or not _is_safe(name):
        raise ValueError(f"files: expected relative paths, found {str(name)[:80]!r}")
    size, sha256 = record["bytes"], record["sha256"]
    if type(size) is not int or size < 0 or not _SHA256.fullmatch(str(sha256)):
        raise ValueError(f"files[{name!r}]: expected bytes and sha256, found {record!r:.80}")
    return FileRecord(size=size, sha256=sha256)


def parse_manifest(data: bytes, place: str) -> RemoteManifest:
    """Parse what is needed of a manifest to fetch its files.

    Args:
        data: Its bytes.
        place: Where it was read, for messages.

    Raises:
        DamageError: It is no manifest, or names files that could leave their folder.
    """
    try:
        fields = json.loads(data)
        files = {name: _parse_record(name, record) for name, record in fields["files"].items()}
        if len(files) > MAX_FILES:
            raise ValueError(f"files: expected at most {MAX_FILES}, found {len(files)}")
        parents = {str(parent) for name in files for parent in PurePosixPath(name).parents}
        if both := sorted(parents & files.keys()):
            raise ValueError(f"files: expected {both[0]!r} to be a file or a folder, found both")
        version = fields["version"]
        if type(version) is not int or not is_version(str(version)):
            raise ValueError(f"version: expected a number from 1 on, found {version!r:.40}")
        return RemoteManifest(data=data, name=str(fields["name"]), version=version, files=files)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        what = f"no {err}" if isinstance(err, KeyError) else str(err)[:200]
        raise DamageError(
            f"{place}: expected an artifact's manifest, found a defect: {what}. Upload the "
            "artifact again."
        ) from err


def find_manifest(store: ObjectStore, keys: ArtifactKeys, version: int) -> bytes | None:
    """Return the bytes of a published version's manifest, None where it is not published."""
    try:
        return store.read(keys.manifest(version), MAX_MANIFEST_BYTES)[0]
    except MissingObjectError:
        return None


def find_signature(
    store: ObjectStore, keys: ArtifactKeys, manifest: RemoteManifest
) -> bytes | None:
    """Return the signature that was uploaded with a manifest, None where there is none."""
    try:
        return store.read(keys.signature(manifest.sha256), SIGNATURE_BYTES)[0]
    except MissingObjectError:
        return None


@dataclass(frozen=True)
class _Pointer:
    """What `latest` holds, whatever that is, and its ETag."""

    text: str
    etag: str | None

    def read_version(self, keys: ArtifactKeys) -> int:
        if not is_version(self.text):
            raise DamageError(
                f"s3://{keys.place.bucket}/{keys.latest}: expected the number of a version, found "
                f"{self.text[:20]!r}. Upload an artifact again with --promote."
            )
        return int(self.text)


def _find_pointer(store: ObjectStore, keys: ArtifactKeys) -> _Pointer | None:
    try:
        data, facts = store.read(keys.latest, MAX_POINTER_BYTES)
    except MissingObjectError:
        return None
    return _Pointer(data.decode("ascii", "replace").strip(), facts.etag)


def find_latest(store: ObjectStore, keys: ArtifactKeys) -> int | None:
    """Return the version that the pointer names, None where there is no pointer.

    Raises:
        DamageError: It holds no version.
    """
    pointer = _find_pointer(store, keys)
    return None if pointer is None else pointer.read_version(keys)


def move_latest(store: ObjectStore, keys: ArtifactKeys, version: int, *, back: bool) -> bool:
    """Point the store's `latest` at a version, unless it names a higher one.

    Args:
        store: Of the bucket.
        keys: Of the artifact.
        version: A published one.
        back: Whether to do so even then, and where it holds no version.

    Returns:
        Whether it names this version now.

    Raises:
        DamageError: It holds no version.
        StoreError: Others move it faster than this can.
    """
    quoted = False
    for _ in range(20):
        found = _find_pointer(store, keys)
        if found and (is_version(found.text) or not back):
            named = found.read_version(keys)
            if named == version:
                return True
            if named > version and not back:
                return False
        # Ceph compares with the ETag's quotes stripped, and AWS takes both; the standard has them.
        etag = found and found.etag and (f'"{found.etag}"' if quoted else found.etag)
        try:
            store.put(
                keys.latest,
                f"{version}\n".encode(),
                metadata={},
                if_absent=found is None,
                if_etag=etag or None,
            )
            return True
        except PreconditionError:
            quoted = not quoted
            store.deadline.sleep(0.05)
    raise StoreError(
        f"s3://{keys.place.bucket}/{keys.latest}: expected to move it to {version} in 20 tries, "
        "found it changed by others each time. Run the command again."
    )
