"""A worker process never outlives the process that started it."""

from __future__ import annotations

import subprocess
import sys


def test_a_worker_ends_when_its_stdin_closes() -> None:
    """Even while it still imports TensorFlow; nothing listens at the dispatcher's address."""
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline.service.worker", "127.0.0.1:1", "127.0.0.1:2"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as worker:
        output, _ = worker.communicate(timeout=60)
    assert (worker.returncode, output) == (0, b"")
