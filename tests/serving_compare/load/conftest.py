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
from serving_compare.load.results import SEARCH, Http, Probe, RoundCapacity


@pytest.fixture(scope="session")
def toy_port() -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("toy_server.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
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


US = 1000
RATES = {"onnx": 1000.0, "lookup": 2000.0, "null": 4000.0}
US = 1000


@pytest.fixture(scope="session")
def http(make_recording: MakeRecording) -> Http:
    """Six rounds: lookup answers in 300 µs, onnx in 500, null in 250; rates as above."""
    latency_us = {"onnx": 500, "lookup": 300, "null": 250}
    probes, capacities = [], []
    for backend, rate in RATES.items():
        latency = latency_us[backend] * US
        probes.append(
            Probe(
                backend=backend,
                round=SEARCH,
                kind="server",
                rate_per_s=rate / 2,
                recording=make_recording(latency, count=900),
            )
        )
        capacities.append(
            RoundCapacity(backend=backend, round=SEARCH, rate_per_s=1.0, limited_by="errors")
        )
        for number in range(6):
            shift = number * US  # rounds differ by a µs
            for kind, scale, probe_rate in (
                ("single_stream", 1, None),
                ("offline", 10, None),
                ("server", 2, rate),
            ):
                probes.append(
                    Probe(
                        backend=backend,
                        round=number,
                        kind=kind,  # type: ignore[arg-type]
                        rate_per_s=probe_rate,
                        recording=make_recording(scale * latency + shift, count=200),
                    )
                )
            capacities.append(
                RoundCapacity(
                    backend=backend,
                    round=number,
                    rate_per_s=rate * (1 + 0.01 * number),
                    limited_by="slo",
                )
            )
    return Http(
        settings={
            "slo_p99_ms": 10.0,
            "workers": 1,
            "server_cores": [1],
            "generator_cores": [0],
            "seed": 1,
            "duration_s": 2.5,
            "batch_size": 64,
            "texts": 256,
        },
        backends=list(RATES),
        in_process={"onnx": {"median_us": 200.0, "n": 10}, "lookup": {"median_us": 30.0, "n": 10}},
        outside={"lookup": {"tool": "wrk 4.1.0"}},
        outside_reason=None,
        capacities=capacities,
        probes=probes,
    )
