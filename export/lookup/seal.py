"""The checksum that a manifest holds of itself, `manifest_sha256`.

It is the sha256 of the file's own bytes with 64 zeros in its place: of bytes, so that any language
can check it without writing numbers as Python does. An artifact's manifest is sealed by the same
rule in `export/bundle.py`, which does without this package because that would load NumPy.
"""

from __future__ import annotations

import hashlib

SEAL_KEY = "manifest_sha256"
BLANK = "0" * 64
"""Stands for the checksum while it is computed."""


def seal_text(text: str) -> str:
    """Put its checksum into the text of a manifest.

    Args:
        text: JSON with the member `"manifest_sha256": BLANK`, spelled so.
    """
    digest = hashlib.sha256(text.encode()).hexdigest()
    # Unescaped quotes: no string in a manifest can hold this text.
    return text.replace(f'"{SEAL_KEY}": "{BLANK}"', f'"{SEAL_KEY}": "{digest}"', 1)


def hash_sealed(data: bytes, digest: str) -> str:
    """Return the checksum of a sealed manifest, equal to `digest`, which it holds, if it is sound.

    Args:
        data: The file's bytes.
        digest: Its value of `manifest_sha256`, 64 lower-case hex digits.
    """
    blank = data.replace(f'"{digest}"'.encode(), f'"{BLANK}"'.encode(), 1)
    return hashlib.sha256(blank).hexdigest()
