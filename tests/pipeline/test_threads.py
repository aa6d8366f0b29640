"""Threads: the cores are shared between the directions, and what runs already is left alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os
os.sched_getaffinity = lambda process: set(range({cores}))
import tensorflow as tf
from pipeline.threads import share_threads
share_threads({directions})
print("threads", tf.config.threading.get_intra_op_parallelism_threads())
tf.zeros(1)
share_threads(1)
print("threads", tf.config.threading.get_intra_op_parallelism_threads())
"""


@pytest.mark.slow
@pytest.mark.parametrize(("cores", "directions", "threads"), [(8, 2, 4), (8, 1, 8), (1, 2, 1)])
def test_each_direction_gets_its_share_until_tensorflow_has_started(
    cores: int, directions: int, threads: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(cores=cores, directions=directions)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    said = [line for line in done.stdout.splitlines() if line.startswith("threads")]
    assert said == [f"threads {threads}"] * 2, done.stderr[-2000:]
