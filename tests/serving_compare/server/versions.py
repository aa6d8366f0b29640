"""Publishes the golden artifact as one version after another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.serving_compare.server.running import GOLDEN


def add_version(folder: Path, version: int, *, damaged: str | None = None) -> Path:
    """Publish a version in `folder` and let `latest` name it; `damaged` is a file to spoil."""
    partial = folder / f".partial-{version}"
    shutil.copytree(GOLDEN, partial)
    manifest = json.loads((partial / "manifest.json").read_text())
    (partial / "manifest.json").write_text(json.dumps(manifest | {"version": version}))
    if damaged is not None:
        content = bytearray((partial / damaged).read_bytes())
        content[-1] ^= 1
        (partial / damaged).write_bytes(content)
    published = partial.rename(folder / str(version))
    latest = folder / ".latest.partial"
    latest.write_text(f"{version}\n")
    latest.replace(folder / "latest")
    return published
