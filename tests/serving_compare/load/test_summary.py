"""Summaries of made-up probes whose figures are known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

import serving_compare
from serving_compare.load.results import Http, Probe, RoundCapacity
from serving_compare.load.summary import summarise_http

from .conftest import MakeRecording

US = 1000


def test_the_figures_of_known_probes_are_found(http: Http) -> None:
    section = summarise_http(http)
    lookup = section["backends"]["lookup"]
    assert lookup["single_stream"] == {
        "median_us": 302.0,  # 1,200 requests of 300 to 305 µs
        "ci95": lookup["single_stream"]["ci95"],
        "p99_us": 305.0,
        "n": 1200,
        "in_process_median_us": 30.0,
    }
    low, high = lookup["single_stream"]["ci95"]
    assert 300 <= low <= 302 <= high <= 305
    assert lookup["offline"]["sequences_per_s"] == pytest.approx(64e6 / 3002, rel=1e-5)
    assert lookup["offline"]["ci95"] == sorted(lookup["offline"]["ci95"])
    assert lookup["server"]["max_rate_per_s"] == 2040.0
    assert (lookup["server"]["rounds"], lookup["server"]["limited_by"]) == (6, "slo")
    assert lookup["http_share"]["single_stream"] == pytest.approx(1 - 30 / 302, rel=1e-5)
    assert lookup["outside"] == {"tool": "wrk 4.1.0"}
    json.dumps(section, allow_nan=False)


def test_the_section_is_what_the_schema_of_the_report_wants(
    http: Http, make_recording: MakeRecording
) -> None:
    path = Path(serving_compare.__file__).parent / "schema" / "report.schema.json"
    schema = json.loads(path.read_text())
    outside = {
        **{"tool": "wrk 4.1.0", "connections": 1, "requests_per_s": 1.0, "p50_us": 1.0},
        **{"p99_us": 1.0, "ours_requests_per_s": 1.0, "ours_p50_us": 1.0},
    }
    refused = [
        replace(probe, recording=make_recording(1, count=5, status=429)) for probe in http.probes
    ]
    for found in (http, replace(http, probes=refused), replace(http, probes=[], capacities=[])):
        section = summarise_http(replace(found, outside={"lookup": outside}))
        jsonschema.validate(section, {"$defs": schema["$defs"], "$ref": "#/$defs/http"})


def test_a_backend_without_figures_of_its_own_has_nulls(http: Http) -> None:
    section = summarise_http(http)["backends"]["null"]
    assert section["single_stream"]["in_process_median_us"] is None
    assert section["http_share"]["single_stream"] is None
    assert section["outside"] is None


def test_the_curve_pools_the_probes_of_a_rate_and_hides_a_thin_p99(http: Http) -> None:
    low, high = summarise_http(http)["backends"]["lookup"]["curve"]
    assert (low["rate_per_s"], low["n"], low["p99_us"], low["p50_us"]) == (1000.0, 900, None, 300.0)
    assert (high["rate_per_s"], high["n"], high["p99_us"]) == (2000.0, 1200, 605.0)
    assert high["service_p99_us"] == 604.0  # sent 1 µs after it was due
    assert high["valid"]
    # 200 requests, one a ms: six times 0.1996 s.
    assert high["achieved_per_s"] == pytest.approx(1000, rel=0.01)


def test_void_probes_are_left_out_unless_there_are_no_others(
    http: Http, make_recording: MakeRecording
) -> None:
    def add(rate: float) -> Probe:
        late = make_recording(5000 * US, count=1500, lag_ns=2_000_000)
        return Probe(backend="lookup", round=7, kind="server", rate_per_s=rate, recording=late)

    changed = replace(http, probes=[*http.probes, add(2000.0), add(3000.0)])
    _, kept, void = summarise_http(changed)["backends"]["lookup"]["curve"]
    assert (kept["n"], kept["valid"]) == (1200, True)
    assert (void["n"], void["valid"], void["lag_p99_us"]) == (1500, False, 2000.0)


def test_refusals_and_errors_are_counted_and_no_part_of_latency(
    http: Http, make_recording: MakeRecording
) -> None:
    status = [200] * 1000 + [429] * 30 + [500] * 20
    mixed = make_recording([US] * 1000 + [9 * US] * 50, status=status)
    changed = replace(
        http,
        probes=[Probe(backend="lookup", round=0, kind="server", rate_per_s=9.0, recording=mixed)],
    )
    (point,) = summarise_http(changed)["backends"]["lookup"]["curve"]
    assert (point["refused"], point["errors"], point["n"]) == (30, 20, 1050)
    assert point["p99_us"] == 1.0


def test_ratios_are_paired_by_round_and_leave_null_out(http: Http) -> None:
    (pair,) = summarise_http(http)["ratios"]
    assert (pair["first"], pair["second"], pair["of"]) == ("onnx", "lookup", "max_rate_per_s")
    assert pair["ratio"] == 0.5
    assert pair["winner"] == "lookup"  # the higher rate wins


def test_a_round_in_which_nothing_held_counts_as_zero_and_tells_no_ratio(http: Http) -> None:
    def forget(capacity: RoundCapacity) -> RoundCapacity:
        return replace(capacity, rate_per_s=None) if capacity.backend == "onnx" else capacity

    section = summarise_http(replace(http, capacities=[forget(c) for c in http.capacities]))
    assert section["backends"]["onnx"]["server"]["max_rate_per_s"] == 0.0
    assert section["ratios"] == []


def test_a_single_round_has_no_interval_and_names_no_winner(http: Http) -> None:
    once = replace(
        http,
        capacities=[c for c in http.capacities if c.round <= 0],
        probes=[p for p in http.probes if p.round <= 0],
    )
    section = summarise_http(once)
    assert section["backends"]["lookup"]["server"]["ci95"] is None
    assert section["ratios"][0]["winner"] is None
