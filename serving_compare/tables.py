"""The report's tables, the same for terminal, Markdown and page: all but those of `http`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serving_compare.backends import NULL
from serving_compare.http_tables import make_http_tables
from serving_compare.losses import LOOKUP
from serving_compare.pairs import has_pair, list_pairs, name_cell, orient_pair
from serving_compare.statistics import MIN_ROUNDS_TO_CLAIM, MIN_SAMPLES_P99
from serving_compare.text_table import (
    NOT_AVAILABLE,
    UNSTABLE,
    UNSTABLE_NOTE,
    Table,
    format_interval,
    format_megabytes,
)

Json = Mapping[str, Any]
_CLASSIC_NAMES = {"saved_model": "tf (saved_model)", "lookup_numpy": "np (lookup_numpy)"}
VARIANTS = {
    "tokens": "As they come",
    "zipf": "Frequent ids",
    "uniform": "Uniform ids",
    "cold": "Cold caches",
}


def make_tables(report: Json) -> list[Table]:
    """Return the tables of a report, the same for Markdown, terminal and page; no empty ones."""
    backends = [name for name in report["backends"] if name != NULL]
    tables = [
        _make_classic_table(report, backends),
        _make_latency_table(report, backends),
        _make_speedup_table(report, backends),
        _make_variants_table(report, backends),
        _make_ratio_table(report, backends),
        _make_tokenising_table(report, backends),
        _make_batch_table(report, backends),
        *make_http_tables(report.get("http")),
        _make_cold_table(report),
        _make_size_table(report),
        _make_accuracy_table(report, backends),
        _make_agreement_table(report, backends),
        _make_cells_table(report),
    ]
    return [table for table in tables if table.rows]


def make_pairs_table(report: Json) -> Table:
    """Return every pair of every cell: hundreds of rows, for the page alone."""
    rows = [
        [
            name_cell(kind, size),
            f"{pair['first']} / {pair['second']}",
            f"{pair['ratio']:.2f}",
            format_interval(pair["ci95"], ".2f"),
            pair["winner"] or "no claim",
        ]
        for kind, size, pairs in list_pairs(report)
        for pair in pairs
    ]
    return Table(
        key="pairs",
        title="All ratios of time, paired by round",
        columns=["Cell", "Ratio of", "Ratio", "95 % interval", "Faster"],
        rows=rows,
        is_detail=True,
    )


def is_compressed(model: Json) -> bool:
    """Tell whether the lookup folder stores less than float32; old reports do not say: exact."""
    return {model.get(key, "float32") for key in ("table_dtype", "recurrent_dtype")} != {"float32"}


def find_cell(report: Json, backend: str, kind: str, size: str) -> Json | None:
    """Return one timed cell of a report, or None where the backend has none."""
    entry = report["backends"][backend]
    cells = entry.get(kind) if kind in ("batch", "all_cores") else entry["latency"].get(kind)
    cell: Json | None = (cells or {}).get(size)
    return cell


def format_speedup(pairs: Sequence[Json], rival: str) -> str:
    """Return how many times faster `lookup` is than the rival, with interval or "no claim"."""
    return _format_ratio(pairs, LOOKUP, rival)


def _format_ratio(pairs: Sequence[Json], own: str, rival: str) -> str:
    ratio, interval, winner = orient_pair(pairs, own, rival)
    if winner is None or interval is None:
        return f"{ratio:.2f}x (no claim)"
    return f"{ratio:.2f}x [{interval[0]:.2f}, {interval[1]:.2f}]"


def _cell(report: Json, backend: str, kind: str, size: str) -> Json:
    cell = find_cell(report, backend, kind, size)
    if cell is None:
        raise KeyError(f"{backend}, {kind} {size}")
    return cell


def _mark(cell: Json) -> str:
    return "" if cell["stable"] else UNSTABLE


def _make_classic_table(report: Json, backends: Sequence[str]) -> Table:
    rows = []
    for size in report["ratios"]["title_text"]:
        cells = [_cell(report, backend, "title_text", size) for backend in backends]
        rows.append([size, *(f"{c['median_us'] / 1e3:.3f}{_mark(c)}" for c in cells)])
    return Table(
        key="classic",
        title="Milliseconds by title length in characters, string in",
        columns=["Length", *(_CLASSIC_NAMES.get(name, name) for name in backends)],
        rows=rows,
        note="Medians. The lengths are those the texts have; wanted were 2, 10, 20, 50 and 99. "
        + UNSTABLE_NOTE,
    )


def _make_latency_table(report: Json, backends: Sequence[str]) -> Table:
    rows = []
    for size in report["ratios"]["tokens"]:
        for backend in backends:
            cell = _cell(report, backend, "tokens", size)
            p99 = NOT_AVAILABLE if cell["p99_us"] is None else f"{cell['p99_us']:.1f}"
            rows.append(
                [
                    size,
                    backend,
                    f"{cell['median_us']:.1f}{_mark(cell)}",
                    format_interval(cell["ci95"], ".1f"),
                    p99,
                    str(cell["n"]),
                ]
            )
    return Table(
        key="latency",
        title="Microseconds by token length, ids in, batch 1",
        columns=["Tokens", "Backend", "Median", "95 % interval", "p99", "Samples"],
        rows=rows,
        note=f"p99 is n/a below {MIN_SAMPLES_P99:,} samples.",
    )


def _make_speedup_table(report: Json, backends: Sequence[str]) -> Table:
    rivals = [name for name in backends if name != LOOKUP] if LOOKUP in backends else []
    rows = [
        [size, *(format_speedup(pairs, rival) for rival in rivals)]
        for size, pairs in report["ratios"]["tokens"].items()
        if rivals
    ]
    return Table(
        key="speedup",
        title="How many times faster lookup is, ids in, batch 1",
        columns=["Tokens", *(f"than {rival}" for rival in rivals)],
        rows=rows,
        note="Median of the slices' ratios and its 95 % interval. A winner is named only "
        f"where the interval excludes 1 and there were at least {MIN_ROUNDS_TO_CLAIM} rounds.",
    )


def _make_variants_table(report: Json, backends: Sequence[str]) -> Table:
    """The same length with other ids and with cold caches; nothing for reports of old."""
    found = [kind for kind in VARIANTS if report["ratios"].get(kind)]
    sizes = {size for kind in found if kind != "tokens" for size in report["ratios"][kind]}
    rows = []
    for size in sorted(sizes, key=int):
        for backend in backends:
            cells = [find_cell(report, backend, kind, size) for kind in found]
            rows.append(
                [
                    size,
                    backend,
                    *(
                        f"{cell['median_us']:.1f}{_mark(cell)}" if cell else NOT_AVAILABLE
                        for cell in cells
                    ),
                ]
            )
    return Table(
        key="variants",
        title="Microseconds by kind of ids and caches, batch 1",
        columns=["Tokens", "Backend", *(VARIANTS[kind] for kind in found)],
        rows=rows,
        note="Frequent: drawn as often as the texts use them. Uniform: every id of the vocabulary "
        "alike. Cold: the caches are written over before every call.",
    )


def _make_ratio_table(report: Json, backends: Sequence[str]) -> Table:
    rows = []
    for kind, size, pairs in list_pairs(report):
        timed = {name for pair in pairs for name in (pair["first"], pair["second"])}
        if not timed:
            continue
        fastest = min(timed, key=lambda name: (-_count_faster(pairs, name), name))
        rows.append(
            [
                name_cell(kind, size),
                *(
                    "fastest"
                    if name == fastest
                    else _format_ratio(pairs, fastest, name)
                    if has_pair(pairs, fastest, name)
                    else NOT_AVAILABLE
                    for name in backends
                ),
            ]
        )
    return Table(
        key="ratios",
        title="How many times the fastest's time each takes, paired by round",
        columns=["Cell", *backends],
        rows=rows,
        note="Every cell. The ratios of all pairs are in report.json and report.html.",
        is_detail=True,
    )


def _count_faster(pairs: Sequence[Json], name: str) -> int:
    """How many others the backend's time is less than; the paired ratios order all backends."""
    return sum(
        (pair["first"] == name and pair["ratio"] < 1)
        or (pair["second"] == name and pair["ratio"] > 1)
        for pair in pairs
    )


