"""The rounds with stand-ins for the children: what they are asked, and in which order."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from serving_compare import rounds
from serving_compare.child import ChildJob
from serving_compare.rounds import time_backends
from serving_compare.schedule import PROFILES

CELLS = ("tokens_1", "batch_256", "all_cores_256")


class StandIn:
    """Writes down what it is asked; two samples a slice."""

    log: ClassVar[list[tuple[str, str, int]]] = []

    def __init__(self, job: ChildJob, *, core: int | None) -> None:
        self.job, self.core = job, core
        self.slices: Counter[str] = Counter()
        self._note("start")

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, *_: object) -> None:
        self._note("end")

    def listen(self) -> dict[str, Any]:
        self._note("listen")
        return {}

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        self.say(message)
        return {}

    def say(self, message: dict[str, Any]) -> None:
        self._note(message["do"])
        if message["do"] == "slice":
            self.slices[message["cell"]] += 1
        if message["do"] == "finish":
            assert set(self.slices) == set(self.job.fields["cells"])
            facts = {
                cell: {"inner_loops": 1, "warm_up_calls": 1, "is_warm": True, "slices": [2] * n}
                for cell, n in self.slices.items()
            }
            arrays = {cell: np.arange(2 * n) for cell, n in self.slices.items()}
            np.savez(self.job.output.with_suffix(".npz"), allow_pickle=False, **arrays)
            self.job.output.with_suffix(".json").write_text(json.dumps({"cells": facts}))

    def _note(self, what: str) -> None:
        self.log.append((self.job.fields["backend"], what, self.job.fields["threads"]))


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int]]:
    found: list[Any] = []
    monkeypatch.setattr(StandIn, "log", found)
    monkeypatch.setattr(rounds, "Partner", StandIn)
    monkeypatch.setattr(rounds, "allowed_cores", lambda: [0, 1, 2])
    return found


def run(folder: Path, **changes: Any) -> rounds.Timings:
    profile = replace(PROFILES["quick"], rounds=2, slices=3, all_cores=True)
    return time_backends(
        ["onnx", "lookup"],
        CELLS,
        replace(profile, **changes),
        {},
        seed=1,
        scratch=folder,
        progress=lambda step, share: None,
        began=time.monotonic(),
    )


def test_all_children_of_a_round_live_until_the_last_slice(
    tmp_path: Path, log: list[tuple[str, str, int]]
):
    run(tmp_path, rounds=1, all_cores=False)
    steps = [what for _, what, _ in log]
    # Cold starts one after the other: each is waited for before the next one starts.
    assert steps[:4] == ["start", "listen", "start", "listen"]
    assert steps[4:8] == ["measure_memory"] * 2 + ["prepare"] * 2
    assert steps[8:20] == ["slice"] * 12
    assert steps[20:] == ["finish"] * 2 + ["listen"] * 2 + ["end"] * 2


def test_all_cores_have_children_of_their_own_started_at_once(
    tmp_path: Path, log: list[tuple[str, str, int]]
):
    timings = run(tmp_path, rounds=1)
    wide = [what for _, what, threads in log if threads == 3]
    assert wide[:4] == ["start", "start", "listen", "listen"]
    # Half as many slices: each is long.
    assert [what for what in wide if what == "slice"] == ["slice"] * 2
    alone = [process for process in timings.processes if process["threads"] == 1]
    assert [set(process["cells"]) for process in alone] == [{"tokens_1", "batch_256"}] * 2
    assert {key for key in timings.samples if key[2] == "all_cores_256"} == {
        (0, "onnx", "all_cores_256"),
        (0, "lookup", "all_cores_256"),
    }


def test_one_core_alone_has_no_all_cores_row(
    tmp_path: Path, log: list[tuple[str, str, int]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rounds, "allowed_cores", lambda: [0])
    assert {cell for _, _, cell in run(tmp_path).samples} == {"tokens_1", "batch_256"}


def test_every_round_has_fresh_children_and_all_slices(
    tmp_path: Path, log: list[tuple[str, str, int]]
):
    timings = run(tmp_path)
    assert {number for number, _, _ in timings.samples} == {0, 1}
    assert len([what for _, what, _ in log if what == "start"]) == 8
    counts = {cell: len(array) for (_, _, cell), array in timings.samples.items()}
    assert counts == {"tokens_1": 6, "batch_256": 6, "all_cores_256": 2}
    assert {p["position"] for p in timings.processes} == {0, 1}


def test_rounds_end_with_the_time(tmp_path: Path, log: list[tuple[str, str, int]]):
    timings = run(tmp_path, max_duration_s=0.0)
    assert {number for number, _, _ in timings.samples} == {0}
