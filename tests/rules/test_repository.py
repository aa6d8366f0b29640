"""The repository keeps its own promises: lock, targets, licences, first lines."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_lock_names_no_address_and_hashes_everything() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in lock
    requirements = re.findall(
        r"^[a-z0-9][^ ]*==.*\\\n((?: +--hash=sha256:[0-9a-f]{64}.*\n)+)", lock, re.M
    )
    pinned = re.findall(r"^[a-zA-Z0-9][a-zA-Z0-9._-]*==", lock, re.M)
    assert len(pinned) == len(requirements) > 50


def test_make_help_names_every_documented_target() -> None:
    done = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    for target in ("data", "train", "tune", "export", "verify", "compare", "bench", "test"):
        assert f"make {target} " in done.stdout


def test_the_dataset_ships_with_its_licence() -> None:
    licence = (ROOT / "data" / "LICENSE.wordnet-3.1.txt").read_text(encoding="utf-8")
    assert "WordNet 3.1 Copyright 2011 by Princeton University" in licence
    assert (ROOT / "data" / "wordnet31.csv.gz").stat().st_size > 2_000_000


def test_every_module_begins_with_a_docstring() -> None:
    for stage in ("pipeline", "export", "serving_compare"):
        for path in (ROOT / stage).rglob("*.py"):
            docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
            assert docstring, path
            assert docstring.splitlines()[0].endswith((".", ":", "?")), path
