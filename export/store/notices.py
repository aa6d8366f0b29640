"""Notices that an upload and a prune leave in a bucket, so that neither takes from the other.

An upload that finds a file stored sends it no more, and needs it to stay until its manifest names
it; a prune deletes what no manifest names. Neither can lock the other out (whoever holds a lock
may be killed), so each says first what it is about, and looks at the other's notices only then:

    upload: put claims/<id> with the keys it needs -> wait while a prune has one of them ->
            look what is stored, send the rest, publish, move `latest` -> end the claim
    prune:  put prunes/<id> with the keys to delete -> read the claims, then `latest` and the
            manifests -> delete what none of them needs -> delete the notice

Of two notices that were put, the later one is put after the earlier one was: so at least one of the
two sees the other's. This needs a store that reads and lists what was written before, as S3, Ceph,
MinIO and moto do. docs/decisions/0025 has the whole argument.

A notice holds for the seconds that are in it, by the store's clock, so a killed process is in
nobody's way for ever. Whoever wrote it must have ended by then, see `Claim.check` and
`Announcement.check`.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from export.store.deadline import read_clock
from export.store.errors import DamageError, MissingObjectError, StoreError
from export.store.location import ArtifactKeys
from export.store.s3 import ObjectStore

MAX_NOTICE_BYTES = 16 * 2**20
"""10,000 files of an artifact, with keys of 1,024 bytes."""
SIGNED_S = 900.0
"""For so long a store takes a request that was signed and then held up on its way."""
CLAIM_SPARE_S = 4 * SIGNED_S
"""What a claim holds beyond the deadline of its upload."""
PRUNE_S = 120.0
"""For so long a prune deletes under one notice."""
PRUNE_HOLDS_S = PRUNE_S + 2 * SIGNED_S
"""For so long an upload waits for one that does not end: it was killed."""
POLL_S = 2.0

_ENDED = b""
"""Content of a claim that is over: who uploads may write, not delete."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Notice:
    """What somebody needs or deletes: full keys, at the key where it says so."""

    key: str
    keys: frozenset[str]


def read_notices(store: ObjectStore, prefix: str) -> tuple[list[Notice], list[str]]:
    """Read the notices below a prefix.

    Returns:
        Those that hold, and the keys of those that are over and may be deleted.

    Raises:
        DamageError: One is no notice.
    """
    listing = store.list_objects(prefix)
    notices: list[Notice] = []
    over: list[str] = []
    for entry in listing.objects:
        notice = None
        if entry.size:
            try:
                data, facts = store.read(entry.key, MAX_NOTICE_BYTES)
            except MissingObjectError:
                continue  # it ended in between
            notice = _parse(store, entry.key, data, listing.asked - facts.modified)
        if notice is None:
            over.append(entry.key)
        else:
            notices.append(notice)
    return notices, over


def _parse(store: ObjectStore, key: str, data: bytes, age: timedelta) -> Notice | None:
    """Return a notice that holds, None of one that is over."""
    if data == _ENDED:
        return None
    try:
        fields = json.loads(data)
        keys, seconds = fields["keys"], fields["seconds"]
        if not isinstance(keys, list) or not all(isinstance(each, str) for each in keys):
            raise ValueError("keys: expected a list of texts")
        if type(seconds) not in (int, float) or not 0 <= seconds < 1e9:
            raise ValueError("seconds: expected a number from 0 on")
    except (ValueError, KeyError, TypeError, RecursionError) as err:
        raise DamageError(
            f"s3://{store.location.bucket}/{key}: expected the notice of an upload or a prune, "
            f"found a defect ({type(err).__name__}). Delete it once neither is under way."
        ) from err
    return None if age > timedelta(seconds=seconds) else Notice(key=key, keys=frozenset(keys))


def _put(store: ObjectStore, prefix: str, keys: Iterable[str], seconds: float) -> str:
    key = prefix + uuid.uuid4().hex
    fields = {"seconds": seconds, "keys": sorted(keys)}
    store.put(key, json.dumps(fields, indent=0).encode(), metadata={})
    return key


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The notice of an upload under way; made by `make_claim`."""

    store: ObjectStore
    key: str
    seconds: float

    def check(self) -> None:
        """Make sure that it holds, and will until a request sent now was answered or is void.

        Raises:
            StoreError: It does not: the machine slept, or somebody removed it.
        """
        listing = self.store.list_objects(self.key)
        held: datetime | None = next((each.modified for each in listing.objects), None)
        if held is None or listing.asked - held > timedelta(seconds=self.seconds - 2 * SIGNED_S):
            raise StoreError(
                f"s3://{self.store.location.bucket}/{self.key}: expected this upload's claim to "
                "hold until it is published, found it "
                + ("gone" if held is None else f"put at {held:%Y-%m-%d %H:%M} UTC")
                + ". Nothing was published: run the command again."
            )

    def end(self) -> None:
        """Say that nothing is needed any more."""
        self.store.put(self.key, _ENDED, metadata={})


def make_claim(
    store: ObjectStore, keys: ArtifactKeys, needed: frozenset[str], progress: Progress
) -> Claim:
    """Say what an upload needs, and wait while a prune has some of it.

    Nothing that was seen in the bucket before may be relied upon.

    Raises:
        DeadlineError: The prune did not end in time.
    """
    seconds = store.deadline.seconds + CLAIM_SPARE_S
    claim = Claim(store=store, key=_put(store, keys.claims, needed, seconds), seconds=seconds)
    while True:
        prunes = [each for each in read_notices(store, keys.prunes)[0] if each.keys & needed]
        if not prunes:
            return claim
        progress("waiting for a prune", 0, 0)
        store.deadline.doing = (
            f"s3://{store.location.bucket}/{prunes[0].key}, to wait for a prune that deletes what "
            f"this upload needs (one that was killed is not waited for after {PRUNE_HOLDS_S:.0f} s)"
        )
        store.deadline.sleep(POLL_S)


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """The notice of a prune under way; made by `announce`."""

    store: ObjectStore
    key: str
    began: float

    def check(self) -> None:
        """Make sure that what was announced may still be deleted.

        Raises:
            StoreError: It was announced too long ago.
        """
        passed = read_clock() - self.began
        if passed > PRUNE_S:
            raise StoreError(
                f"s3://{self.store.location.bucket}/{self.key}: expected to delete what was "
                f"announced there within {PRUNE_S:.0f} s, found {passed:.0f} s gone by. Run the "
                "command again."
            )

    def end(self) -> None:
        """Say that nothing is deleted any more."""
        self.store.delete(self.key)


def announce(store: ObjectStore, keys: ArtifactKeys, doomed: Iterable[str]) -> Announcement:
    """Say what a prune is about to delete; what is needed is to be read only then."""
    began = read_clock()
    key = _put(store, keys.prunes, doomed, PRUNE_HOLDS_S)
    return Announcement(store=store, key=key, began=began)
