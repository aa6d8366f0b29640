"""Figures of the training bench: medians, ratios by round, promises, failed children."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from pipeline.training_bench import measure
from pipeline.training_bench.contenders import CONTENDERS, DEFAULT, EAGER, FIT

FIGURES = {"step_ms": 2.0, "cpu_ms": 3.0, "start_s": 4.0, "peak_bytes": 5, "padded_tokens": 6.0}


def entry(contender: str, round_number: int, rate: float, plan: str | None = None) -> Any:
    return {
        "contender": contender,
        "round": round_number,
        "examples_per_s": rate,
        "plan": plan,
        **FIGURES,
    }


ROUNDS = [
    *(entry(FIT, 0, 100.0), entry(DEFAULT, 0, 200.0, "XLA: off"), entry(EAGER, 0, 10.0)),
    *(entry(DEFAULT, 1, 150.0, "XLA: off"), entry(EAGER, 1, 10.0), entry(FIT, 1, 50.0)),
    *(entry(EAGER, 2, 20.0), entry(FIT, 2, 100.0), entry(DEFAULT, 2, 140.0, "XLA: off")),
]


def test_a_ratio_compares_processes_of_one_round() -> None:
    summary = {found["contender"]: found for found in measure.summarise(ROUNDS)}
    assert list(summary) == [EAGER, FIT, DEFAULT]  # slowest first
    assert summary[DEFAULT]["examples_per_s"] == 150.0
    ratio = summary[DEFAULT]["ratios"][FIT]
    assert (ratio["median"], ratio["low"], ratio["high"]) == (2.0, 1.4, 3.0)
    assert summary[DEFAULT]["plan"] == "XLA: off"
    assert summary[FIT]["plan"] is None


def test_promises_are_held_by_the_median_and_only_where_measured() -> None:
    found = measure.check_promises(measure.summarise(ROUNDS))
    assert [(promise["found"], promise["is_held"]) for promise in found] == [
        ("2.00x", True),
        ("15.00x", True),
    ]
    slow = [entry(FIT, 0, 100.0), entry(DEFAULT, 0, 149.0)]
    (promise,) = measure.check_promises(measure.summarise(slow))
    assert not promise["is_held"]
    assert measure.check_promises(measure.summarise([entry(FIT, 0, 1.0)])) == []


def test_the_default_may_not_buy_its_speed_with_accuracy() -> None:
    def trained(name: str, top_1: float) -> Any:
        return {"contender": name, "top_1": top_1, "top_k": 0.9, "wall_s": 1.0}

    (promise,) = measure.check_promises([], [trained(FIT, 0.80), trained(DEFAULT, 0.797)])
    assert (promise["found"], promise["is_held"]) == ("-0.30 points", True)
    (promise,) = measure.check_promises([], [trained(FIT, 0.80), trained(DEFAULT, 0.794)])
    assert (promise["found"], promise["is_held"]) == ("-0.60 points", False)
    assert measure.check_promises([], [trained(DEFAULT, 0.8)]) == []


def test_a_name_is_a_contenders_own() -> None:
    assert all(name == contender.name for name, contender in CONTENDERS.items())
    assert {EAGER, FIT, DEFAULT} <= set(CONTENDERS)


def test_a_child_that_fails_or_hangs_is_told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        measure.TrainingBenchError,
        match=r"contender layer: expected a result, found exit code 1: KeyError: 'data' Leave it",
    ):
        fail = ["-c", "raise KeyError('data')"]
        real = subprocess.run
        monkeypatch.setattr(
            subprocess, "run", lambda command, **options: real([command[0], *fail], **options)
        )
        measure.run_child({"contender": "layer", "timeout_s": 60.0})
    monkeypatch.undo()
    with pytest.raises(
        measure.TrainingBenchError, match=r"contender layer: expected a result within 0\.01 s, fou"
    ):
        measure.run_child({"contender": "layer", "timeout_s": 0.01})
