"""Files in a bucket under the sha256 of their content: `send_file` and `fetch_file`.

Two that send one file at the same time send the same bytes to the same key, so neither can harm the
other: whose multipart upload was taken away by the winner finds the object in its place.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from export.store.errors import DamageError, MissingObjectError, StoreError
from export.store.s3 import ObjectFacts, ObjectStore

MIB = 2**20
DEFAULT_PART_BYTES = 8 * MIB
MIN_PART_BYTES = 5 * MIB
"""S3's own limit for every part but the last."""
MAX_PARTS = 10_000
SHA256_KEY = "sha256"
"""Of an object's metadata."""

Count = Callable[[int], None]
"""Told of bytes that are done, as they are done."""


@dataclass(frozen=True, kw_only=True)
class Blob:
    """A file and the object that holds its content.

    Attributes:
        path: On disk.
        key: In the bucket.
        size: Bytes.
        sha256: Lower-case hex.
    """

    path: Path
    key: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Part:
    """One piece of a file: its number from 1, where it begins, its bytes and their MD5."""

    number: int
    start: int
    size: int
    md5: bytes


def choose_part_bytes(size: int, part_bytes: int) -> int:
    """Return the size of a file's parts: `part_bytes`, larger where there would be too many."""
    least = -(-size // MAX_PARTS)
    return part_bytes if least <= part_bytes else -(-least // MIB) * MIB


def hash_parts(blob: Blob, part_bytes: int) -> list[Part]:
    """Return the parts of a file; of an empty one a single empty part.

    Raises:
        StoreError: The file is not the one that the manifest names any more.
    """
    step = choose_part_bytes(blob.size, part_bytes)
    total, start = hashlib.sha256(), 0
    parts: list[Part] = []
    with blob.path.open("rb") as file:
        while (data := file.read(step)) or not parts:
            total.update(data)
            md5 = hashlib.md5(data, usedforsecurity=False).digest()
            parts.append(Part(number=len(parts) + 1, start=start, size=len(data), md5=md5))
            start += len(data)
            if not data:
                break
    if total.hexdigest() != blob.sha256:
        raise StoreError(
            f"{blob.path}: expected the file that manifest.json names, found it changed since it "
            "was read. Run again once nothing writes to it."
        )
    return parts


def expected_etag(parts: list[Part]) -> str:
    """Return the ETag that a store gives to an object of these parts."""
    if len(parts) == 1:
        return parts[0].md5.hex()
    joined = b"".join(part.md5 for part in parts)
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(parts)}"


def is_stored(facts: ObjectFacts | None, blob: Blob, etag: str) -> bool:
    """Whether an object is the file, as far as the store tells without its content.

    An ETag is compared where it can be: not of an object that was sent in another number of parts,
    nor of one that the store encrypted with a key of its own.
    """
    if facts is None or facts.size != blob.size or facts.metadata.get(SHA256_KEY) != blob.sha256:
        return False
    found = facts.etag
    comparable = found is not None and found.partition("-")[2] == etag.partition("-")[2]
    return not comparable or found == etag


def read_back(store: ObjectStore, blob: Blob) -> bool:
    """Whether the stored bytes, all of them read, have the sha256 that is their name."""

    def once() -> str:
        total = hashlib.sha256()
        for chunk in store.stream(blob.key, 0):
            total.update(chunk)
        return total.hexdigest()

    return store.call("read back", blob.key, once) == blob.sha256


def find_missing(
    store: ObjectStore, blob: Blob, *, part_bytes: int, deep: bool
) -> list[Part] | None:
    """Return the parts of a file that has to be sent, None where it is stored already.

    Args:
        store: Of the bucket.
        blob: The file.
        part_bytes: Size of a part.
        deep: Whether stored bytes are read to tell.
    """
    parts = hash_parts(blob, part_bytes)
    if not is_stored(store.find(blob.key), blob, expected_etag(parts)):
        return parts
    return parts if deep and not read_back(store, blob) else None


def send_file(store: ObjectStore, blob: Blob, parts: list[Part], count: Count) -> None:
    """Store a file, going on with an unfinished upload of it, and look at what arrived.

    Raises:
        DamageError: The store tells of another object than was sent.
        StoreError: It cannot be sent.
    """
    metadata = {SHA256_KEY: blob.sha256}
    if len(parts) == 1:
        store.put(blob.key, _read_part(blob, parts[0]), metadata=metadata)
        count(blob.size)
    else:
        try:
            _send_parts(store, blob, parts, count)
        except StoreError:
            # Somebody else completed the same content, and cleared up behind it: most stores then
            # say that there is no such upload. All of them have the object.
            if not is_stored(store.find(blob.key), blob, expected_etag(parts)):
                raise
    if not is_stored(store.find(blob.key), blob, expected_etag(parts)):
        raise DamageError(
            f"s3://{store.location.bucket}/{blob.key}: expected {blob.size} bytes with the ETag "
            f"{expected_etag(parts)} behind the upload, found another object. Run the command "
            "again."
        )


def _read_part(blob: Blob, part: Part) -> bytes:
    with blob.path.open("rb") as file:
        file.seek(part.start)
        data = file.read(part.size)
    if hashlib.md5(data, usedforsecurity=False).digest() != part.md5:
        raise StoreError(
            f"{blob.path}: expected it unchanged while it is sent, found other bytes. Run again "
            "once nothing writes to it."
        )
    return data


def _send_parts(store: ObjectStore, blob: Blob, parts: list[Part], count: Count) -> None:
    """Send what an unfinished upload lacks, or all in a new one, and complete it."""
    upload_id, arrived = _find_upload(store, blob, parts)
    if upload_id is None:
        upload_id = store.start_upload(blob.key, {SHA256_KEY: blob.sha256})
    for part in parts:
        if part.number not in arrived:
            store.put_part(blob.key, upload_id, part.number, _read_part(blob, part))
        count(part.size)
    store.complete_upload(blob.key, upload_id, [part.md5.hex() for part in parts])


def _find_upload(store: ObjectStore, blob: Blob, parts: list[Part]) -> tuple[str | None, set[int]]:
    """Return the newest upload of this file cut in the same way, and the parts that arrived."""
    expected = {part.number: (part.size, part.md5.hex()) for part in parts}
    for upload in store.list_uploads(blob.key):
        if upload.key != blob.key:
            continue
        try:
            found = store.list_parts(blob.key, upload.upload_id)
        except MissingObjectError:
            continue  # completed or aborted in between
        if found.items() <= expected.items():
            return upload.upload_id, set(found)
    return None, set()


def fetch_file(store: ObjectStore, blob: Blob, count: Count) -> None:
    """Fetch a file, going on where an earlier try ended; it appears once it is right.

    Raises:
        DamageError: The stored bytes do not have the sha256 that is their name.
        MissingObjectError: They are not there.
    """
    partial = blob.path.with_name(f".{blob.path.name}.part")
    counted = 0

    def once() -> str:
        nonlocal counted
        total, size = hashlib.sha256(), 0
        with partial.open("a+b") as file:
            file.seek(0)
            for chunk in iter(lambda: file.read(MIB), b""):
                total.update(chunk)
            size = file.tell()
            if size > blob.size:
                file.truncate(0)
                total, size = hashlib.sha256(), 0
            count(size - counted)
            counted = size
            for chunk in _rest(store, blob, size):
                size += len(chunk)
                if size > blob.size:
                    break
                file.write(chunk)
                total.update(chunk)
                count(len(chunk))
                counted = size
            file.flush()
            os.fsync(file.fileno())
        return total.hexdigest() if size == blob.size else f"that of {size} bytes or more"

    kept = partial.exists()
    found = store.call("read", blob.key, once)
    if found != blob.sha256 and kept:
        partial.unlink()  # what an earlier run left may be at fault: once more, from the start
        found = store.call("read", blob.key, once)
    if found != blob.sha256:
        partial.unlink()
        raise DamageError(
            f"s3://{store.location.bucket}/{blob.key}: expected sha256 {blob.sha256} and "
            f"{blob.size} bytes, found {found}. Upload the artifact again with --read-back."
        )
    partial.replace(blob.path)


def _rest(store: ObjectStore, blob: Blob, start: int) -> Iterator[bytes]:
    """Yield an object from `start` on; nothing is asked for at its end."""
    return store.stream(blob.key, start) if start < blob.size else iter(())
