"""Which versions a bucket holds, found by listing; no file of an artifact is read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from export.store.errors import StoreError
from export.store.location import BLOBS, ArtifactKeys, Location, is_version
from export.store.remote import find_latest
from export.store.s3 import ObjectStore
from export.store.upload import Progress

MAX_NAMES = 1000
MAX_VERSIONS = 1000
"""Newest ones of a name that are shown: each costs a request."""


@dataclass(frozen=True, kw_only=True)
class StoredVersion:
    """A published version in a bucket."""

    name: str
    version: int
    is_latest: bool
    published: datetime


def list_bucket(store: ObjectStore, progress: Progress) -> list[StoredVersion]:
    """Return the versions at `s3://bucket/prefix` or `s3://bucket/prefix/name`, by name and number.

    Raises:
        StoreError: There are none, or too many names.
    """
    progress("listing", 0, 0)
    place = store.location
    folders = store.list_folders(place.prefix)
    if BLOBS in folders and any(map(is_version, folders)):
        return _list_name(store, place, folders)
    if len(folders) > MAX_NAMES:
        raise StoreError(
            f"{place}: expected at most {MAX_NAMES} artifacts, found {len(folders)} folders. Name "
            "one of them."
        )
    rows = []
    for done, name in enumerate(folders):
        progress("listing", done, len(folders))
        below = place.below(name)
        rows += _list_name(store, below, store.list_folders(below.prefix))
    if not rows:
        raise StoreError(
            f"{place} at {store.endpoint}: expected artifacts, found none. Upload one, or correct "
            "the address."
        )
    return rows


def _list_name(store: ObjectStore, place: Location, folders: list[str]) -> list[StoredVersion]:
    numbers = sorted(int(name) for name in folders if is_version(name))[-MAX_VERSIONS:]
    if not numbers:
        return []
    keys = ArtifactKeys(place)
    latest = find_latest(store, keys)
    found = [(number, store.find(keys.manifest(number))) for number in numbers]
    return [
        StoredVersion(
            name=place.segments[-1],
            version=number,
            is_latest=latest == number,
            published=facts.modified,
        )
        for number, facts in found
        if facts is not None
    ]
