from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving_compare.bench.readme import format_readme_bench
from serving_compare.bench.report import summarise_parts
from serving_compare.results import Results

MakeParts = Callable[..., dict[str, Results]]
MakeBench = Callable[..., dict[str, Any]]
DOCS = Path(__file__).parents[3] / "docs"


def test_the_readme_shows_one_exact_form_and_each_rivals_fastest_way(make_bench: MakeBench):
    text = format_readme_bench(make_bench())
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert lines[0] == "| H=128 | 1 token | 20 tokens | batch 256, 1/s |"
    assert [line.split("|")[1].strip() for line in lines[1:]] == [
        "lookup native avx512", "lookup native int16", "lookup numpy",
        "saved_model (fastest way)", "onnx (fastest way)",
    ]  # fmt: skip
    assert "H=128: a float32 step takes 1020 ns, of which reading its weights once and the" in text
    assert "lookup native 100 ms and 35 MB, onnx 300 ms and 65 MB." in text
    assert text.endswith("could not be measured on it.\n")


def test_the_readme_needs_no_artifact(make_parts: MakeParts):
    bench = summarise_parts({"model-128": make_parts()["model-128"]})
    text = format_readme_bench(bench)
    assert "Raw text" not in text
    assert "Process start" not in text


def test_the_generator_takes_the_figures_once_the_reference_is_there(
    make_bench: MakeBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    spec = importlib.util.spec_from_file_location("generate_readme", DOCS / "generate_readme.py")
    assert spec is not None and spec.loader is not None
    monkeypatch.setattr(sys, "path", sys.path.copy())
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    for name in ("report.json", "baseline.json"):
        shutil.copy(DOCS / "reports" / "reference" / name, tmp_path)
    monkeypatch.setattr(generator, "REFERENCE", tmp_path)
    empty = f"before {generator.BEGIN} {generator.END} after"
    without = generator.generate(empty)
    assert "The kernel alone" not in without
    bench = make_bench()
    (tmp_path / "bench.json").write_text(json.dumps(bench))
    readme = generator.generate(empty)
    assert format_readme_bench(bench).strip() in readme
    assert readme.startswith(without.removesuffix(f"{generator.END} after"))
    assert generator.generate(readme) == readme
