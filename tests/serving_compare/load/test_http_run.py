"""The whole comparison over HTTP in miniature, against real servers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from export.bundle import Artifact
from serving_compare.__main__ import main
from serving_compare.load import http_run
from serving_compare.load.profile import HTTP_PROFILES, HttpProfile
from serving_compare.load.results import SEARCH, read_http
from serving_compare.load.summary import summarise_http
from serving_compare.load.wrk import find_wrk

TINY: HttpProfile = replace(
    HTTP_PROFILES["quick"],
    rounds=1,
    search_s=0.15,
    probe_s=0.15,
    single_s=0.15,
    offline_s=0.1,
    outside_s=0.2,
)


@pytest.mark.slow
def test_compare_measures_every_scenario_and_carries_it_into_the_report(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATETABLE_BUILD", str(tmp_path))
    monkeypatch.setitem(HTTP_PROFILES, "quick", TINY)
    monkeypatch.setattr(http_run, "WARM_UP_S", 0.1)
    monkeypatch.setattr(http_run, "SEARCH_PROBES", 4)
    monkeypatch.setattr(http_run, "ROUND_PROBES", 3)
    result = CliRunner().invoke(
        main,
        [
            *("compare", "--http", "--quick", "--backends", "lookup"),
            *("--artifact", str(artifact.folder), "--output", "over-http"),
        ],
    )
    assert result.exit_code == 0, result.output
    folder = tmp_path / "reports" / "over-http"
    report = json.loads((folder / "report.json").read_text())
    http = read_http(folder / "raw")
    assert http is not None
    assert http.backends == ["lookup", "null"]
    for backend in http.backends:
        rounds = {c.round for c in http.capacities if c.backend == backend}
        assert rounds == {SEARCH, *range(TINY.rounds)}
        for kind in ("single_stream", "offline"):
            recordings = http.recordings_of(backend, kind)  # type: ignore[arg-type]
            assert len(recordings) == TINY.rounds
            assert all(recording.is_ok.all() for recording in recordings)
        assert http.recordings_of(backend, "server")
    assert set(http.in_process) == {"lookup"}
    if find_wrk() is None:
        assert (http.outside, http.outside_reason) == ({}, "wrk is not installed")
    else:
        assert set(http.outside) == {"lookup", "null"}
    assert report["http"] == json.loads(json.dumps(summarise_http(http), allow_nan=False))
    single = report["http"]["backends"]["lookup"]["single_stream"]
    assert single["median_us"] > single["in_process_median_us"]

    before = (folder / "report.json").read_bytes()
    again = CliRunner().invoke(main, ["report", str(folder)])
    assert again.exit_code == 0, again.output
    assert (folder / "report.json").read_bytes() == before
