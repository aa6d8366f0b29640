from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pytest

from export.store import client
from export.store.client import BucketClient
from export.store.deadline import Deadline
from export.store.errors import StoreError
from export.store.location import Location
from export.store.s3 import ObjectStore


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://user:secret@host", "expected an address without user and password"),
        ("ftp://host", "expected http://host:port or https://host, found 'ftp://host'"),
        ("host:80", "expected http://host:port or https://host"),
    ],
)
def test_an_endpoint_that_is_none_is_refused(url: str, message: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        BucketClient(Location("bucket"), endpoint_url=url, deadline=Deadline(5))
    assert "secret" not in str(caught.value)


def test_a_profile_that_does_not_exist_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StoreError, match=r"expected settings that boto3 can use, found: .*nobody"):
        BucketClient(Location("bucket"), endpoint_url=None, deadline=Deadline(5))


def test_a_host_without_an_address_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_WAIT_S", 0.001)
    store = ObjectStore(
        Location("bucket"), endpoint_url="http://store.invalid", deadline=Deadline(60)
    )
    with pytest.raises(
        StoreError,
        match="s3://bucket/k at http://store.invalid: expected to read it, found no address for",
    ):
        store.read("k", 10)


def test_a_server_that_does_not_run_is_told_after_some_tries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "FIRST_WAIT_S", 0.001)
    store = ObjectStore(
        Location("bucket"), endpoint_url="http://127.0.0.1:9", deadline=Deadline(60)
    )
    message = r"found no answer in 5 tries \(EndpointConnectionError\). Check --endpoint-url"
    with pytest.raises(StoreError, match=message):
        store.read("k", 10)


def test_missing_credentials_are_told_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    store = ObjectStore(
        Location("bucket"), endpoint_url="http://127.0.0.1:9", deadline=Deadline(60)
    )
    with pytest.raises(
        StoreError, match=r"found no usable credentials \(NoCredentialsError\). Set"
    ):
        store.read("k", 10)


def test_our_own_errors_are_not_tried_again() -> None:
    store = BucketClient(Location("b"), endpoint_url="http://127.0.0.1:9", deadline=Deadline(60))
    calls: list[int] = []

    def fail() -> NoReturn:
        calls.append(1)
        raise StoreError("as it is")

    with pytest.raises(StoreError, match="as it is"):
        store.call("read", "k", fail)
    assert calls == [1]