def _make_tokenising_table(report: Json, backends: Sequence[str]) -> Table:
    rows = []
    for size in report["ratios"]["title_text"]:
        for backend in backends:
            text = _cell(report, backend, "title_text", size)
            ids = _cell(report, backend, "title_ids", size)
            rows.append(
                [
                    size,
                    backend,
                    f"{text['median_us']:.1f}{_mark(text)}",
                    f"{ids['median_us']:.1f}{_mark(ids)}",
                    f"{text['median_us'] - ids['median_us']:.1f}",
                ]
            )
    return Table(
        key="tokenising",
        title="Microseconds for the same titles, string in and ids in",
        columns=["Length", "Backend", "String in", "Ids in", "Difference"],
        rows=rows,
    )


def _make_batch_table(report: Json, backends: Sequence[str]) -> Table:
    rows = []
    for kind, name in (("batch", "{}"), ("all_cores", "{}, all cores")):
        for size in report["ratios"].get(kind, {}):
            cells = [find_cell(report, backend, kind, size) for backend in backends]
            rows.append(
                [
                    name.format(size),
                    *(
                        f"{cell['sequences_per_s']:,.0f}{_mark(cell)}" if cell else NOT_AVAILABLE
                        for cell in cells
                    ),
                ]
            )
    return Table(
        key="batch",
        title="Sequences per second by batch size, ids in",
        columns=["Batch", *backends],
        rows=rows,
        note="Texts as they come, each batch padded to its longest. One thread, but where all "
        "cores are named.",
    )


