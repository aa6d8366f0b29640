"""The objects of a bucket: read, stream, put whole or in parts, list, delete.

Every method is one kind of request, tried again and explained by `BucketClient`.
"""

from __future__ import annotations

import base64
import email.utils
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from export.store.client import BucketClient
from export.store.errors import MissingObjectError, StoreError

CHUNK_BYTES = 256 * 1024
MAX_LISTED = 10_000


@dataclass(frozen=True, kw_only=True)
class ObjectFacts:
    """What a store tells of an object without its content.

    Attributes:
        size: Bytes.
        etag: Without quotes. The MD5 of the content, or of the parts' MD5s and "-" and their
            number, unless the store encrypts with keys of its own: then None.
        metadata: Given by whoever put it.
        modified: When it was put.
    """

    size: int
    etag: str | None
    metadata: Mapping[str, str]
    modified: datetime


@dataclass(frozen=True, kw_only=True)
class StartedUpload:
    """A multipart upload that was neither completed nor aborted."""

    key: str
    upload_id: str
    initiated: datetime


@dataclass(frozen=True, kw_only=True)
class ListedObject:
    """What a listing tells of an object."""

    key: str
    size: int
    modified: datetime


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The objects below a prefix.

    Attributes:
        objects: In the order of their keys.
        asked: The store's time when it began to answer: ages are told by one clock, and not by
            this machine's.
    """

    objects: list[ListedObject]
    asked: datetime


def md5_base64(data: bytes) -> str:
    """Return what a Content-MD5 header holds."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _facts(answer: Mapping[str, Any]) -> ObjectFacts:
    keyed = (
        answer.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in answer
    )
    return ObjectFacts(
        size=int(answer["ContentLength"]),
        etag=None if keyed else str(answer.get("ETag", "")).strip('"'),
        metadata=dict(answer.get("Metadata", {})),
        modified=answer["LastModified"],
    )


def _read_date(answer: Mapping[str, Any]) -> datetime | None:
    """Return the Date of an answer, None where it has none that can be read."""
    try:
        text = answer["ResponseMetadata"]["HTTPHeaders"]["date"]
        return email.utils.parsedate_to_datetime(text)
    except (KeyError, TypeError, ValueError):
        return None


