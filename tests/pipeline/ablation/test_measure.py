"""The order of the children, when rounds end, and what a child that fails is reported as."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ablation.measure import (
    PROFILES,
    AblationError,
    Children,
    is_round_due,
    make_round,
    measure,
)
from pipeline.config import ModelConfig, TrainConfig
from pipeline.data_folder import PreparedData
from pipeline.service_config import is_listening, parse_address


@given(
    st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1),
    st.integers(0, 5),
    st.integers(0, 99),
)
def test_a_round_is_every_rung_on_every_storage_once(
    rungs: list[str], number: int, seed: int
) -> None:
    tasks = make_round(rungs, ["local", "remote"], number=number, seed=seed)
    assert Counter((task.rung, task.storage) for task in tasks) == Counter(
        (rung, storage) for rung in rungs for storage in ("local", "remote")
    )
    assert tasks == make_round(rungs, ["local", "remote"], number=number, seed=seed)


def test_rounds_and_seeds_differ_in_order() -> None:
    rungs = list("abcdefgh")
    orders = {
        tuple(task.rung for task in make_round(rungs, ["local"], number=number, seed=seed))
        for number, seed in ((0, 1), (1, 1), (0, 2))
    }
    assert len(orders) == 3


@pytest.mark.parametrize(
    ("elapsed_s", "rounds_s", "expected"),
    [
        (9999.0, [], True),
        (9999.0, [5000.0], True),  # a verdict needs two rounds
        (300.0, [150.0, 100.0], True),
        (480.0, [150.0, 100.0], False),
        (50.0, [10.0] * 5, False),
    ],
)
def test_a_further_round_is_begun_only_where_it_likely_ends_in_time(
    elapsed_s: float, rounds_s: list[float], expected: bool
) -> None:
    found = is_round_due(PROFILES["full"], elapsed_s=elapsed_s, rounds_s=rounds_s)
    assert found is expected


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
