"""Raw results on their way to disk and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving_compare.load.recording import Recording
from serving_compare.load.results import Http, HttpResultsError, read_http, write_http
from serving_compare.load.summary import summarise_http


def arrays_of(recording: Recording) -> dict[str, list[int]]:
    return {name: array.tolist() for name, array in recording.arrays().items()}


def test_raw_results_are_read_as_they_were_written(http: Http, tmp_path: Path) -> None:
    write_http(tmp_path, http)
    again = read_http(tmp_path)
    assert again is not None
    assert [arrays_of(p.recording) for p in again.probes] == [
        arrays_of(p.recording) for p in http.probes
    ]
    assert summarise_http(again) == summarise_http(http)
    write_http(tmp_path, again)
    second = read_http(tmp_path)
    assert second is not None
    assert replace(second, probes=[]) == replace(http, probes=[])


def test_a_comparison_without_http_has_none(tmp_path: Path) -> None:
    assert read_http(tmp_path) is None


def drop_array(folder: Path) -> None:
    (folder / "http.npz").unlink()


def cut_arrays(folder: Path) -> None:
    path = folder / "http.npz"
    path.write_bytes(path.read_bytes()[:1000])


def change(**fields: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        path = folder / "http.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return write


def shorten_an_array(folder: Path) -> None:
    with np.load(folder / "http.npz") as stored:
        arrays = dict(stored)
    arrays["0/status"] = arrays["0/status"][:-1]
    np.savez(folder / "http.npz", **arrays)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (drop_array, "found FileNotFoundError"),
        (cut_arrays, "found BadZipFile"),
        (shorten_an_array, "found ValueError: probe 0: int64 arrays of one length"),
        (change(schema_version=9), "schema_version 1, found 9"),
        (change(surprise=1), "found TypeError"),
        (change(probes=None), "found TypeError"),
        (lambda folder: (folder / "http.json").write_text("[]"), "found "),
        (lambda folder: (folder / "http.json").write_text("{"), "found JSONDecodeError"),
    ],
)
def test_damaged_raw_results_are_refused(
    http: Http, tmp_path: Path, damage: Callable[[Path], Any], found: str
) -> None:
    write_http(tmp_path, http)
    damage(tmp_path)
    with pytest.raises(HttpResultsError, match=f"http.json: expected .*{found}"):
        read_http(tmp_path)
