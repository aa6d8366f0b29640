"""A server of known behaviour in a process of its own, and recordings made up from latencies."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving_compare.load.recording import Recording


@pytest.fixture(scope="session")
def toy_port() -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("toy_server.py"))],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


MakeRecording = Callable[..., Recording]


@pytest.fixture(scope="session")
def make_recording() -> MakeRecording:
    """A recording of requests due every ms, in ns, unless said otherwise."""

    def make(
        latency_ns: Sequence[int] | int = 300_000,
        *,
        count: int = 2000,
        status: Sequence[int] | int = 200,
        lag_ns: int = 1000,
        **changes: Any,
    ) -> Recording:
        size = count if isinstance(latency_ns, int) else len(latency_ns)
        scheduled = np.arange(size, dtype=np.int64) * 1_000_000
        arrays = {
            "scheduled_ns": scheduled,
            "available_ns": scheduled,
            "sent_ns": scheduled + lag_ns,
            "first_ns": scheduled + np.asarray(latency_ns, np.int64),
            "last_ns": scheduled + np.asarray(latency_ns, np.int64),
            "status": np.broadcast_to(np.asarray(status, np.int64), (size,)).copy(),
            "connection": np.zeros(size, np.int64),
        }
        return Recording(**({"start_ns": 0, **arrays} | changes))

    return make
