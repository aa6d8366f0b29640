from __future__ import annotations

import pytest

from export.store.errors import StoreError
from export.store.location import ArtifactKeys, Location, is_version, parse_location


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://models", Location("models", "")),
        ("s3://models/", Location("models", "")),
        ("s3://models/team/texts/", Location("models", "team/texts")),
    ],
)
def test_an_address_is_a_bucket_and_a_prefix(text: str, expected: Location) -> None:
    assert parse_location(text) == expected
    assert parse_location(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models/team", "'models/team': expected s3://bucket/prefix, found no such address."),
        ("https://models/team", "expected s3://bucket/prefix, found no such address."),
        ("s3:///team", "expected s3://bucket/prefix, found no such address. Name a bucket."),
        ("s3://user:secret@models/x", "expected s3://bucket/prefix, found no such address."),
        ("s3://models/a//b", "expected plain names between the slashes"),
        ("s3://models/../b", "expected plain names between the slashes"),
        ("s3://models/a\nb", "or an unprintable character. Correct the prefix."),
        (f"s3://models/{'a' * 900}", "expected a prefix of at most 824 bytes, found 900."),
    ],
)
def test_what_is_no_address_is_refused(text: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        parse_location(text)


def test_keys_of_an_artifact_are_those_of_the_document() -> None:
    keys = ArtifactKeys(Location("b", "team").below("tiny"))
    assert keys.manifest(3) == "team/tiny/3/manifest.json"
    assert keys.blob("ab") == "team/tiny/blobs/ab"
    assert keys.signature("ab") == "team/tiny/signatures/ab.sig"
    assert keys.latest == "team/tiny/latest"
    assert ArtifactKeys(Location("b").below("tiny")).latest == "tiny/latest"


def test_a_version_is_a_number_from_1_on() -> None:
    assert [
        text for text in ("1", "42", "0", "01", "-1", "1.0", "latest", "") if is_version(text)
    ] == [*("1", "42")]
