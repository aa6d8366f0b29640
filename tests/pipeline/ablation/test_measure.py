"""The whole ladder in child processes, and what a child that fails is reported as."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.ablation.measure import AblationError, Children, measure
from pipeline.ablation.schedule import PROFILES
from pipeline.config import ModelConfig, TrainConfig
from pipeline.data_folder import PreparedData
from pipeline.service.config import is_listening, parse_address


@pytest.mark.slow
def test_the_ladder_is_measured_in_child_processes(prepared: PreparedData, tmp_path: Path) -> None:
    told: list[str] = []
    found = measure(
        prepared,
        rungs=["naive", "default"],
        latencies={"local": None},
        profile=PROFILES["quick"],
        seed=1,
        model=ModelConfig(
            vocab_size=prepared.vocab_size, num_classes=len(prepared.labels), units=4, embed_dim=4
        ),
        training=TrainConfig(batch_size=64),
        scratch=tmp_path,
        advance=lambda what, done, total: told.append(what),
    )
    rounds = {measured["round"] for measured in found["measurements"]}
    assert len(found["measurements"]) == 2 * len(rounds)
    for measured in found["measurements"]:
        assert measured["rows"] == prepared.train.count == found["sample_rows"]
        assert 0 < measured["first_batch_s"] <= measured["first_epoch_s"]
        assert measured["memory_bytes"] > 0
        if measured["round"] == 0:
            assert 0 <= measured["waiting"]["wait_share"] < 1
            assert measured["waiting"]["preloaded_step_ms"] > 0
        else:
            assert measured["waiting"] is None
    assert any(what.startswith("round 1: ") for what in told)
    assert list((tmp_path / "sample").glob("*.tfrecord"))
    assert not (tmp_path / "caches").exists()


@pytest.mark.slow
def test_a_service_ends_with_the_process_that_started_it() -> None:
    code = (
        "import os, signal\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"  # as in the background of a shell
        "from pipeline.ablation.measure import run_service\n"
        "with run_service() as address:\n"
        "    os.write(1, address.encode())\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, timeout=300)
    assert done.returncode == -signal.SIGKILL
    address = parse_address(done.stdout.decode())
    deadline = time.monotonic() + 60
    while is_listening(*address) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not is_listening(*address)


@pytest.mark.slow
def test_a_child_that_dies_or_hangs_is_reported_by_its_rung() -> None:
    children = Children()
    job: dict[str, Any] = {"rung": "naive", "storage": "local", "timeout_s": 60.0}
    with pytest.raises(
        AblationError,
        match="rung naive on local storage: expected a result, found that the process died with "
        "exit code 1. Its output above says why",
    ):
        children.run(job)  # a job without the fields it needs
    with pytest.raises(
        AblationError,
        match="rung naive on local storage: expected a result within 0 s, found none. The machine",
    ):
        children.run({**job, "timeout_s": 0.0})
