"""What is counted arrives at Prometheus, of one process or of several."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from serving_compare.server.metrics import FOLDER_VARIABLE, Meters

ROOT = Path(__file__).parents[3]


def test_batched_durations_are_those_a_histogram_would_have_counted() -> None:
    meters = Meters()
    for elapsed_ns in (49_999, 50_000, 50_001, 3_000_000, 5_000_000_000):
        meters.observe_model(elapsed_ns, 2)
    meters.flush()
    meters.flush()
    text = meters.format().decode()
    for line in (
        'gatetable_model_seconds_bucket{le="5e-05"} 2.0',
        'gatetable_model_seconds_bucket{le="0.0001"} 3.0',
        'gatetable_model_seconds_bucket{le="0.002"} 3.0',
        'gatetable_model_seconds_bucket{le="0.005"} 4.0',
        'gatetable_model_seconds_bucket{le="1.0"} 4.0',
        'gatetable_model_seconds_bucket{le="+Inf"} 5.0',
        "gatetable_model_seconds_count 5.0",
        "gatetable_model_seconds_sum 5.00315",
        "gatetable_sequences_total 10.0",
    ):
        assert line in text, line


def test_outcomes_are_counted_by_status_and_reason_and_refusals_told_once() -> None:
    meters = Meters()
    meters.count(200)
    meters.count(200)
    meters.count(429, "queue_full")
    assert meters.flush() == {"queue_full": 1}
    assert meters.flush() == {}
    text = meters.format().decode()
    assert 'gatetable_requests_total{reason="",status="200"} 2.0' in text
    assert 'gatetable_requests_total{reason="queue_full",status="429"} 1.0' in text


def test_processes_that_share_a_folder_are_summed(tmp_path: Path) -> None:
    code = (
        "from serving_compare.server.metrics import Meters\n"
        "meters = Meters(); meters.count(200); meters.observe_queue(10)\n"
        "meters.note_version(3, is_swap=True); meters.flush()\n"
        "print(meters.format().decode())"
    )
    texts = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=os.environ | {FOLDER_VARIABLE: str(tmp_path)},
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout
        for _ in range(2)
    ]
    assert 'gatetable_requests_total{reason="",status="200"} 2.0' in texts[1]
    assert "gatetable_queue_seconds_count 2.0" in texts[1]
    assert "gatetable_swaps_total 2.0" in texts[1]
    assert texts[1].count("gatetable_model_version{pid=") == 2
