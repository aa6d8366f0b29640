from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from export.store.errors import SignatureError, StoreError
from export.store.files import SIGNATURE_BYTES
from export.store.signing import (
    check_signature,
    load_private_key,
    load_public_keys,
    make_keys,
    sign_manifest,
)


@pytest.fixture
def version(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny" / "1"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_bytes(b'{"name": "tiny"}\n')
    return folder


def test_what_a_key_signs_its_public_key_accepts(tmp_path: Path, version: Path) -> None:
    private = tmp_path / "team.pem"
    public = make_keys(private)
    assert public == tmp_path / "team.pub.pem"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    signature = sign_manifest(version, load_private_key(private))
    assert (tmp_path / "tiny" / "1.sig").read_bytes() == signature
    assert len(signature) == SIGNATURE_BYTES
    manifest = (version / "manifest.json").read_bytes()
    check_signature(manifest, signature, load_public_keys(public), "here")


def test_another_manifest_or_another_key_is_refused(tmp_path: Path, version: Path) -> None:
    ours, theirs = (load_public_keys(make_keys(tmp_path / f"{who}.pem")) for who in ("a", "b"))
    signature = sign_manifest(version, load_private_key(tmp_path / "a.pem"))
    manifest = (version / "manifest.json").read_bytes()
    message = "here: expected the signature of one of 1 configured key"
    with pytest.raises(SignatureError, match=message):
        check_signature(manifest.replace(b"tiny", b"tine"), signature, ours, "here")
    with pytest.raises(SignatureError, match=message):
        check_signature(manifest, signature, theirs, "here")
    with pytest.raises(SignatureError, match=message):
        check_signature(manifest, b"short", ours, "here")
    with pytest.raises(SignatureError, match="here: expected a signature, because .* found none."):
        check_signature(manifest, None, ours, "here")


def test_a_file_of_several_public_keys_accepts_each(tmp_path: Path, version: Path) -> None:
    publics = [make_keys(tmp_path / f"{who}.pem") for who in ("old", "new")]
    both = tmp_path / "both.pem"
    both.write_bytes(b"# rotated\n" + b"\n".join(path.read_bytes() for path in publics))
    keys = load_public_keys(both)
    assert len(keys) == 2
    for who in ("old", "new"):
        signature = sign_manifest(version, load_private_key(tmp_path / f"{who}.pem"))
        check_signature((version / "manifest.json").read_bytes(), signature, keys, "here")


def test_keys_are_not_replaced(tmp_path: Path) -> None:
    make_keys(tmp_path / "team.pem")
    with pytest.raises(StoreError, match="team.pem: expected no file, found one."):
        make_keys(tmp_path / "team.pem")


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    public = make_keys(tmp_path / "team.pem")
    with pytest.raises(
        StoreError, match="expected a private Ed25519 key in PEM without a password"
    ):
        load_private_key(public)
    with pytest.raises(StoreError, match="expected a public key in PEM, found none. Give the .pub"):
        load_public_keys(tmp_path / "team.pem")
    with pytest.raises(StoreError, match="none: expected a key in PEM, found No such file"):
        load_private_key(tmp_path / "none")
    (tmp_path / "large").write_bytes(b"x" * 70_000)
    with pytest.raises(StoreError, match="expected a key in PEM, found more than 65536 bytes."):
        load_private_key(tmp_path / "large")
    (tmp_path / "torn").write_bytes(public.read_bytes().replace(b"MCow", b"MDow"))
    with pytest.raises(StoreError, match="found a block that is none. Copy the file again."):
        load_public_keys(tmp_path / "torn")


def test_keys_of_another_kind_are_refused_by_name(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = tmp_path / "ec.pem", tmp_path / "ec.pub.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(StoreError, match="expected a private Ed25519 key, found EC"):
        load_private_key(private)
    with pytest.raises(StoreError, match="expected public Ed25519 keys, found EC"):
        load_public_keys(public)


def test_openssl_accepts_a_signature_with_the_documented_line(
    tmp_path: Path, version: Path
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    public = make_keys(tmp_path / "team.pem")
    sign_manifest(version, load_private_key(tmp_path / "team.pem"))
    command = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", str(public)]
    files = ["-sigfile", "1.sig", "-in", "1/manifest.json"]
    done = subprocess.run(
        [*command, *files], cwd=version.parent, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
