from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from serving_compare.bench.readme import format_readme_bench
from serving_compare.bench.report import summarise_parts
from serving_compare.results import Results

MakeParts = Callable[..., dict[str, Results]]
ROOT = Path(__file__).parents[3]


def test_the_readme_shows_one_exact_form_and_each_rivals_fastest_way(make_parts: MakeParts):
    text = format_readme_bench(summarise_parts(make_parts()))
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


def test_the_readme_takes_the_figures_once_the_reference_is_there(
    make_parts: MakeParts, tmp_path: Path
):
    for name in ("docs", "serving_compare", "export", "pipeline"):
        shutil.copytree(
            ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.so")
        )
    shutil.copy(ROOT / "README.md", tmp_path)
    bench = summarise_parts(make_parts())
    reference = tmp_path / "docs" / "reports" / "reference" / "bench.json"
    reference.write_text(json.dumps(bench))

    def generate(*arguments: str) -> int:
        command = [sys.executable, "docs/generate_readme.py", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, timeout=60, check=False
        ).returncode

    generate()
    readme = (tmp_path / "README.md").read_text()
    assert format_readme_bench(bench).strip() in readme
    assert generate("--check") == 0
    (tmp_path / "README.md").write_text(re.sub("1020 ns", "1 ns", readme))
    assert generate("--check") == 1
