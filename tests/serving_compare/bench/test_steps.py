from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from serving_compare.bench.forms import OWN_FORMS, FormFiles
from serving_compare.bench.models import compute_reference, draw_rows, read_weights
from serving_compare.bench.steps import (
    FLOOR_SAMPLES,
    ask_all,
    list_floors,
    measure_floor,
    measure_lengths,
    weight_bytes,
)

from .conftest import UNITS, VOCAB, needs_native

JOB: dict[str, Any] = {
    "vocab_size": VOCAB,
    "units": UNITS,
    "lengths": [1, 3],
    "cold_lengths": [3],
    "cold_samples": 2,
    "limits": {"blocks": 2, "warm_up_s": 0.0, "min_passes": 1, "duration_s": 0.0},
    "data_seed": 1,
}


def measure(names: list[str], files: FormFiles) -> dict[tuple[str, str], Any]:
    forms = {name: OWN_FORMS[name](files) for name in names}
    random = np.random.default_rng(0)
    measured = measure_lengths(forms, JOB, random=random, timer_cost_ns=50)
    return {(name, cell): samples for name, cell, samples in measured}


def test_every_form_is_timed_at_every_length_warm_and_some_cold(untrained: FormFiles):
    measured = measure(["lookup numpy", "onnx static", "null"], untrained)
    assert set(measured) == {
        (name, cell)
        for name in ("lookup numpy", "onnx static", "null")
        for cell in ("warm_1", "warm_3", "cold_3")
    }
    assert measured["onnx static", "warm_3"].inner_loops == 8
    assert len(measured["onnx static", "cold_3"].elapsed_ns) == 2


@needs_native
def test_beside_a_native_form_the_floor_is_measured(untrained: FormFiles):
    measured = measure(["lookup native portable"], untrained)
    floors = {name: samples for (name, cell), samples in measured.items() if cell == "step"}
    assert sorted(floors) == sorted(list_floors())
    for samples in floors.values():
        assert len(samples.elapsed_ns) == 2 * FLOOR_SAMPLES  # behind each of two rows
        assert (samples.elapsed_ns > 0).all()


@needs_native
def test_more_bytes_take_longer_to_read_and_more_units_longer_to_gate():
    small, large = (
        {name: float(np.median(samples.elapsed_ns)) / samples.inner_loops
         for name, samples in measure_floor(units)}
        for units in (32, 512)
    )  # fmt: skip
    assert small["read float32"] < large["read float32"]
    assert small["gates"] < large["gates"]


@pytest.mark.parametrize(
    ("dtype", "expected"), [("float32", 196_608), ("int16", 98_304), ("int8", 49_152)]
)
def test_a_step_reads_all_recurrent_weights(dtype: str, expected: int):
    assert weight_bytes(128, dtype) == expected


def test_answers_come_in_the_order_of_the_lengths(untrained: FormFiles):
    form = OWN_FORMS["onnx io_binding"](untrained)
    ((name, answers),) = ask_all({"onnx io_binding": form}, JOB)
    weights = read_weights(untrained.path("weights.npz"))
    rows = draw_rows(VOCAB, JOB["lengths"], count=8, seed=1)
    expected = np.concatenate([compute_reference(weights, rows[length]) for length in (1, 3)])
    assert name == "onnx io_binding"
    assert np.abs(np.log(answers) - expected).max() < 1e-6
