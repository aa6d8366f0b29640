"""The README is true: its code runs, its table is the report's, its links lead somewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GOLDEN = ROOT / "tests" / "golden" / "v2"


def test_the_python_code_runs_beside_a_copied_lookup_folder(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    shutil.copytree(GOLDEN / "lookup", tmp_path / "lookup")
    done = subprocess.run(
        [sys.executable, "-I", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_the_result_table_is_that_of_the_committed_report() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate_readme.py"), "--check"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_every_link_leads_to_a_file() -> None:
    documents = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    for document in documents:
        if "node_modules" in document.parts:  # what npm installed for docs/loaders
            continue
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document}: {target}"


def test_the_commands_it_shows_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:^|[`&\s])make ([a-z-]+)", README):
        assert re.search(rf"^{target}:", makefile, re.M), f"make {target}"
