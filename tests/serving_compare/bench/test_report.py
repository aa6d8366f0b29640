from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from serving_compare.bench.report import publish_bench, read_parts, write_bench
from serving_compare.report import ReportError
from serving_compare.results import Results, ResultsError

MakeParts = Callable[..., dict[str, Results]]
SCHEMA_PATH = Path(__file__).parents[3] / "serving_compare" / "schema" / "bench.schema.json"


def test_a_benchmark_is_published_whole_and_keeps_its_schema(make_parts: MakeParts, tmp_path: Path):
    folder, bench = publish_bench(tmp_path, "one", make_parts())
    assert folder == tmp_path / "one"
    assert sorted(path.name for path in folder.iterdir()) == ["bench.json", "bench.md", "raw"]
    written = json.loads((folder / "bench.json").read_text())
    assert written == json.loads(json.dumps(bench))
    jsonschema.validate(written, json.loads(SCHEMA_PATH.read_text()))
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_without_an_artifact_the_schema_holds_too(make_parts: MakeParts, tmp_path: Path):
    parts = {"model-128": make_parts(processes=1)["model-128"]}
    folder, _ = publish_bench(tmp_path, "one", parts)
    written = json.loads((folder / "bench.json").read_text())
    jsonschema.validate(written, json.loads(SCHEMA_PATH.read_text()))


def test_the_raw_results_give_the_same_bytes_again(make_parts: MakeParts, tmp_path: Path):
    folder, _ = publish_bench(tmp_path, "one", make_parts())
    before = {name: (folder / name).read_bytes() for name in ("bench.json", "bench.md")}
    for name in before:
        (folder / name).unlink()
    write_bench(folder, read_parts(folder))
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_a_name_that_is_taken_is_refused(make_parts: MakeParts, tmp_path: Path):
    publish_bench(tmp_path, "one", make_parts(processes=1))
    with pytest.raises(ReportError, match=r"one: the report exists\. Choose another --output"):
        publish_bench(tmp_path, "one", make_parts(processes=1))


def test_a_folder_without_raw_results_is_refused(tmp_path: Path):
    with pytest.raises(
        ResultsError,
        match=r"raw: expected raw results of a benchmark, found none\. Make one with `make bench`",
    ):
        read_parts(tmp_path)
