from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from export.store.blobs import Blob, choose_part_bytes, expected_etag, hash_parts, is_stored
from export.store.errors import StoreError
from export.store.s3 import ObjectFacts

MIB = 2**20


def make_blob(path: Path, data: bytes) -> Blob:
    path.write_bytes(data)
    return Blob(path=path, key="k", size=len(data), sha256=hashlib.sha256(data).hexdigest())


def make_facts(blob: Blob, etag: str | None, **changes: object) -> ObjectFacts:
    fields = {"size": blob.size, "metadata": {"sha256": blob.sha256}, **changes}
    return ObjectFacts(etag=etag, modified=datetime.now(UTC), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(("size", "parts"), [(0, 1), (1, 1), (10, 1), (11, 2), (20, 2), (21, 3)])
def test_a_file_is_cut_into_parts_that_cover_it(tmp_path: Path, size: int, parts: int) -> None:
    blob = make_blob(tmp_path / "f", bytes(range(size)))
    found = hash_parts(blob, 10)
    assert len(found) == parts
    assert [part.number for part in found] == list(range(1, parts + 1))
    assert sum(part.size for part in found) == size
    data = blob.path.read_bytes()
    for part in found:
        assert part.md5 == hashlib.md5(data[part.start : part.start + part.size]).digest()


def test_a_file_is_never_cut_into_more_parts_than_a_store_takes() -> None:
    assert choose_part_bytes(100 * MIB, 8 * MIB) == 8 * MIB
    size = choose_part_bytes(10**12, 8 * MIB)
    assert size % MIB == 0 and 10**12 / size <= 10_000


def test_a_file_that_changed_since_its_manifest_is_not_sent(tmp_path: Path) -> None:
    blob = make_blob(tmp_path / "f", b"old")
    blob.path.write_bytes(b"new")
    with pytest.raises(StoreError, match="f: expected the file that manifest.json names, found it"):
        hash_parts(blob, 10)


def test_an_object_is_the_file_when_all_that_can_be_compared_is_equal(tmp_path: Path) -> None:
    blob = make_blob(tmp_path / "f", b"0123456789ab")
    one, two = (expected_etag(hash_parts(blob, size)) for size in (100, 10))
    assert one == hashlib.md5(b"0123456789ab").hexdigest()
    assert two.endswith("-2")
    assert is_stored(make_facts(blob, one), blob, one)
    assert is_stored(make_facts(blob, two), blob, two)
    assert is_stored(make_facts(blob, two), blob, one)  # sent in parts by somebody else
    assert is_stored(make_facts(blob, None), blob, one)  # encrypted: the ETag tells nothing
    assert not is_stored(None, blob, one)
    assert not is_stored(make_facts(blob, "0" * 32), blob, one)
    assert not is_stored(make_facts(blob, "0" * 32 + "-2"), blob, two)
    assert not is_stored(make_facts(blob, one, size=1), blob, one)
    assert not is_stored(make_facts(blob, one, metadata={}), blob, one)
