"""Memory that is freed is taken again without asking the system, once glibc was told to."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.allocator import keep_freed_memory

ROUNDS = 10
COUNT = f"""
import resource, sys
import numpy as np
from pipeline.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()

def work():
    arrays = [np.ones(5 * 2**20, np.float32) for _ in range(4)]  # 20 MB each, below the bound
    del arrays

work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({ROUNDS}):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
"""Allocates and frees 80 MB again and again; prints how many pages the system mapped meanwhile."""


def count_faults(kind: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", COUNT, kind],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told anything")
def test_freed_memory_is_not_mapped_anew() -> None:
    assert count_faults("keep") * 10 < count_faults("as it is")


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()
