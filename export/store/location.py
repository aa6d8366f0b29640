"""Where things lie in a bucket: `s3://bucket/prefix` and the keys below it.

    <prefix>/<name>/blobs/<sha256>            every file of every version, by content
    <prefix>/<name>/signatures/<sha256>.sig   signature of the manifest with that sha256
    <prefix>/<name>/<version>/manifest.json   its existence publishes the version
    <prefix>/<name>/latest                    the version to use, as `latest` on disk
    <prefix>/<name>/claims/<id>               what an upload under way needs, see notices.py
    <prefix>/<name>/prunes/<id>               what a prune under way deletes

Only `manifest.json` and `latest` can be fought over; everything else is named after its content, so
whoever writes it writes the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from export.bundle import MANIFEST_FILE
from export.store.errors import StoreError

LATEST_KEY = "latest"
BLOBS = "blobs"
SIGNATURES = "signatures"
CLAIMS = "claims"
PRUNES = "prunes"
MAX_KEY_BYTES = 1024
"""S3's own limit."""

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_LONGEST_TAIL = 200
"""A name of up to 100 characters, and `/signatures/<sha256>.sig`."""


def is_version(text: str) -> bool:
    """Whether a path's segment is the number of a version."""
    return _VERSION.fullmatch(text) is not None


@dataclass(frozen=True)
class Location:
    """A bucket and a prefix, without slashes at its ends; may be empty."""

    bucket: str
    prefix: str = ""

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def segments(self) -> tuple[str, ...]:
        """The prefix cut at its slashes."""
        return tuple(self.prefix.split("/")) if self.prefix else ()

    def below(self, *segments: str) -> Location:
        """Return a place further down."""
        return Location(self.bucket, "/".join((*self.segments, *segments)))

    def above(self) -> Location:
        """Return the place one segment up."""
        return Location(self.bucket, "/".join(self.segments[:-1]))


def parse_location(text: str) -> Location:
    """Parse `s3://bucket[/prefix]`.

    >>> parse_location("s3://models/team/").prefix
    'team'

    Raises:
        StoreError: It is something else, or holds what no key should.
    """
    scheme, _, rest = text.partition("://")
    bucket, _, prefix = rest.partition("/")
    prefix = prefix.strip("/")
    if scheme != "s3" or not _BUCKET.fullmatch(bucket):
        raise StoreError(
            f"{text!r:.200}: expected s3://bucket/prefix, found no such address. Name a bucket."
        )
    segments = prefix.split("/") if prefix else []
    if any(part in ("", ".", "..") or not part.isprintable() for part in segments):
        raise StoreError(
            f"{text!r:.200}: expected plain names between the slashes, found '', '.', '..' or an "
            "unprintable character. Correct the prefix."
        )
    if len(prefix.encode()) + _LONGEST_TAIL > MAX_KEY_BYTES:
        raise StoreError(
            f"{text!r:.60}: expected a prefix of at most {MAX_KEY_BYTES - _LONGEST_TAIL} bytes, "
            f"found {len(prefix.encode())}. Choose a shorter one."
        )
    return Location(bucket, prefix)


@dataclass(frozen=True)
class ArtifactKeys:
    """The keys of one name's artifacts; `place` is `<prefix>/<name>`."""

    place: Location

    def _key(self, *segments: str) -> str:
        return self.place.below(*segments).prefix

    def manifest(self, version: int) -> str:
        """Return the key that publishes a version."""
        return self._key(str(version), MANIFEST_FILE)

    def blob(self, sha256: str) -> str:
        """Return the key of a file's content."""
        return self._key(BLOBS, sha256)

    @property
    def blobs(self) -> str:
        """What the key of every file's content begins with."""
        return self._key(BLOBS) + "/"

    def signature(self, manifest_sha256: str) -> str:
        """Return the key of the signature of a manifest."""
        return self._key(SIGNATURES, f"{manifest_sha256}.sig")

    @property
    def signatures(self) -> str:
        """What the key of every signature begins with."""
        return self._key(SIGNATURES) + "/"

    @property
    def claims(self) -> str:
        """What the key of every upload's notice begins with."""
        return self._key(CLAIMS) + "/"

    @property
    def prunes(self) -> str:
        """What the key of every prune's notice begins with."""
        return self._key(PRUNES) + "/"

    @property
    def latest(self) -> str:
        """The key of the pointer."""
        return self._key(LATEST_KEY)
