from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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
    damage(raw, schema_version=2)
    with pytest.raises(ResultsError, match="expected schema_version 1, found 2"):
        read_results(raw)


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
