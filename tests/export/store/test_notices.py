"""What a notice says, as far as that needs no server; test_bucket_prune.py has the rest."""

from __future__ import annotations

from datetime import timedelta

import pytest

from export.store.deadline import Deadline
from export.store.errors import DamageError
from export.store.location import Location
from export.store.notices import Notice, _parse
from export.store.s3 import ObjectStore


@pytest.fixture
def store() -> ObjectStore:
    return ObjectStore(Location("b"), endpoint_url="http://127.0.0.1:9", deadline=Deadline(5))


@pytest.mark.parametrize(("age_s", "holds"), [(-3, True), (0, True), (60, True), (61, False)])
def test_a_notice_holds_for_the_seconds_in_it(
    store: ObjectStore, age_s: float, holds: bool
) -> None:
    found = _parse(store, "n", b'{"seconds": 60, "keys": ["a", "b"]}', timedelta(seconds=age_s))
    assert found == (Notice(key="n", keys=frozenset({"a", "b"})) if holds else None)


def test_an_empty_notice_is_over(store: ObjectStore) -> None:
    assert _parse(store, "n", b"", timedelta()) is None


@pytest.mark.parametrize(
    ("data", "defect"),
    [
        (b"{", "JSONDecodeError"),
        (b"[]", "TypeError"),
        (b"{}", "KeyError"),
        (b'{"seconds": 1, "keys": "a"}', "ValueError"),
        (b'{"seconds": 1, "keys": [1]}', "ValueError"),
        (b'{"seconds": true, "keys": []}', "ValueError"),
        (b'{"seconds": -1, "keys": []}', "ValueError"),
        (b'{"seconds": NaN, "keys": []}', "ValueError"),
        (b'{"seconds": 1e300, "keys": []}', "ValueError"),
        (b"[" * 100_000, "RecursionError"),
    ],
)
def test_what_is_no_notice_is_refused(store: ObjectStore, data: bytes, defect: str) -> None:
    message = rf"s3://b/n: expected the notice of an upload or a prune, found a defect \({defect}\)"
    with pytest.raises(DamageError, match=message):
        _parse(store, "n", data, timedelta())
