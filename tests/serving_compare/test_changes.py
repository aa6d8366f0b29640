from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest

from serving_compare.changes import (
    Change,
    Estimate,
    divide,
    find_drift,
    find_middle,
    judge,
    list_amount_changes,
    list_common_backends,
    list_http_changes,
    list_time_changes,
)
from serving_compare.report import build_report
from serving_compare.results import Results

MakeResults = Callable[..., Results]
BASE_NS = {"saved_model": 1_000_000, "onnx": 40_000, "lookup": 50_000}


@pytest.fixture
def report_of(make_results: MakeResults) -> Callable[..., dict[str, Any]]:
    """A report whose backends take `factor` times the usual; rounds wobble by 1 %."""

    def make(rounds: int = 6, **factors: float) -> dict[str, Any]:
        names = factors.pop("names", None) or BASE_NS
        common = factors.pop("all", 1.0)
        medians = {
            name: [
                int(BASE_NS[name] * common * factors.get(name, 1.0) * (1 + 0.01 * (r % 3)))
                for r in range(rounds)
            ]
            for name in names  # type: ignore[union-attr]
        }
        return build_report(make_results(medians))

    return make


def verdicts(changes: list[Change]) -> dict[str, set[str | None]]:
    found: dict[str, set[str | None]] = {}
    for change in changes:
        found.setdefault(change.backend, set()).add(change.verdict)
    return found


def test_an_interval_of_a_quotient_is_wider_than_that_of_each_side():
    new = Estimate(ratio=2.0, ci95=(1.8, 2.2))
    old = Estimate(ratio=1.0, ci95=(0.9, 1.1))
    found = divide(new, old)
    assert found.ratio == pytest.approx(2)
    assert found.ci95 is not None
    low = math.hypot(math.log(2 / 1.8), math.log(1.1))
    assert found.ci95[0] == pytest.approx(2 * math.exp(-low))
    assert found.ci95[0] < 1.8
    assert found.ci95[1] > 2.2


def test_a_side_without_an_interval_leaves_the_quotient_without():
    known = Estimate(ratio=1.0, ci95=(0.9, 1.1))
    assert divide(Estimate(ratio=3.0, ci95=None), known) == Estimate(ratio=3.0, ci95=None)
    touching_zero = Estimate(ratio=3.0, ci95=(0.0, 5.0))
    assert divide(touching_zero, known).ci95 is None


def test_the_middle_of_two_is_the_more_cautious_one():
    low, high = (Estimate(ratio=r, ci95=(0.9 * r, 1.1 * r)) for r in (1.0, 4.0))
    middle = find_middle([high, low])
    assert middle is not None
    assert middle.ratio == pytest.approx(2)
    assert middle.ci95 == pytest.approx((0.9, 4.4))
    assert find_middle([]) is None
    unknown = find_middle([low, Estimate(ratio=4.0, ci95=None)])
    assert unknown is not None
    assert unknown.ci95 is None


def test_a_change_counts_where_its_whole_interval_lies_beyond_the_least_effect():
    assert judge(Estimate(ratio=1.2, ci95=(1.11, 1.3))) == "worse"
    assert judge(Estimate(ratio=1.2, ci95=(1.09, 1.3))) is None
    assert judge(Estimate(ratio=0.8, ci95=(0.7, 0.9))) == "better"
    assert judge(Estimate(ratio=9.0, ci95=None)) is None
    assert judge(None) is None


def test_a_report_against_itself_has_changed_in_nothing(
    report_of: Callable[..., dict[str, Any]], http_section: dict[str, Any]
):
    report = report_of() | {"http": http_section}
    changes = [
        *list_time_changes(report, report),
        *list_http_changes(report, report, drift=1.0),
        *list_amount_changes(report, report),
    ]
    assert len(changes) == 6 * 3 + 3 * 4 + 3 * 4
    assert {change.own.ratio for change in changes} == {1.0}
    assert {change.verdict for change in changes} == {None}


def test_a_slowed_backend_is_worse_in_every_cell_and_no_other_is(
    report_of: Callable[..., dict[str, Any]],
):
    changes = list_time_changes(report_of(), report_of(lookup=1.5))
    assert verdicts(changes) == {"saved_model": {None}, "onnx": {None}, "lookup": {"worse"}}
    worse = [change for change in changes if change.verdict == "worse"]
    assert worse[0].beside is not None
    assert worse[0].beside.ratio == pytest.approx(1.5, rel=0.01)


def test_a_slower_machine_is_a_drift_and_nobodys_fault(
    report_of: Callable[..., dict[str, Any]],
):
    changes = list_time_changes(report_of(), report_of(all=1.4))
    assert verdicts(changes) == {name: {None} for name in BASE_NS}
    assert find_drift(changes) == pytest.approx(1.4, rel=0.01)


def test_a_slowed_backend_is_found_on_a_machine_that_became_faster(
    report_of: Callable[..., dict[str, Any]],
):
    changes = list_time_changes(report_of(), report_of(all=0.6, onnx=1.5))
    assert "worse" in verdicts(changes)["onnx"]
    assert verdicts(changes)["lookup"] == {None}


