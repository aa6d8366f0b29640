"""A whole report, made of invented measurements."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.ablation.summary import check_promises, summarise

SPEEDS = {"naive": (1.0, 1.0), "prefetch": (0.8, 0.9), "default": (6.0, 30.0)}


@pytest.fixture
def report() -> dict[str, Any]:
    """Three rungs on two storages, two rounds."""
    latencies = {"local": None, "remote": {"open_ms": 100.0, "read_ms": 10.0}}
    latencies["remote"]["records_per_read"] = 256  # type: ignore[index]
    measurements = [
        {
            "round": number,
            "rung": rung,
            "storage": storage,
            "rows": 2000,
            "first_batch_s": 0.25,
            "first_epoch_s": (1 + number) * cost / first,
            "later_epochs_s": [(1 + number) * cost / later],
            "memory_bytes": 5_000_000,
            "padded_tokens": 16_000,
            "waiting": None
            if number
            else {"steps": 20, "wait_share": 0.01, "step_ms": 50.0, "preloaded_step_ms": 40.0},
        }
        for number in range(2)
        for storage, cost in (("local", 0.1), ("remote", 0.4))
        for rung, (first, later) in SPEEDS.items()
    ]
    summary = summarise(measurements)
    return {
        "schema_version": 1,
        "name": "pets",
        "created_utc": "2026-01-02T03:04:05Z",
        "fingerprint": "0" * 64,
        "train_rows": 5000,
        "sample_rows": 2000,
        "profile": {"name": "full"},
        "seed": 1,
        "model": {},
        "training": {},
        "latencies": latencies,
        "calibration": {
            "local": {"rows": 500, "delay_s": 0.0, "found_s": 0.01},
            "remote": {"rows": 500, "delay_s": 0.13, "found_s": 0.14},
        },
        "machine": {"cpu": "Invented CPU", "cores": 2, "system": "Linux"},
        "versions": {"tensorflow": "2.21.0"},
        "rungs": [
            {"name": rung, "title": f"about {rung}", "base": "alone", "is_per_element": True}
            for rung in SPEEDS
        ],
        "measurements": measurements,
        "summary": summary,
        "promises": check_promises(summary),
        "seconds": 12.5,
    }
