"""Old versions leave a bucket: their manifests first, then the files that no other version names.

A version is gone for every reader once its manifest is, so a prune that is killed leaves nothing
half there: what it did not delete any more, the next one finds as what no manifest names. Uploads
may run at the same time; notices.py says what keeps the two apart.

It deletes below `<prefix>/<name>/` only, and only keys that an upload or a prune made.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from export.bundle import MANIFEST_FILE
from export.store.deadline import run_all
from export.store.errors import StoreError
from export.store.location import BLOBS, SIGNATURES, ArtifactKeys, is_version
from export.store.notices import Announcement, announce, read_notices
from export.store.pull import find_target
from export.store.remote import find_latest, find_manifest, parse_manifest
from export.store.s3 import Listing, ObjectStore
from export.store.upload import THREADS, Progress, count_bytes

BATCH = 100
"""Deleted under one notice: it lists them, and holds for `notices.PRUNE_S` seconds."""
DEFAULT_GRACE_H = 24.0
_FILE = re.compile(rf"{BLOBS}/[0-9a-f]{{64}}|{SIGNATURES}/[0-9a-f]{{64}}\.sig")


@dataclass(frozen=True, kw_only=True)
class BucketPruneConfig:
    """What to keep.

    Attributes:
        keep: Versions, the newest ones.
        grace_s: Files and unfinished uploads that are younger stay; 0 lets them go at any age.
        dry_run: Only say what would go.
    """

    keep: int
    grace_s: float
    dry_run: bool = False


@dataclass(frozen=True, kw_only=True)
class BucketPruneResult:
    """What a prune deleted, or would.

    Attributes:
        place: `s3://bucket/prefix/name`.
        gone: Versions, lowest first.
        left: Versions that stay, lowest first.
        files: Contents and signatures that no version names.
        size: Bytes of them.
        uploads: Unfinished uploads that were dropped.
        young: Contents and signatures that no version names, and that are too young to go.
    """

    place: str
    gone: list[int]
    left: list[int]
    files: int
    size: int
    uploads: int
    young: int


@dataclass(frozen=True, kw_only=True)
class _State:
    """What a bucket holds of an artifact, read in this order: claims first, objects last.

    An upload publishes, moves `latest` and then ends its claim: whose claim is not seen any more
    is seen by what it published.
    """

    claimed: frozenset[str]
    latest: int | None
    listing: Listing
    versions: list[int]


@dataclass(frozen=True, kw_only=True)
class _Doomed:
    """An object to delete, or an unfinished upload of it to drop."""

    key: str
    size: int = 0
    upload_id: str | None = None


def prune_bucket(
    store: ObjectStore, config: BucketPruneConfig, progress: Progress
) -> BucketPruneResult:
    """Delete old versions from `s3://bucket/prefix[/name]`, and what only they needed.

    Kept are the newest versions, the one that `latest` names, the one below it (the way back), and
    those of uploads under way.

    Args:
        store: Of the bucket; its location says of which artifact.
        config: What to keep.
        progress: Told what is being done.

    Raises:
        ValueError: `keep` is below 1.
        DamageError: The manifest of a version that stays cannot be read; no file was deleted.
        StoreError: The store cannot be used, or `latest` names no version.
    """
    if config.keep < 1:
        raise ValueError(f"keep: expected 1 or more, found {config.keep}.")
    progress("looking", 0, 0)
    target = find_target(store)
    if not target.follows:
        raise StoreError(
            f"{store.location}: expected the address of an artifact, found that of its version "
            f"{target.version}. Leave the number out."
        )
    keys = target.keys
    state = _read_state(store, keys)
    gone = _choose_versions(keys, state, config.keep)
    doomed, young = _choose_files(store, keys, state, gone, config.grace_s)
    if not config.dry_run:
        gone = _delete_versions(store, keys, gone, config.keep, progress)
        state = _read_state(store, keys)
        # Looked for again: another prune may have deleted as much, or a version have been spared.
        doomed, young = _choose_files(store, keys, state, [], config.grace_s)
        doomed = _delete_files(store, keys, doomed, config.grace_s, progress)
        _clear_notices(store, keys)
    files = [each for each in doomed if each.upload_id is None]
    return BucketPruneResult(
        place=str(keys.place),
        gone=gone,
        left=[version for version in state.versions if version not in gone],
        files=len(files),
        size=sum(each.size for each in files),
        uploads=len(doomed) - len(files),
        young=young,
    )


def _read_state(store: ObjectStore, keys: ArtifactKeys) -> _State:
    claims, _ = read_notices(store, keys.claims)
    latest = find_latest(store, keys)
    listing = store.list_objects(f"{keys.place.prefix}/")
    found = {entry.key for entry in listing.objects}
    heads = {key.removesuffix(f"/{MANIFEST_FILE}").rpartition("/")[2] for key in found}
    return _State(
        claimed=frozenset().union(*(claim.keys for claim in claims)),
        latest=latest,
        listing=listing,
        versions=sorted(
            version
            for version in map(int, filter(is_version, heads))
            if keys.manifest(version) in found
        ),
    )


def _choose_versions(keys: ArtifactKeys, state: _State, keep: int) -> list[int]:
    """Return the versions that may go.

    Raises:
        StoreError: `latest` names none that is there.
    """
    known = state.versions
    if state.latest not in known:
        raise StoreError(
            f"s3://{keys.place.bucket}/{keys.latest}: expected one of the versions "
            f"{', '.join(map(str, known)) or '(none is there)'}, found {state.latest}. Upload one "
            "of them again with --promote; nothing was deleted."
        )
    at = known.index(state.latest)
    kept = {*known[-keep:], *known[max(0, at - 1) : at + 1]}
    return [each for each in known if each not in kept and keys.manifest(each) not in state.claimed]


def _find_needed(
    store: ObjectStore, keys: ArtifactKeys, state: _State, gone: Iterable[int]
) -> set[str]:
    """Return every key that a version which stays, or an upload under way, relies on.

    Raises:
        DamageError: A manifest cannot be read.
    """
    needed = set(state.claimed)
    for version in sorted(set(state.versions) - set(gone)):
        data = find_manifest(store, keys, version)
        if data is None:
            continue  # another prune deleted it in between
        manifest = parse_manifest(data, f"{keys.place}/{version}/{MANIFEST_FILE}")
        needed |= {keys.blob(record.sha256) for record in manifest.files.values()}
        needed.add(keys.signature(manifest.sha256))
    return needed


def _choose_files(
    store: ObjectStore, keys: ArtifactKeys, state: _State, gone: Iterable[int], grace_s: float
) -> tuple[list[_Doomed], int]:
    """Return what may go beside the manifests, and how many files are too young to."""
    needed, latest_start = _find_needed(store, keys, state, gone), _start(state, grace_s)
    doomed: list[_Doomed] = []
    young = 0
    for entry in state.listing.objects:
        if entry.key in needed or not _is_ours(keys, entry.key):
            continue
        if entry.modified > latest_start:
            young += 1
        else:
            doomed.append(_Doomed(key=entry.key, size=entry.size))
    doomed += [
        _Doomed(key=upload.key, upload_id=upload.upload_id)
        for upload in store.list_uploads(keys.blobs)
        if _is_ours(keys, upload.key)
        and upload.key not in state.claimed
        and upload.initiated <= latest_start
    ]
    return doomed, young


def _is_ours(keys: ArtifactKeys, key: str) -> bool:
    """Whether a key is that of a content or a signature, as uploads name them."""
    return _FILE.fullmatch(key[len(keys.place.prefix) + 1 :]) is not None


def _start(state: _State, grace_s: float) -> datetime:
    """Return until when something must have been put to be old enough, by the store's clock."""
    if not grace_s:  # its Date has no fractions of a second: what was put just now would be young
        return datetime.max.replace(tzinfo=UTC)
    return state.listing.asked - timedelta(seconds=grace_s)


