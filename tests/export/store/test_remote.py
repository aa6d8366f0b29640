from __future__ import annotations

import json
from typing import Any

import pytest

from export.bundle import MAX_FILES
from export.store.errors import DamageError
from export.store.remote import FileRecord, parse_manifest

RECORD = {"bytes": 3, "sha256": "a" * 64}
FIELDS: dict[str, Any] = {"name": "tiny", "version": 2, "files": {"lookup/a.npy": RECORD}}


def test_a_manifest_gives_its_files() -> None:
    manifest = parse_manifest(json.dumps(FIELDS).encode(), "here")
    assert (manifest.name, manifest.version, manifest.size) == ("tiny", 2, 3)
    assert manifest.files == {"lookup/a.npy": FileRecord(size=3, sha256="a" * 64)}


@pytest.mark.parametrize(
    "name",
    [
        "/etc/x",
        "../x",
        "a/../../x",
        "a//b",
        "./a",
        "a\\b",
        ".hidden",
        "a/.b",
        "a\0b",
        "",
        "a" * 600,
    ],
)
def test_a_name_that_could_leave_its_folder_is_refused(name: str) -> None:
    data = json.dumps({**FIELDS, "files": {name: RECORD}}).encode()
    with pytest.raises(
        DamageError, match="here: expected an artifact's manifest, .*relative paths"
    ):
        parse_manifest(data, "here")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"files": {"a": {"bytes": -1, "sha256": "a" * 64}}}, "expected bytes and sha256"),
        ({"files": {"a": {"bytes": True, "sha256": "a" * 64}}}, "expected bytes and sha256"),
        ({"files": {"a": {"bytes": 1, "sha256": "../x"}}}, "expected bytes and sha256"),
        ({"files": {"a": {"bytes": 1}}}, "found a defect: no 'sha256'."),
        ({"files": {"a": RECORD, "a/b": RECORD}}, "expected 'a' to be a file or a folder"),
        ({"files": [1]}, "found a defect: "),
        ({"version": "../1"}, "version: expected a number from 1 on, found '../1'"),
        ({"version": True}, "version: expected a number from 1 on, found True"),
        ({"files": {f"f{at}": RECORD for at in range(MAX_FILES + 1)}}, "expected at most 10000"),
    ],
)
def test_what_no_manifest_says_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DamageError, match=message):
        parse_manifest(json.dumps({**FIELDS, **change}).encode(), "here")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_what_is_no_manifest_at_all_is_refused(data: bytes) -> None:
    with pytest.raises(DamageError, match="here: expected an artifact's manifest, found a defect"):
        parse_manifest(data, "here")
