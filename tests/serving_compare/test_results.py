from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving_compare.load.results import Http
from serving_compare.results import (
    Results,
    ResultsError,
    merge_results,
    read_results,
    write_results,
)

MakeResults = Callable[..., Results]


def test_results_come_back_as_they_were_written(tmp_path: Path, make_results: MakeResults):
    results = make_results()
    write_results(tmp_path / "raw", results)
    back = read_results(tmp_path / "raw")
    assert replace(back, samples={}) == replace(results, samples={})
    assert back.samples.keys() == results.samples.keys()
    for key, array in results.samples.items():
        np.testing.assert_array_equal(back.samples[key], array)


def test_samples_of_several_calls_are_divided_by_their_number(make_results: MakeResults):
    results = make_results({"lookup": [5000]}, inner_loops=4)
    assert float(np.median(results.call_ns("lookup", "tokens_1")[0])) == 5000
    assert not results.is_single_call("lookup", "tokens_1")
    assert make_results().is_single_call("lookup", "tokens_1")


def test_merged_results_hold_the_rounds_of_all_parts(make_results: MakeResults):
    merged = merge_results([make_results(), make_results(name="second")], name="both")
    assert merged.name == "both"
    assert sorted({process["round"] for process in merged.processes}) == list(range(12))
    assert len(merged.call_ns("lookup", "tokens_10")) == 12


@pytest.mark.parametrize(
    ("field", "key", "value", "message"),
    [
        ("machine", "cpu", "Other CPU", r"same machine\.cpu as in made-up, 'Made-up CPU', found"),
        ("machine", "kernel", "7.0", r"machine\.kernel"),
        ("versions", "numpy", "1.0", r"versions\.numpy"),
        ("artifact", "manifest_sha256", "f" * 64, r"artifact\.manifest_sha256"),
        ("workload", "sha256", "2" * 64, r"the same workload as in"),
    ],
)
def test_unlike_results_are_never_merged(
    make_results: MakeResults, field: str, key: str, value: Any, message: str
):
    first = make_results()
    other = replace(first, name="second", **{field: {**getattr(first, field), key: value}})
    with pytest.raises(ResultsError, match=message):
        merge_results([first, other], name="both")


def test_results_of_other_backends_are_never_merged(make_results: MakeResults):
    with pytest.raises(ResultsError, match="expected the same backends as in made-up"):
        merge_results([make_results(), make_results({"lookup": [1000]})], name="both")


def test_a_busier_moment_of_the_same_machine_may_be_merged(make_results: MakeResults):
    first = make_results()
    later = replace(first, machine={**first.machine, "load_average": [3.0, 2.0, 1.0]})
    merge_results([first, later], name="both")


@pytest.fixture
def raw(tmp_path: Path, make_results: MakeResults) -> Path:
    write_results(tmp_path / "raw", make_results())
    return tmp_path / "raw"


def damage(raw: Path, **changes: Any) -> None:
    header = json.loads((raw / "raw.json").read_text()) | changes
    (raw / "raw.json").write_text(json.dumps(header))


def test_newer_schema_is_refused(raw: Path):
    damage(raw, schema_version=3)
    with pytest.raises(ResultsError, match="expected schema_version 1 to 2, found 3"):
        read_results(raw)


def test_results_of_version_1_are_read(raw: Path):
    header = json.loads((raw / "raw.json").read_text())
    for process in header["processes"]:
        process.pop("threads", None)
        for cell in process["cells"].values():
            cell.pop("slices", None)
    (raw / "raw.json").write_text(json.dumps(header | {"schema_version": 1}))
    results = read_results(raw)
    assert [len(slices) for slices in results.slice_medians_ns("lookup", "tokens_1")] == [1] * 6
    assert results.threads_in("lookup", "tokens_1") == 1
    assert len(results.processes_of("lookup")) == 6
    assert results.http is None


def cut_slices(results: Results, counts: list[int], backend: str = "lookup") -> Results:
    """The same samples, in slices of `counts` samples in every cell of a backend."""
    processes = [
        {
            **process,
            "cells": {cell: {**f, "slices": counts} for cell, f in process["cells"].items()},
        }
        if process["backend"] == backend
        else process
        for process in results.processes
    ]
    return replace(results, processes=processes)


def test_slices_have_their_own_medians(make_results: MakeResults):
    results = cut_slices(make_results({"lookup": [5000]}), [50, 51])
    # Samples rise from 4950 to 5050; no interpolation.
    assert [list(m) for m in results.slice_medians_ns("lookup", "tokens_1")] == [[4974.0, 5025.0]]


