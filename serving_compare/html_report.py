"""report.html: the whole report as one page, without script, request or inline style.

Readable on a phone, in the dark and on paper. Its policy lets the browser load nothing and apply
no style but the one whose hash it names, whatever a backend or a machine is called.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from serving_compare.backends import NULL
from serving_compare.figures import (
    COLD_NAMES,
    draw_batches,
    draw_cold_start,
    draw_headline,
    draw_lengths,
    draw_memory,
    draw_ratios,
    draw_size_accuracy,
    draw_variants,
)
from serving_compare.http_figures import draw_curve, draw_rates, draw_shares
from serving_compare.http_tables import format_conditions, format_max_rate
from serving_compare.losses import list_losses
from serving_compare.markdown_report import format_harness, format_model, format_origin
from serving_compare.plots import SERIES
from serving_compare.tables import make_pairs_table, make_tables
from serving_compare.text_table import UNSTABLE
from serving_compare.verdict import find_verdict, format_sureness, format_verdict
from serving_compare.whole_file import write_whole

HTML_FILE = "report.html"
_HERE = Path(__file__).parent
_TEMPLATE = "report.html.jinja"
_STYLE = "report.css"
TEXT_KINDS = ("title_text", "title_ids", "cold_start")
IDS_KINDS = ("tokens", "zipf", "uniform", "cold", "batch", "all_cores")
_MACHINE_NAMES = {
    "cpu": "CPU",
    "cpu_stepping": "Stepping",
    "architecture": "Architecture",
    "flags": "Instruction sets",
    "cores": "Cores",
    "affinity": "Cores allowed",
    "cgroup_quota_cores": "Quota in cores",
    "hypervisor": "Virtual machine",
    "governor": "Governor",
    "boost": "Boost",
    "smt": "Two threads a core",
    "caches": "Caches",
    "memory_kib": "Memory",
    "load_average": "Load average at the start",
    "system": "System",
    "kernel": "Kernel",
}

Json = Mapping[str, Any]


def write_html(folder: Path, report: Json) -> None:
    """Write report.html into an existing folder in one rename.

    Args:
        folder: Of the report.
        report: Content of its report.json.
    """
    write_whole(folder / HTML_FILE, format_report_html(report))


def format_report_html(report: Json) -> str:
    """Return the page; equal reports give equal text."""
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FileSystemLoader(_HERE),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(cell=_format_cell, series=_format_series, max_rate=format_max_rate)
    style = (_HERE / _STYLE).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    verdict = find_verdict(report)
    return environment.get_template(_TEMPLATE).render(
        report=report,
        http=report.get("http"),
        style=Markup(style),
        style_hash=f"sha256-{digest}",
        verdict=verdict,
        sentences=format_verdict(verdict),
        sureness=verdict and format_sureness(verdict),
        tables={table.key: table for table in [*make_tables(report), make_pairs_table(report)]},
        figures=_draw_figures(report),
        accuracy=_summarise_accuracy(report),
        backends=[name for name in report["backends"] if name != NULL],
        cold_names=COLD_NAMES,
        losses=list_losses(report),
        model=format_model(report["artifact"]["model"]),
        origin=format_origin(report),
        harness=format_harness(report),
        conditions=report.get("http") and format_conditions(report["http"]),
        machine=_list_machine(report["machine"]),
    )


def _draw_figures(report: Json) -> dict[str, Markup]:
    """Return the figures that the report has data for, by name."""
    verdict, http = find_verdict(report), report.get("http")
    drawn = {
        "headline": verdict and draw_headline(verdict),
        "tokens": draw_lengths(report, "tokens", "tokens"),
        "titles": draw_lengths(report, "title_text", "characters"),
        "ratios_ids": verdict and draw_ratios(report, verdict.fastest, IDS_KINDS),
        "ratios_texts": verdict and draw_ratios(report, verdict.fastest, TEXT_KINDS),
        "variants": draw_variants(report),
        "batches": draw_batches(report),
        "curve": http and draw_curve(http),
        "rates": http and draw_rates(http),
        "shares": http and draw_shares(http),
        "cold_start": draw_cold_start(report),
        "memory": draw_memory(report),
        "size_accuracy": draw_size_accuracy(report),
    }
    # matplotlib escapes what it writes; the plots put nothing in by hand.
    return {name: Markup(svg) for name, svg in drawn.items() if svg}


def _format_cell(text: str) -> Markup:
    """Return a table's cell with the mark of an unstable one explained."""
    if not text.endswith(UNSTABLE):
        return escape(text)
    mark = Markup('<abbr title="moved by more than 10 % between rounds">~</abbr>')
    return escape(text.removesuffix(UNSTABLE)) + mark


def _format_series(name: str) -> str:
    """Return the class that gives a backend its colour."""
    return f"c-{name if name in SERIES else 'other'}"


def _summarise_accuracy(report: Json) -> tuple[str, str] | None:
    """Return top-1 of all backends as one figure or a range, and on how many texts."""
    found = [entry["accuracy"] for entry in report["backends"].values() if entry["accuracy"]]
    if not found:
        return None
    shown = sorted({f"{100 * accuracy['top_1']:.2f}" for accuracy in found})
    same = "the same for every backend" if len(shown) == 1 else "by backend"
    return (
        f"{' to '.join(dict.fromkeys((shown[0], shown[-1])))} %",
        f"{same}, {found[0]['rows']:,} held-out texts",
    )


def _list_machine(machine: Json) -> list[tuple[str, str]]:
    """Return the machine's facts in words; what the system does not tell is unknown."""
    facts = []
    for name, title in _MACHINE_NAMES.items():
        fact = machine.get(name)
        if fact is None:
            text = "unknown"
        elif name == "memory_kib":
            text = f"{fact * 1024 / 1e9:.1f} GB"
        elif isinstance(fact, bool):
            text = "yes" if fact else "no"
        elif isinstance(fact, Mapping):
            text = ", ".join(f"{cache} {size}" for cache, size in fact.items())
        elif isinstance(fact, list):
            text = ", ".join(map(str, fact))
        else:
            text = str(fact)
        facts.append((title, text))
    return facts
