"""The checksum that a manifest holds of itself, and what passes without one."""

from __future__ import annotations

import hashlib
import json
import re

import pytest

from export import bundle
from export.lookup import ChecksumError, load_lookup, read_lookup
from export.lookup.errors import ArtifactError, ManifestError
from export.lookup.manifest import parse_manifest
from export.lookup.seal import BLANK, SEAL_KEY, hash_sealed, seal_text
from tests.export.lookup.seals import edit_manifest, format_fields, make_older, reseal


def passes(data: bytes) -> bool:
    try:
        parse_manifest(data, "manifest.json")
    except ArtifactError:
        return False
    return True


def flip_bit(data: bytes, bit: int) -> bytes:
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)


def test_every_flipped_bit_of_a_manifest_is_refused(sealed_manifest):
    bits = range(8 * len(sealed_manifest))
    assert [bit for bit in bits if passes(flip_bit(sealed_manifest, bit))] == []


def test_every_cut_of_a_manifest_is_refused(sealed_manifest):
    lengths = range(len(sealed_manifest))
    assert [kept for kept in lengths if passes(sealed_manifest[:kept])] == []


def test_of_version_2_some_flipped_bits_pass(sealed_manifest):
    older = make_older(json.loads(sealed_manifest), 2)
    told = ("axes", "max_tokens", "tolerance")
    sound = {name: older.pop(name) for name in told} | older
    data = json.dumps(sound).encode()
    flipped = [flip_bit(data, bit) for bit in range(8 * data.index(b"format"))]
    passed = [json.loads(candidate) for candidate in flipped if passes(candidate)]
    assert {name for name in told if any(found[name] != sound[name] for found in passed)} == {*told}


@pytest.mark.parametrize("check_hashes", [True, False])
@pytest.mark.parametrize(
    ("old", "new"), [('"max_tokens": 16', '"max_tokens": 17'), ('"E": 5', '"E": 4'), ("\n", " ")]
)
def test_what_is_only_told_is_checked_too(everything, old, new, check_hashes):
    path = everything / "manifest.json"
    text = path.read_text()
    changed = text.replace(old, new, 1)
    assert changed != text
    path.write_text(changed)
    digest = json.loads(text)[SEAL_KEY]
    found = json.loads(reseal(changed.encode()))[SEAL_KEY]
    message = (
        f"{path}: expected manifest_sha256 {digest}, found {found}. Copy the artifact again, or "
        "export the run again."
    )
    with pytest.raises(ChecksumError, match=re.escape(message)):
        read_lookup(everything, check_hashes=check_hashes)


@pytest.mark.parametrize("engine", ["numpy", "auto"])
def test_no_engine_is_made_of_a_damaged_manifest(everything, engine):
    text = (everything / "manifest.json").read_text()
    (everything / "manifest.json").write_text(text.replace('"E": 5', '"E": 4'))
    with pytest.raises(ChecksumError, match="expected manifest_sha256"):
        load_lookup(everything, engine=engine, check_hashes=False)


@pytest.mark.parametrize("digest", ["0" * 63, "A" * 64, "0" * 65, None, 0])
def test_a_checksum_that_is_none_is_refused(everything, digest):
    edit_manifest(everything, lambda fields: fields.update({SEAL_KEY: digest}))
    message = f"manifest_sha256: expected 64 lower-case hex digits, found {digest!r:.80}."
    with pytest.raises(ManifestError, match=re.escape(message)):
        read_lookup(everything)


def test_a_checksum_must_stand_there_digit_by_digit(everything):
    path = everything / "manifest.json"
    text = path.read_text()
    digest = json.loads(text)[SEAL_KEY]
    path.write_text(text.replace(digest, f"\\u{ord(digest[0]):04x}{digest[1:]}"))
    assert json.loads(path.read_text()) == json.loads(text)
    with pytest.raises(ChecksumError, match=f"expected manifest_sha256 {digest}, found "):
        read_lookup(everything)


def test_values_are_named_only_where_the_checksum_agrees(everything):
    """Damage is told as damage, a writer's mistake by its value."""
    fields = json.loads((everything / "manifest.json").read_text()) | {"max_tokens": 0}
    with pytest.raises(ChecksumError):
        parse_manifest(json.dumps(fields).encode(), "manifest.json")
    with pytest.raises(ManifestError, match="max_tokens: expected an integer from 1"):
        parse_manifest(format_fields(fields), "manifest.json")


def test_the_checksum_is_of_the_bytes_with_zeros_in_its_place(everything):
    data = (everything / "manifest.json").read_bytes()
    digest = json.loads(data)[SEAL_KEY]
    assert data.count(digest.encode()) == 1
    assert hashlib.sha256(data.replace(digest.encode(), b"0" * 64)).hexdigest() == digest
    assert hash_sealed(data, digest) == digest


def test_a_manifest_may_be_written_without_blanks(everything):
    fields = json.loads((everything / "manifest.json").read_text()) | {SEAL_KEY: BLANK}
    data = json.dumps(fields, separators=(",", ":")).encode()
    digest = hashlib.sha256(data).hexdigest()
    (everything / "manifest.json").write_bytes(data.replace(BLANK.encode(), digest.encode(), 1))
    read_lookup(everything)


def test_an_artifact_s_manifest_is_sealed_by_the_same_rule():
    fields = {"schema_version": bundle.SCHEMA_VERSION, "files": {"é": {"sha256": BLANK}}}
    text = bundle.format_manifest(fields)
    blank = json.dumps(fields | {SEAL_KEY: BLANK}, indent=2, sort_keys=True, ensure_ascii=False)
    assert seal_text(blank + "\n") == text
    digest = json.loads(text)[SEAL_KEY]
    assert hash_sealed(text.encode(), digest) == digest
