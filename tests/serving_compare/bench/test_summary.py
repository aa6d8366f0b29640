from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from serving_compare.bench.summary import build_bench
from serving_compare.results import Results

MakeParts = Callable[..., dict[str, Results]]
MakeBench = Callable[..., dict[str, Any]]


def test_a_cell_has_the_median_of_a_call_however_many_calls_made_a_sample(make_bench: MakeBench):
    cell = make_bench()["models"]["128"]["warm"]["20"]["forms"]["onnx"]
    assert cell["median_us"] == pytest.approx(82.0, rel=0.01)  # the third of 80.0, 80.8 ... 84.0
    assert cell["n"] == 18
    assert cell["processes"] == 6
    assert cell["stable"]


def test_speedups_are_the_rivals_time_over_ours_paired_by_process(make_bench: MakeBench):
    row = make_bench()["models"]["128"]["warm"]["20"]
    found = row["speedups"]["lookup native avx512"]["saved_model"]
    assert found["ratio"] == pytest.approx(52.0, rel=1e-3)
    # Each process is 1 % slower than the one before, and so are both: the ratio stands still.
    assert found["ci95"] == [pytest.approx(52.0, rel=1e-3)] * 2
    assert found["claimed"]
    assert "null" not in row["speedups"]["lookup native avx512"]
    assert "lookup numpy" not in row["speedups"]["lookup native avx512"]


def test_the_best_onnx_form_is_chosen_row_by_row(make_bench: MakeBench):
    model = make_bench()["models"]["128"]
    assert model["warm"]["20"]["best"] == {"onnx": "onnx static"}
    assert model["cold"]["20"]["best"] == {"onnx": "onnx"}
    assert model["bulk"]["256"]["best"] == {
        "onnx": "onnx sorted 8",
        "saved_model": "saved_model whole",
    }


def test_sequences_a_second_follow_from_the_time_of_a_batch(make_bench: MakeBench):
    forms = make_bench(2)["models"]["128"]["bulk"]["256"]["forms"]
    assert forms["lookup native avx512"]["sequences_per_s"] == pytest.approx(100_000, rel=0.01)
    assert list(forms) == ["lookup native avx512", "lookup native int16", "lookup numpy",
                           "onnx whole", "onnx sorted 8", "saved_model whole"]  # fmt: skip


def test_a_step_is_the_slope_between_1_and_20_tokens_and_its_floor_reading_and_gates(
    make_bench: MakeBench,
):
    steps = make_bench()["models"]["128"]["steps"]
    exact, int16 = steps["lookup native avx512"], steps["lookup native int16"]
    assert exact["step_ns"] == pytest.approx(1020, rel=0.01)
    assert exact["read_ns"] == pytest.approx(918, rel=0.01)
    assert exact["floor_share"]["ratio"] == pytest.approx(1.0, rel=1e-3)
    assert int16["weights"] == "int16"
    assert int16["floor_share"]["ratio"] == pytest.approx(1.0, rel=1e-3)


def test_without_both_lengths_there_is_no_step(make_parts: MakeParts):
    parts = make_parts()
    profile = parts["model-128"].settings["profile"]
    profile["lengths"] = [20]
    for process in parts["model-128"].processes:
        process["cells"] = {cell: v for cell, v in process["cells"].items() if cell != "warm_1"}
    assert build_bench(parts)["models"]["128"]["steps"] == {}


def test_memory_is_told_beyond_that_of_null_in_the_same_round(make_bench: MakeBench):
    starts = make_bench()["cold_start"]["text"]
    assert starts["lookup native"]["beyond_null_bytes"]["median"] == 35e6
    assert starts["lookup native"]["total_ms"]["median"] == 100
    assert starts["null"]["beyond_null_bytes"]["median"] == 0


def test_without_an_artifact_texts_and_cold_starts_are_none(make_parts: MakeParts):
    bench = build_bench({"model-128": make_parts()["model-128"]})
    assert bench["text"] is None
    assert bench["cold_start"] is None


def test_one_process_gives_no_interval_and_no_claim(make_bench: MakeBench):
    row = make_bench(1)["models"]["128"]["warm"]["20"]
    assert row["forms"]["onnx"]["ci95"] is None
    assert not row["forms"]["onnx"]["stable"]
    found = row["speedups"]["lookup native avx512"]["onnx"]
    assert (found["ci95"], found["claimed"]) == (None, False)