class ObjectStore(BucketClient):
    """The objects of one bucket; made like `BucketClient`. Safe to share between threads."""

    def read(self, key: str, cap: int) -> tuple[bytes, ObjectFacts]:
        """Return the content of a small object.

        Args:
            key: Its key.
            cap: Bytes it may have; nothing of a larger one is read.

        Raises:
            MissingObjectError: There is none.
            StoreError: It is larger, or cannot be read.
        """

        def once() -> tuple[bytes, ObjectFacts]:
            answer = self.client.get_object(Bucket=self.location.bucket, Key=key)
            with closing(answer["Body"]) as body:
                facts = _facts(answer)
                if facts.size > cap:
                    raise StoreError(
                        f"s3://{self.location.bucket}/{key}: expected at most {cap} bytes, found "
                        f"{facts.size}. Check what was put there."
                    )
                return body.read(), facts

        return self.call("read", key, once)

    def find(self, key: str) -> ObjectFacts | None:
        """Return the facts of an object, None where there is none."""
        try:
            return self.call(
                "look at",
                key,
                lambda: _facts(self.client.head_object(Bucket=self.location.bucket, Key=key)),
            )
        except MissingObjectError:
            return None

    def stream(self, key: str, start: int) -> Iterator[bytes]:
        """Yield an object's bytes from `start` on; not tried again here: use within `call`."""
        span = {"Range": f"bytes={start}-"} if start else {}
        answer = self.client.get_object(Bucket=self.location.bucket, Key=key, **span)
        with closing(answer["Body"]) as body:
            for chunk in body.iter_chunks(CHUNK_BYTES):
                self.deadline.check()
                yield chunk

    def put(
        self,
        key: str,
        data: bytes,
        *,
        metadata: Mapping[str, str],
        if_absent: bool = False,
        if_etag: str | None = None,
    ) -> None:
        """Put an object, whole or not at all.

        Args:
            key: Its key.
            data: Its content.
            metadata: Kept beside it.
            if_absent: Only where there is none.
            if_etag: Only where there is the one with this ETag, given as it is to be sent.

        Raises:
            PreconditionError: The condition does not hold.
        """
        condition = {"IfNoneMatch": "*"} if if_absent else {"IfMatch": if_etag} if if_etag else {}
        self.call(
            "write",
            key,
            lambda: self.client.put_object(
                Bucket=self.location.bucket,
                Key=key,
                Body=data,
                ContentMD5=md5_base64(data),
                Metadata=dict(metadata),
                **condition,
            ),
        )

    def start_upload(self, key: str, metadata: Mapping[str, str]) -> str:
        """Begin a multipart upload and return its id."""
        return self.call(
            "begin an upload of",
            key,
            lambda: str(
                self.client.create_multipart_upload(
                    Bucket=self.location.bucket, Key=key, Metadata=dict(metadata)
                )["UploadId"]
            ),
        )

    def put_part(self, key: str, upload_id: str, number: int, data: bytes) -> None:
        """Send one part of a multipart upload; parts count from 1."""
        self.call(
            f"write part {number} of",
            key,
            lambda: self.client.upload_part(
                Bucket=self.location.bucket,
                Key=key,
                UploadId=upload_id,
                PartNumber=number,
                Body=data,
                ContentMD5=md5_base64(data),
            ),
        )

    def list_parts(self, key: str, upload_id: str) -> dict[int, tuple[int, str]]:
        """Return the bytes and the ETag of each part that arrived, by number."""

        def once() -> dict[int, tuple[int, str]]:
            pages = self.client.get_paginator("list_parts").paginate(
                Bucket=self.location.bucket, Key=key, UploadId=upload_id
            )
            return {
                part["PartNumber"]: (part["Size"], part["ETag"].strip('"'))
                for page in pages
                for part in page.get("Parts", [])
            }

        return self.call("list the parts of", key, once)

    def complete_upload(self, key: str, upload_id: str, etags: list[str]) -> None:
        """Turn the parts, in order, into the object."""
        parts = [{"PartNumber": at, "ETag": f'"{etag}"'} for at, etag in enumerate(etags, start=1)]
        self.call(
            "complete the upload of",
            key,
            lambda: self.client.complete_multipart_upload(
                Bucket=self.location.bucket,
                Key=key,
                UploadId=upload_id,
                MultipartUpload={"Parts": parts},
            ),
        )

    def abort_upload(
        self, key: str, upload_id: str, *, guard: Callable[[], None] = lambda: None
    ) -> None:
        """Drop a multipart upload and its parts; one that is gone already is fine.

        Args:
            key: Its key.
            upload_id: Its id.
            guard: Called before every try; ends it by raising.
        """

        def once() -> None:
            guard()
            self.client.abort_multipart_upload(
                Bucket=self.location.bucket, Key=key, UploadId=upload_id
            )

        try:
            self.call("abort an upload of", key, once)
        except MissingObjectError:
            return

    def delete(self, key: str, *, guard: Callable[[], None] = lambda: None) -> None:
        """Delete an object; one that is gone already is fine.

        Args:
            key: Its key.
            guard: Called before every try; ends it by raising.
        """

        def once() -> None:
            guard()
            self.client.delete_object(Bucket=self.location.bucket, Key=key)

        try:
            self.call("delete", key, once)
        except MissingObjectError:  # S3 has no such answer, some that imitate it do
            return

    def list_objects(self, prefix: str) -> Listing:
        """Return every object whose key begins with `prefix`."""

        def once() -> Listing:
            objects: list[ListedObject] = []
            asked: datetime | None = None
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.location.bucket, Prefix=prefix
            )
            for page in pages:
                self.deadline.check()
                asked = asked or _read_date(page)
                objects += [
                    ListedObject(
                        key=entry["Key"], size=entry["Size"], modified=entry["LastModified"]
                    )
                    for entry in page.get("Contents", [])
                ]
            if asked is None:
                raise StoreError(
                    f"s3://{self.location.bucket}/{prefix} at {self.endpoint}: expected a Date in "
                    "the store's answer, to tell ages by its clock, found none. Ask who runs the "
                    "store, or what stands before it."
                )
            return Listing(objects=objects, asked=asked)

        return self.call("list", prefix, once)

    def list_uploads(self, prefix: str) -> list[StartedUpload]:
        """Return the multipart uploads under way below a prefix, newest first."""

        def once() -> list[StartedUpload]:
            pages = self.client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.location.bucket, Prefix=prefix
            )
            return [
                StartedUpload(
                    key=upload["Key"],
                    upload_id=upload["UploadId"],
                    initiated=upload["Initiated"],
                )
                for page in pages
                for upload in page.get("Uploads", [])
            ]

        uploads = self.call("list the uploads under way of", prefix, once)
        return sorted(uploads, key=lambda upload: upload.initiated, reverse=True)

    def list_folders(self, prefix: str) -> list[str]:
        """Return the names one level below a prefix that have something below them, sorted.

        Args:
            prefix: Without a slash at its end; may be empty.

        Raises:
            StoreError: There are more than `MAX_LISTED`.
        """
        head = f"{prefix}/" if prefix else ""

        def once() -> list[str]:
            names: list[str] = []
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.location.bucket, Prefix=head, Delimiter="/"
            )
            for page in pages:
                self.deadline.check()
                names += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
                if len(names) + len(page.get("Contents", [])) > MAX_LISTED:
                    raise StoreError(
                        f"s3://{self.location.bucket}/{prefix}: expected at most {MAX_LISTED} "
                        "names, found more. Name a prefix that holds artifacts only."
                    )
            return sorted(name[len(head) : -1] for name in names)

        return self.call("list", prefix, once)
