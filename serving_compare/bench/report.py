"""The folder of a benchmark, written whole and read back.

    build/reports/<name>/bench.json    the contract: schema/bench.schema.json
    build/reports/<name>/bench.md      the same for people
    build/reports/<name>/raw/<part>/   what both are rebuilt from

`summarise_parts` is a pure function of the raw results.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from serving_compare.bench.run import Parts
from serving_compare.bench.summary import build_bench
from serving_compare.bench.tables import format_bench_markdown
from serving_compare.bench.targets import list_targets
from serving_compare.report import RAW_FOLDER, check_report_name
from serving_compare.results import ResultsError, read_results, write_results
from serving_compare.whole_file import write_whole

BENCH_FILE = "bench.json"
MARKDOWN_FILE = "bench.md"

Json = dict[str, Any]


def summarise_parts(parts: Parts) -> Json:
    """Return the whole content of bench.json."""
    bench = build_bench(parts)
    return bench | {"targets": list_targets(bench)}


def publish_bench(reports: Path, name: str, parts: Parts) -> tuple[Path, Json]:
    """Write raw results, bench.json and bench.md in one rename.

    Returns:
        The folder, `reports / name`, and the content of bench.json.

    Raises:
        ReportError: The folder exists, or the name is unsafe.
    """
    check_report_name(reports, name)
    partial = reports / f".{name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for part, results in parts.items():
            write_results(partial / RAW_FOLDER / part, results)
        bench = write_bench(partial, parts)
        partial.rename(reports / name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return reports / name, bench


def write_bench(folder: Path, parts: Parts) -> Json:
    """Write bench.json and bench.md into an existing folder; return the content of the former."""
    bench = summarise_parts(parts)
    text = json.dumps(bench, indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(folder / BENCH_FILE, text + "\n")
    write_whole(folder / MARKDOWN_FILE, format_bench_markdown(bench))
    return bench


def read_parts(folder: Path) -> Parts:
    """Read the raw results of a benchmark.

    Args:
        folder: What `publish_bench` wrote.

    Raises:
        ResultsError: There are none, or they are damaged.
    """
    raw = folder / RAW_FOLDER
    names = sorted(path.name for path in raw.iterdir() if path.is_dir()) if raw.is_dir() else []
    if not names:
        raise ResultsError(
            f"{raw}: expected raw results of a benchmark, found none. Make one with `make bench`."
        )
    return {name: read_results(raw / name) for name in names}