def test_of_two_backends_only_the_one_that_took_longer_is_worse(
    report_of: Callable[..., dict[str, Any]],
):
    names = ("onnx", "lookup")
    changes = list_time_changes(report_of(names=names), report_of(names=names, lookup=1.5))
    assert "worse" in verdicts(changes)["lookup"]
    assert verdicts(changes)["onnx"] == {None}


def test_a_backend_alone_is_judged_by_its_own_time(report_of: Callable[..., dict[str, Any]]):
    names = ("lookup",)
    changes = list_time_changes(report_of(names=names), report_of(names=names, lookup=0.5))
    assert "better" in verdicts(changes)["lookup"]
    assert {change.beside for change in changes} == {None}


def test_fewer_than_six_rounds_judge_nothing(report_of: Callable[..., dict[str, Any]]):
    changes = list_time_changes(report_of(), report_of(rounds=3, lookup=9.0))
    assert {change.verdict for change in changes} == {None}


def test_a_wobble_wider_than_the_effect_is_no_change(make_results: MakeResults):
    steady = build_report(make_results({"onnx": [1000] * 6, "lookup": [1000] * 6}))
    rough = build_report(
        make_results({"onnx": [1000] * 6, "lookup": [700, 1900, 800, 1800, 900, 1500]})
    )
    assert {change.verdict for change in list_time_changes(steady, rough)} == {None}


def test_over_http_a_slower_server_is_worse_for_every_backend(http_section: dict[str, Any]):
    old = {"http": http_section}
    new = {"http": copy.deepcopy(http_section)}
    for found in new["http"]["backends"].values():
        single = found["single_stream"]
        single["median_us"] *= 1.5
        single["ci95"] = [1.5 * value for value in single["ci95"]]
    changes = list_http_changes(old, new, drift=1.0)
    worse = {(c.what, c.backend) for c in changes if c.verdict == "worse"}
    assert worse == {("one request over HTTP", name) for name in http_section["backends"]}
    # A machine that is slower by as much explains it.
    assert {c.verdict for c in list_http_changes(old, new, drift=1.5)} == {None}


def test_a_lower_rate_is_worse_and_none_at_all_is_worst(http_section: dict[str, Any]):
    new = copy.deepcopy(http_section)
    server = new["backends"]["lookup"]["server"]
    server.update(max_rate_per_s=1200.0, ci95=[1150.0, 1250.0])
    new["backends"]["onnx"]["server"].update(max_rate_per_s=0.0, ci95=[0.0, 0.0])
    changes = list_http_changes({"http": http_section}, {"http": new}, drift=1.0)
    worse = {c.backend: c.own.ratio for c in changes if c.verdict == "worse"}
    assert worse == {"lookup": pytest.approx(2), "onnx": math.inf}
    new["backends"]["onnx"]["server"]["limited_by"] = "generator"
    changes = list_http_changes({"http": http_section}, {"http": new}, drift=1.0)
    assert {c.backend for c in changes if c.verdict == "worse"} == {"lookup"}


def test_http_on_one_side_only_is_not_compared(http_section: dict[str, Any]):
    assert list_http_changes({"http": None}, {"http": http_section}, drift=1.0) == []
    assert list_http_changes({"http": http_section}, {}, drift=1.0) == []


def test_sizes_memory_and_accuracy_are_judged_by_themselves(
    report_of: Callable[..., dict[str, Any]],
):
    old, new = report_of(), report_of()
    lookup = new["backends"]["lookup"]
    lookup["size"]["ids_bytes"] *= 1.02
    lookup["accuracy"] = {**lookup["accuracy"], "top_1": 0.7985}
    onnx = new["backends"]["onnx"]
    peak = onnx["memory"]["peak_bytes"]
    onnx["memory"]["peak_bytes"] = {"median": 2 * peak["median"], "n": 6} | {
        "ci95": [2 * value for value in peak["ci95"]]
    }
    onnx["accuracy"] = {**onnx["accuracy"], "top_1": 0.7995}  # within what ties may move
    saved_model = new["backends"]["saved_model"]
    saved_model["size"]["text_bytes"] *= 0.5
    saved_model["accuracy"] = {**saved_model["accuracy"], "top_1": 0.81}
    found = {(c.backend, c.what): c.verdict for c in list_amount_changes(old, new) if c.verdict}
    assert found == {
        ("lookup", "size on disk, ids in"): "worse",
        ("lookup", "top-1 accuracy"): "worse",
        ("onnx", "peak memory"): "worse",
        ("saved_model", "size on disk, string in"): "better",
        ("saved_model", "top-1 accuracy"): "better",
    }


def test_cells_and_backends_of_one_report_only_are_left_out(
    report_of: Callable[..., dict[str, Any]],
):
    old, new = report_of(), report_of()
    del old["ratios"]["batch"]["32"]
    del old["backends"]["onnx"]
    assert list_common_backends(old, new) == ["saved_model", "lookup"]
    changes = list_time_changes(old, new)
    assert {c.backend for c in changes} == {"saved_model", "lookup"}
    assert "batch of 32" not in {c.what for c in changes}