def _make_cold_table(report: Json) -> Table:
    stages = ("start_ms", "import_ms", "load_ms", "first_ms", "total_ms")
    rows = [
        [backend, *(f"{entry['cold_start'][stage]['median']:.0f}" for stage in stages)]
        for backend, entry in report["backends"].items()
    ]
    return Table(
        key="cold",
        title="Cold start in milliseconds, string in",
        columns=["Backend", "Start", "Import", "Load", "First answer", "Total"],
        rows=rows,
        note="From the start of a process to its first answer, files in the page cache. Medians "
        "over processes. The row null is what Python, NumPy and the harness cost alone.",
    )


def _make_size_table(report: Json) -> Table:
    rows = []
    for backend, entry in report["backends"].items():
        memory, size = entry["memory"], entry["size"]
        amounts = [
            memory["peak_bytes"]["median"],
            *(memory.get(f"{part}_bytes", {}).get("median") for part in ("pss", "private")),
            size["ids_bytes"],
            size["text_bytes"],
        ]
        rows.append([backend, *map(format_megabytes, amounts)])
    return Table(
        key="memory",
        title="Memory of a process up to its first answer, and size on disk, MB",
        columns=["Backend", "Peak RSS", "PSS", "Private", "Disk, ids in", "Disk, string in"],
        rows=rows,
        note="1 MB is 10^6 bytes. PSS: pages that several processes share are divided between "
        "them. Private: no other process could share it.",
    )


def _make_accuracy_table(report: Json, backends: Sequence[str]) -> Table:
    rows = []
    for backend in backends:
        accuracy = report["backends"][backend]["accuracy"]
        if accuracy:
            rows.append(
                [
                    backend,
                    f"{accuracy['top_1']:.2%}",
                    f"{accuracy['top_k']:.2%}",
                    str(accuracy["rows"]),
                    str(accuracy["single_rows"]),
                ]
            )
    return Table(
        key="accuracy",
        title="Accuracy on the test split, string in",
        columns=["Backend", "Top-1", f"Top-{report['protocol']['k']}", "Texts", "By single calls"],
        rows=rows,
        note="The path that is timed. What time did not allow as single calls went in batches of "
        "32.",
    )


def _make_agreement_table(report: Json, backends: Sequence[str]) -> Table:
    rows = []
    for backend in backends:
        agreement = report["backends"][backend]["agreement"]
        parts = [agreement[part] for part in ("golden_ids", "golden_texts", "workload")]
        rows.append([backend, *(f"{part['max_abs_probability_diff']:.1e}" for part in parts)])
    except_compressed = (
        ", but where the error of compressed lookup tables explains another"
        if is_compressed(report["artifact"]["model"])
        else ""
    )
    return Table(
        key="agreement",
        title="Largest difference of a probability",
        columns=["Backend", "Probes, ids in", "Probes, string in", "Workload"],
        rows=rows,
        note="Probes: from Keras's. Workload: from the first backend's. "
        f"Same top {report['protocol']['k']} everywhere{except_compressed}.",
    )


def _make_cells_table(report: Json) -> Table:
    return Table(
        key="cells",
        title="What each cell holds",
        columns=["Cell", "Requests"],
        rows=[[name, note] for name, note in sorted(report["workload"]["notes"].items())],
        is_detail=True,
    )