@pytest.mark.parametrize("counts", [[50, 50], [101, 0], []])
def test_slices_that_do_not_fill_their_array_are_refused(
    tmp_path: Path, make_results: MakeResults, counts: list[int]
):
    write_results(tmp_path / "raw", cut_slices(make_results(), counts))
    with pytest.raises(ResultsError, match="lookup, .*: expected slices of 101 samples together"):
        read_results(tmp_path / "raw")


def test_backends_with_another_number_of_slices_are_refused(
    tmp_path: Path, make_results: MakeResults
):
    write_results(tmp_path / "raw", cut_slices(make_results(), [50, 51]))
    with pytest.raises(ResultsError, match="lookup, .*: expected 1 slices as .* round 0, found 2"):
        read_results(tmp_path / "raw")


def test_processes_with_several_threads_are_told_apart(make_results: MakeResults):
    results = make_results({"lookup": [5000]})
    alone = next(process for process in results.processes if process["backend"] == "lookup")
    facts = alone["cells"]["batch_32"]
    wide = {**alone, "threads": 2, "cells": {"all_cores_256": facts}}
    both = replace(
        results,
        processes=[*results.processes, wide],
        samples={**results.samples, (0, "lookup", "all_cores_256"): np.array([7, 8, 9])},
    )
    assert both.processes_of("lookup") == [alone]
    assert both.threads_in("lookup", "all_cores_256") == 2
    assert both.backends_in("all_cores_256") == ["lookup"]
    assert [list(array) for array in both.call_ns("lookup", "all_cores_256")] == [[7, 8, 9]]


def test_unknown_fields_are_refused(raw: Path):
    damage(raw, extra=1)
    with pytest.raises(ResultsError, match="expected the fields of a comparison, found"):
        read_results(raw)


def test_a_folder_that_is_no_report_is_refused(tmp_path: Path):
    with pytest.raises(ResultsError, match=r"no such file, so .* is not a report\. Make one"):
        read_results(tmp_path / "raw")


@pytest.mark.parametrize(
    ("text", "message"), [("{", "expected JSON, found"), ("[]", "expected an object, found list")]
)
def test_damaged_raw_json_is_refused(raw: Path, text: str, message: str):
    (raw / "raw.json").write_text(text)
    with pytest.raises(ResultsError, match=message):
        read_results(raw)


def test_huge_raw_json_is_refused_unread(raw: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("serving_compare.results.MAX_RAW_BYTES", 10)
    with pytest.raises(ResultsError, match="expected at most 10 bytes, found"):
        read_results(raw)


def test_torn_samples_are_refused(raw: Path):
    content = (raw / "samples.npz").read_bytes()
    (raw / "samples.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(ResultsError, match="expected arrays named <round>/<backend>/<cell>, found"):
        read_results(raw)


def test_pickled_samples_are_refused(raw: Path):
    np.savez(raw / "samples.npz", **{"0/lookup/tokens_1": np.array([{}], object)})
    with pytest.raises(ResultsError, match="allow_pickle=False"):
        read_results(raw)


@pytest.mark.parametrize(
    "array", [np.array([1.5]), np.zeros((1, 1), np.int64), np.zeros(0, np.int64), np.array([-1])]
)
def test_samples_that_are_no_times_are_refused(raw: Path, array: np.ndarray):
    np.savez(raw / "samples.npz", **{"0/lookup/tokens_1": array})
    with pytest.raises(ResultsError, match="0/lookup/tokens_1: expected a list of int64 ns, found"):
        read_results(raw)


def test_samples_without_their_process_are_refused(raw: Path):
    np.savez(raw / "samples.npz", **{"0/lookup/tokens_1": np.array([1])})
    with pytest.raises(ResultsError, match=r"expected the 120 arrays raw\.json names, found 1"):
        read_results(raw)


@pytest.fixture
def http() -> Http:
    """What a comparison over HTTP leaves that was stopped before its first probe."""
    return Http(
        settings={"slo_p99_ms": 10.0},
        backends=["lookup"],
        in_process={"lookup": {"median_us": 40.0, "n": 100}},
        outside={},
        outside_reason="wrk is not installed",
        capacities=[],
        probes=[],
    )


def test_the_part_over_http_is_carried_along(tmp_path: Path, make_results: MakeResults, http: Http):
    write_results(tmp_path / "raw", make_results(http=http))
    assert read_results(tmp_path / "raw").http == http
    assert "http" not in json.loads((tmp_path / "raw" / "raw.json").read_text())


def test_one_part_over_http_survives_merging_and_two_are_refused(
    make_results: MakeResults, http: Http
):
    first, second = make_results(), make_results(name="second", http=http)
    assert merge_results([first, second], name="both").http == http
    with pytest.raises(ResultsError, match="second: expected at most one report that went over"):
        merge_results([replace(first, http=http), second], name="both")
