"""From raw results to report.json, and publishing a report folder whole.

    build/reports/<name>/report.json   the contract: schema/report.schema.json
    build/reports/<name>/report.md     the same for people
    build/reports/<name>/report.html   the same with plots, one file without a script
    build/reports/<name>/raw/          what both are rebuilt from

`build_report` is a pure function of the raw results: the same samples give the same bytes.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving_compare.backends import NULL
from serving_compare.markdown_report import format_report_markdown
from serving_compare.results import Results, write_results
from serving_compare.summarise import (
    compare_cells,
    compare_cold_starts,
    count_rounds,
    summarise_backend,
    summarise_cells,
    summarise_harness,
)
from serving_compare.tables import format_speedup
from serving_compare.text_table import Table, format_markdown_table
from serving_compare.whole_file import write_whole

REPORT_SCHEMA_VERSION = 2
REPORT_FILE = "report.json"
MARKDOWN_FILE = "report.md"
RAW_FOLDER = "raw"
LATEST_FILE = "latest"
HTTP_NOT_MEASURED = "serving over HTTP"
ALL_CORES_NOT_MEASURED = "more than one thread or core"
NOT_MEASURED = (
    "more than one machine",
    "GPUs",
    "a cold page cache",
    "the checks lookup makes when it loads (hashes and probes)",
    "size of the installed libraries",
)
README_RIVALS = ("saved_model", "onnx")
"""The README's table shows how many times as fast as these lookup is; the report shows all."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,149}")

Json = dict[str, Any]


class ReportError(Exception):
    """A report that cannot be written where it was asked for."""


def build_report(results: Results) -> Json:
    """Return the content of report.json.

    Times are in µs, cold start in ms, sizes in bytes, accuracies as fractions. A ratio is the time
    of `first` over the time of `second`; `winner` is named only where the data support it.
    """
    cells, ratios = summarise_cells(results), compare_cells(results)
    http = None
    if results.http is not None:
        from serving_compare.load.summary import summarise_http

        http = summarise_http(results.http)
    return {
        "schema_version": REPORT_SCHEMA_VERSION,
        "name": results.name,
        "created_utc": results.created_utc,
        "artifact": results.artifact,
        "machine": results.machine,
        "versions": results.versions,
        "protocol": {**results.settings, "rounds": count_rounds(results)},
        "workload": results.workload,
        "backends": {
            backend: summarise_backend(results, cells, backend) for backend in results.backends
        },
        "ratios": ratios,
        "cold_start_ratios": compare_cold_starts(results),
        "harness": summarise_harness(results, cells),
        "http": http,
        "not_measured": [
            *([HTTP_NOT_MEASURED] if http is None else []),
            *([] if ratios["all_cores"] else [ALL_CORES_NOT_MEASURED]),
            *NOT_MEASURED,
        ],
    }


def format_readme_table(report: Mapping[str, Any]) -> str:
    """Return the README's result table: median µs a call by token length, ratios to the rivals.

    Args:
        report: Content of a report.json.

    Returns:
        A Markdown table that ends in a newline. A ratio is followed by its 95 % interval; where
        the data support no claim, it says so instead.
    """
    backends = [name for name in report["backends"] if name != NULL]
    rivals = [name for name in README_RIVALS if {name, "lookup"} <= set(backends)]
    rows = []
    for size, pairs in report["ratios"]["tokens"].items():
        row = [size]
        for name in backends:
            cell = report["backends"][name]["latency"]["tokens"][size]
            row.append(f"{cell['median_us']:.1f}" + ("" if cell["stable"] else " ~"))
        row += [format_speedup(pairs, rival) for rival in rivals]
        rows.append(row)
    return format_markdown_table(
        Table(
            title="",
            columns=[
                "Tokens",
                *(f"{name} µs" for name in backends),
                *(f"lookup against {rival}" for rival in rivals),
            ],
            rows=rows,
        )
    )


def publish_report(reports: Path, results: Results) -> Path:
    """Write raw results and the report's three files in one rename, then point `latest` at it.

    Returns:
        The report's folder, `reports / results.name`.

    Raises:
        ReportError: The folder exists.
    """
    target = reports / results.name
    check_report_name(reports, results.name)
    partial = reports / f".{results.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        write_results(partial / RAW_FOLDER, results)
        write_report(partial, build_report(results))
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    write_whole(reports / LATEST_FILE, results.name + "\n")
    return target


def write_report(folder: Path, report: Json) -> None:
    """Write report.json, report.md and report.html into an existing folder, each in one rename."""
    # Here: matplotlib takes a second to import, which no other command should pay.
    from serving_compare.html_report import write_html

    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(folder / REPORT_FILE, text + "\n")
    write_whole(folder / MARKDOWN_FILE, format_report_markdown(report))
    write_html(folder, report)


def find_report(reports: Path) -> Path:
    """Return the folder of the newest report.

    Raises:
        ReportError: There is none yet.
    """
    try:
        return reports / (reports / LATEST_FILE).read_text(encoding="utf-8").strip()
    except OSError as err:
        raise ReportError(
            f"{reports}: expected a report, found none yet. Make one with `make compare`."
        ) from err


def check_report_name(reports: Path, name: str) -> None:
    """Refuse a name that is unsafe or taken.

    Raises:
        ReportError: See above.
    """
    if not _NAME.fullmatch(name):
        raise ReportError(
            "--output: expected 1 to 150 letters, digits, '.', '_' or '-', starting with a letter "
            f"or digit, found {name!r}."
        )
    if (reports / name).exists():
        raise ReportError(f"{reports / name}: the report exists. Choose another --output name.")
