from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from serving_compare.bench.summary import build_bench
from serving_compare.bench.targets import list_targets
from serving_compare.results import Results

MakeParts = Callable[..., dict[str, Results]]
MakeBench = Callable[..., dict[str, Any]]


def find(bench: dict[str, Any], name: str) -> dict[str, Any]:
    (target,) = [target for target in list_targets(bench) if target["name"] == name]
    return target


def test_a_ratio_that_reaches_its_target_holds(make_bench: MakeBench):
    bench = make_bench()
    target = find(bench, "H=128, 20 tokens: float32 against onnx")
    assert target["value"] == pytest.approx(3.04, rel=1e-3)  # against the static form
    assert (target["held"], target["decided"], target["target"]) == ("yes", True, 3.0)


def test_a_ratio_below_its_target_does_not_hold(make_bench: MakeBench):
    target = find(make_bench(), "H=128, 20 tokens: lookup native int16 against onnx")
    assert target["value"] == pytest.approx(4.90, rel=1e-3)
    assert (target["held"], target["decided"]) == ("no", True)


def test_bulk_is_held_against_the_rivals_best_way(make_bench: MakeBench):
    bench = make_bench()
    assert find(bench, "H=128, batch 256: float32 against onnx")["value"] == pytest.approx(3.0)
    assert find(bench, "H=128, batch 256: float32 against saved_model")["held"] == "yes"


def test_the_floor_is_a_share_to_be_reached(make_bench: MakeBench):
    target = find(
        make_bench(),
        "H=128: share of a float32 step that reading and gates explain",
    )
    assert target["value"] == pytest.approx(1.0, rel=1e-3)
    assert (target["held"], target["unit"]) == ("yes", "")


def test_without_avx512_the_kernels_promises_are_told_but_neither_hold_nor_fail(
    make_parts: MakeParts,
):
    parts = make_parts()
    bench = build_bench(parts)
    bench["machine"] = bench["machine"] | {"flags": ["avx2"]}
    target = find(bench, "H=128, 20 tokens: float32 against onnx")
    assert target["held"] == "not measurable here"
    assert target["reason"] == "this CPU has no AVX-512"
    assert target["value"] == pytest.approx(3.04, rel=1e-3)
    assert find(bench, "Text to top 3: lookup native against onnx")["held"] == "yes"


def test_limits_are_not_to_be_exceeded(make_bench: MakeBench):
    bench = make_bench()
    start = find(bench, "Cold start to the first answer, text in")
    assert (start["value"], start["target"], start["held"]) == (100.0, 120.0, "yes")
    memory = find(bench, "Memory beyond interpreter and NumPy, ids in")
    assert (memory["value"], memory["held"], memory["is_limit"]) == (35.0, "yes", True)
    bench["cold_start"]["ids"]["lookup native"]["total_ms"]["median"] = 121.0
    assert find(bench, "Cold start to the first answer, ids in")["held"] == "no"


def test_an_interval_on_both_sides_of_the_target_decides_nothing(make_bench: MakeBench):
    bench = make_bench()
    row = bench["models"]["128"]["warm"]["20"]["speedups"]["lookup native avx512"]
    row["onnx static"] = row["onnx static"] | {"ratio": 3.1, "ci95": [2.9, 3.3]}
    target = find(bench, "H=128, 20 tokens: float32 against onnx")
    assert (target["held"], target["decided"]) == ("yes", False)


def test_what_was_not_run_is_not_measured_and_says_why(make_parts: MakeParts):
    parts = make_parts()
    bench = build_bench({"model-128": parts["model-128"]})
    assert (
        find(bench, "H=256, 20 tokens: float32 against onnx")["reason"] == "no model with 256 units"
    )
    assert find(bench, "H=128, 2 tokens: float32 against onnx")["reason"] == (
        "not among the sizes of this run"
    )  # fmt: skip
    assert find(bench, "Text to top 3: lookup native against onnx")["reason"] == "no artifact"
    bench["models"]["128"]["float32"] = None
    bench["models"]["128"]["unavailable"]["lookup native portable"] = (
        "the native engine is not built"
    )
    target = find(bench, "H=128, 20 tokens: float32 against onnx")
    assert (target["held"], target["reason"]) == ("not measured", "the native engine is not built")
