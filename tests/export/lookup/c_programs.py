"""Compiling C programs against gatetable.c, for tests.

CFLAGS in the environment replaces -O0, so that the same tests run under sanitizers:

    CFLAGS="-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all" GATETABLE_ISA=avx2 \
        python -m pytest tests/export/lookup/test_c_api.py tests/export/lookup/test_c_reader.py
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[3]
KERNEL = ROOT / "export" / "lookup" / "kernel"
EXAMPLES = ROOT / "docs" / "examples" / "c"
DRIVER = Path(__file__).parent / "c" / "open_folders.c"
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")
COMPILER = shutil.which("cc")
CPP_COMPILER = shutil.which("c++")


def flags() -> list[str]:
    """Return how programs are compiled: unoptimised, unless CFLAGS says otherwise."""
    return shlex.split(os.environ.get("CFLAGS", "-O0"))


def compile_c(
    program: Path, *sources: Path, compiler: str | None = COMPILER, options: Sequence[str] = ()
) -> Path:
    """Compile and link sources and objects and return the program."""
    assert compiler is not None  # tests without one were skipped
    subprocess.run(
        [compiler, *flags(), *options, f"-I{KERNEL}", *sources, "-o", program, "-lm"], check=True
    )
    return program


def run_c(program: Path, *arguments: object, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program on a text and return what it printed, newlines as they are."""
    done = subprocess.run(
        [program, *map(str, arguments)], input=text.encode(), capture_output=True, timeout=300
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


OK, IO, FORMAT, VERSION = "0", "2", "3", "4"
"""What `open_folders.c` prints for a `gt_status`."""
REMEDY = " Copy the artifact again, or export the run again."