def _delete_versions(
    store: ObjectStore, keys: ArtifactKeys, gone: list[int], keep: int, progress: Progress
) -> list[int]:
    """Delete the manifests of versions that still may go; return these."""
    by_key = {keys.manifest(version): version for version in gone}

    def choose(state: _State, batch: list[_Doomed]) -> list[_Doomed]:
        still = _choose_versions(keys, state, keep)
        return [each for each in batch if by_key[each.key] in still]

    progress("deleting versions", 0, 0)
    deleted = _delete_all(store, keys, [_Doomed(key=key) for key in by_key], choose)
    return [by_key[each.key] for each in deleted]


def _delete_files(
    store: ObjectStore,
    keys: ArtifactKeys,
    doomed: list[_Doomed],
    grace_s: float,
    progress: Progress,
) -> list[_Doomed]:
    """Delete what still nobody needs; return that."""
    count = count_bytes("deleting files", sum(each.size for each in doomed), progress)

    def choose(state: _State, batch: list[_Doomed]) -> list[_Doomed]:
        count(sum(each.size for each in batch))
        needed, latest_start = _find_needed(store, keys, state, []), _start(state, grace_s)
        # What was put again since, by a program that claims nothing, is young now.
        old = {each.key for each in state.listing.objects if each.modified <= latest_start}
        return [
            each
            for each in batch
            if (
                each.key in old and each.key not in needed
                if each.upload_id is None
                # An unfinished upload may go although its key is needed: nobody is at it.
                else each.key not in state.claimed
            )
        ]

    return _delete_all(store, keys, doomed, choose)


def _delete_all(
    store: ObjectStore,
    keys: ArtifactKeys,
    doomed: list[_Doomed],
    choose: Callable[[_State, list[_Doomed]], list[_Doomed]],
) -> list[_Doomed]:
    """Announce what is to go, delete what `choose` says may go still, and return that."""
    deleted: list[_Doomed] = []
    for start in range(0, len(doomed), BATCH):
        batch = doomed[start : start + BATCH]
        announcement = announce(store, keys, {each.key for each in batch})
        try:
            batch = choose(_read_state(store, keys), batch)
        except StoreError:
            announcement.end()
            raise
        _delete(announcement, batch)
        deleted += batch
    return deleted


def _delete(announcement: Announcement, doomed: list[_Doomed]) -> None:
    """Delete what was announced, and say that it is over.

    The notice is left to run out where a request had to be sent again, or an error ended this: the
    first one may still be on its way, and an upload must not go on before it has arrived.
    """
    store, again = announcement.store, False

    def delete(each: _Doomed) -> None:
        nonlocal again
        tries = 0

        def guard() -> None:
            nonlocal tries
            announcement.check()
            tries += 1

        if each.upload_id is None:
            store.delete(each.key, guard=guard)
        else:
            store.abort_upload(each.key, each.upload_id, guard=guard)
        again = again or tries > 1

    run_all([functools.partial(delete, each) for each in doomed], THREADS, store.deadline)
    if not again:
        announcement.end()


def _clear_notices(store: ObjectStore, keys: ArtifactKeys) -> None:
    """Delete notices that are over: of uploads that ended, of whoever was killed."""
    for prefix in (keys.claims, keys.prunes):
        for key in read_notices(store, prefix)[1]:
            store.delete(key)
