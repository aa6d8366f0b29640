"""Signatures of an artifact's manifest: Ed25519, detached, 64 bytes.

The manifest names the sha256 of every file, so its signature vouches for the whole artifact. It is
kept beside the version's folder as `<version>.sig`, because a folder holds what its manifest lists
and nothing else. Any tool reads it: docs/s3.md has the line for openssl. Keys are PEM files, the
private one PKCS 8, the public one SubjectPublicKeyInfo; a file may hold several public keys, so
that one can follow another.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from export.bundle import MANIFEST_FILE
from export.store.errors import SignatureError, StoreError
from export.store.files import signature_path, sync_folder, write_whole

PUBLIC_KEY_VARIABLE = "GATETABLE_PUBLIC_KEY"
PublicKey = Ed25519PublicKey
MAX_KEY_FILE_BYTES = 64 * 1024
_PUBLIC_BLOCK = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----\s*", re.DOTALL)


def public_path(private: Path) -> Path:
    """Return where `make_keys` puts the public key: `team.pem` -> `team.pub.pem`."""
    stem = private.name.removesuffix(".pem")
    return private.with_name(f"{stem}.pub.pem")


def make_keys(private: Path) -> Path:
    """Write a new pair of keys, the private one readable by its owner only.

    Args:
        private: File for the private key; the public one goes beside it.

    Returns:
        The public key's file.

    Raises:
        StoreError: One of the two files exists.
    """
    public = public_path(private)
    for path in (private, public):
        if path.exists():
            raise StoreError(f"{path}: expected no file, found one. Choose another name.")
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    handle = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(private.parent)
    public_pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    write_whole(public, public_pem)
    return public


def _read_key_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_KEY_FILE_BYTES + 1)
    except OSError as err:
        raise StoreError(
            f"{path}: expected a key in PEM, found {err.strerror}. Make one with "
            "`python -m export keygen`, or correct the path."
        ) from err
    if len(data) > MAX_KEY_FILE_BYTES:
        raise StoreError(
            f"{path}: expected a key in PEM, found more than {MAX_KEY_FILE_BYTES} bytes. Correct "
            "the path."
        )
    return data


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """Load the key to sign with.

    Raises:
        StoreError: The file is no private Ed25519 key without a password.
    """
    try:
        key = load_pem_private_key(_read_key_file(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as err:
        raise StoreError(
            f"{path}: expected a private Ed25519 key in PEM without a password, found something "
            "else. Make one with `python -m export keygen`."
        ) from err
    if not isinstance(key, Ed25519PrivateKey):
        raise StoreError(
            f"{path}: expected a private Ed25519 key, found {type(key).__name__}. Make one with "
            "`python -m export keygen`."
        )
    return key


def load_public_keys(path: Path) -> tuple[Ed25519PublicKey, ...]:
    """Load the keys whose signatures are accepted, one or more.

    Raises:
        StoreError: The file holds no public Ed25519 key, or something else beside.
    """
    blocks = _PUBLIC_BLOCK.findall(_read_key_file(path))
    keys = []
    for block in blocks:
        try:
            key = load_pem_public_key(block)
        except (ValueError, UnsupportedAlgorithm) as err:
            raise StoreError(
                f"{path}: expected public Ed25519 keys in PEM, found a block that is none. Copy "
                "the file again."
            ) from err
        if not isinstance(key, Ed25519PublicKey):
            raise StoreError(
                f"{path}: expected public Ed25519 keys, found {type(key).__name__}. Give the "
                "file that `python -m export keygen` wrote."
            )
        keys.append(key)
    if not keys:
        raise StoreError(
            f"{path}: expected a public key in PEM, found none. Give the .pub.pem file that "
            "`python -m export keygen` wrote."
        )
    return tuple(keys)


def sign_manifest(version_folder: Path, key: Ed25519PrivateKey) -> bytes:
    """Sign a version's manifest, keep the signature beside its folder, and return it."""
    signature = key.sign((version_folder / MANIFEST_FILE).read_bytes())
    write_whole(signature_path(version_folder), signature)
    return signature


def check_signature(
    manifest: bytes, signature: bytes | None, keys: Sequence[Ed25519PublicKey], place: str
) -> None:
    """Refuse a manifest that none of the keys has signed.

    Args:
        manifest: Bytes of `manifest.json`.
        signature: What lies beside it, None where nothing does.
        keys: Any of them will do.
        place: Of the manifest, for messages.

    Raises:
        SignatureError: The signature is missing or wrong.
    """
    if signature is None:
        raise SignatureError(
            f"{place}: expected a signature, because {PUBLIC_KEY_VARIABLE} or --public-key is "
            "set, found none. Have its publisher upload it with --sign."
        )
    for key in keys:
        try:
            key.verify(signature, manifest)
        except InvalidSignature:
            continue
        return
    raise SignatureError(
        f"{place}: expected the signature of one of {len(keys)} configured key(s), found another "
        "one. Do not use it before its publisher says which key signed it."
    )
