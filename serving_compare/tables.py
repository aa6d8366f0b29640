"""The report's tables as text: one description, shown as Markdown and in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table as RichTable

from serving_compare.backends import NULL
from serving_compare.losses import LOOKUP, find_pair, list_losses
from serving_compare.statistics import MIN_ROUNDS_TO_CLAIM, MIN_SAMPLES_P99

Json = Mapping[str, Any]
UNSTABLE = " ~"
UNSTABLE_NOTE = (
    "~ is unstable: the medians of the rounds lie more than 10 % apart, or there is only one."
)
NOT_AVAILABLE = "n/a"
_CLASSIC_NAMES = {"saved_model": "tf (saved_model)", "lookup_numpy": "np (lookup_numpy)"}


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table.

    Attributes:
        title: Stands above it.
        columns: Their names.
        rows: Text of each cell.
        note: Stands below it.
        is_detail: Shown in the Markdown report only, not in the terminal.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    is_detail: bool = False


def format_markdown_table(table: Table) -> str:
    """Return the table as Markdown, first column left, the others right; ends in a newline."""
    lines = ["| " + " | ".join(table.columns) + " |"]
    lines.append("|---" + "|--:" * (len(table.columns) - 1) + "|")
    lines += ["| " + " | ".join(row) + " |" for row in table.rows]
    return "\n".join(lines) + "\n"


def print_tables(console: Console, tables: Sequence[Table]) -> None:
    """Print the tables in the terminal, those of details left out."""
    for table in tables:
        if table.is_detail:
            continue
        shown = RichTable(
            title=table.title,
            title_justify="left",
            box=SIMPLE,
        )
        for position, column in enumerate(table.columns):
            shown.add_column(column, justify="right" if position else "left")
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)
        if table.note:
            console.print(f"{table.note}\n", highlight=False)


def format_report_markdown(report: Json) -> str:
    """Return the whole report.md: facts, all tables, where lookup loses, what was not measured."""
    artifact, machine, protocol = report["artifact"], report["machine"], report["protocol"]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    parts = [
        f"# {report['name']}\n",
        f"Artifact {artifact['name']} version {artifact['version']} "
        f"(manifest sha256 {artifact['manifest_sha256'][:16]}), {format_model(artifact['model'])}. "
        f"Profile `{protocol['profile']['name']}`, {protocol['rounds']} rounds of "
        f"{protocol['profile']['rounds']} planned, seed "
        f"{protocol['seed']}, begun {report['created_utc']}. One thread each, one process a "
        "backend and round. How and why: `docs/measuring.md`.\n",
        f"{machine['cpu']}, {machine['cores']} cores ({' '.join(machine['flags'])}), "
        f"{machine['system']} {machine['kernel']}, governor {machine['governor'] or 'unknown'}, "
        f"load average {machine['load_average']} at the start. {versions}.\n",
        f"Texts: {report['workload']['texts']} from {report['workload']['source']}.\n",
    ]
    for table in make_tables(report):
        parts.append(f"## {table.title}\n")
        parts.append(format_markdown_table(table))
        if table.note:
            parts.append(table.note + "\n")
    parts.append("## Where the lookup table loses\n")
    parts.append(format_markdown_list(list_losses(report)))
    parts.append(format_harness(report) + "\n")
    parts.append(f"Not measured: {', '.join(report['not_measured'])}.\n")
    return "\n".join(parts)


def is_compressed(model: Json) -> bool:
    """Tell whether the lookup folder stores less than float32; old reports do not say: exact."""
    return {model.get(key, "float32") for key in ("table_dtype", "recurrent_dtype")} != {"float32"}


def format_model(model: Json) -> str:
    """Return the model's shape in words, and how its lookup folder is compressed if it is."""
    stored = ""
    if is_compressed(model):
        table, kernel = model["table_dtype"], model["recurrent_dtype"]
        stored = f", lookup stored as {table} tables and {kernel} kernels"
    return (
        f"{model['layers']} layer{'s' if model['layers'] > 1 else ''} of "
        f"{'bidirectional ' if model['bidirectional'] else ''}GRU({model['units']}), vocabulary "
        f"{model['vocab_size']}, {model['num_classes']} classes, pooling {model['pooling']}"
        f"{stored}"
    )


def format_harness(report: Json) -> str:
    """Return one paragraph on what the harness itself costs."""
    harness = report["harness"]
    text = f"Harness: reading the clock costs {harness['timer_cost_ns']:.0f} ns."
    worst = harness["largest_share"]
    if worst is not None:
        text += (
            f" The null backend takes at most {worst['share']:.2%} of the fastest backend's median "
            f"({worst['null_us']:.3f} of {worst['fastest_us']:.1f} µs, {worst['fastest']}, "
            f"{worst['cell']})."
        )
    if harness["unwarmed_cells"]:
        text += f" In {harness['unwarmed_cells']} cells the warm-up ended by its time limit."
    return text


def make_tables(report: Json) -> list[Table]:
    """Return the tables of a report, the same for Markdown and terminal."""
    backends = [name for name in report["backends"] if name != NULL]
    tables = [
        _make_classic_table(report, backends),
        _make_latency_table(report, backends),
        _make_speedup_table(report, backends),
        _make_ratio_table(report),
        _make_tokenising_table(report, backends),
        _make_batch_table(report, backends),
        _make_cold_table(report),
        _make_size_table(report),
        _make_accuracy_table(report, backends),
        _make_agreement_table(report, backends),
        _make_cells_table(report),
    ]
    return [table for table in tables if table.rows]


def format_markdown_list(lines: Sequence[str]) -> str:
    """Return the lines as a Markdown list; ends in a newline."""
    return "".join(f"- {line}\n" for line in lines)


def _format_megabytes(size_bytes: float | None) -> str:
    return NOT_AVAILABLE if size_bytes is None else f"{size_bytes / 1e6:.2f}"


def _format_interval(interval: Sequence[float] | None, digits: str) -> str:
    if interval is None:
        return NOT_AVAILABLE
    return f"{interval[0]:{digits}} to {interval[1]:{digits}}"


def _cell(report: Json, backend: str, kind: str, size: str) -> Json:
    entry = report["backends"][backend]
    cell: Json = entry["batch"][size] if kind == "batch" else entry["latency"][kind][size]
    return cell


def _mark(cell: Json) -> str:
    return "" if cell["stable"] else UNSTABLE


def _make_classic_table(report: Json, backends: Sequence[str]) -> Table:
    rows = []
    for size in report["ratios"]["title_text"]:
        cells = [_cell(report, backend, "title_text", size) for backend in backends]
        rows.append([size, *(f"{c['median_us'] / 1e3:.3f}{_mark(c)}" for c in cells)])
    return Table(
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
                    _format_interval(cell["ci95"], ".1f"),
                    p99,
                    str(cell["n"]),
                ]
            )
    return Table(
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
        title="How many times faster lookup is, ids in, batch 1",
        columns=["Tokens", *(f"than {rival}" for rival in rivals)],
        rows=rows,
        note="Geometric mean of the rounds' ratios and its 95 % interval. A winner is named only "
        f"where the interval excludes 1 and there were at least {MIN_ROUNDS_TO_CLAIM} rounds.",
    )


def format_speedup(pairs: Sequence[Json], rival: str) -> str:
    """Return how many times faster `lookup` is than the rival, with interval or "no claim"."""
    ratio, interval, winner = find_pair(pairs, rival)
    if winner is None or interval is None:
        return f"{ratio:.2f}x (no claim)"
    return f"{ratio:.2f}x [{interval[0]:.2f}, {interval[1]:.2f}]"


def _make_ratio_table(report: Json) -> Table:
    rows = [
        [
            f"{kind} {size}",
            f"{pair['first']} / {pair['second']}",
            f"{pair['ratio']:.2f}",
            _format_interval(pair["ci95"], ".2f"),
            pair["winner"] or "no claim",
        ]
        for kind, sizes in report["ratios"].items()
        for size, pairs in sizes.items()
        for pair in pairs
    ]
    return Table(
        title="All ratios of time, paired by round",
        columns=["Cell", "Ratio of", "Ratio", "95 % interval", "Faster"],
        rows=rows,
        is_detail=True,
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
        title="Microseconds for the same titles, string in and ids in",
        columns=["Length", "Backend", "String in", "Ids in", "Difference"],
        rows=rows,
    )


def _make_batch_table(report: Json, backends: Sequence[str]) -> Table:
    rows = []
    for size in report["ratios"]["batch"]:
        cells = [_cell(report, backend, "batch", size) for backend in backends]
        rows.append([size, *(f"{c['sequences_per_s']:,.0f}{_mark(c)}" for c in cells)])
    return Table(
        title="Sequences per second by batch size, ids in",
        columns=["Batch", *backends],
        rows=rows,
        note="Texts as they come, each batch padded to its longest.",
    )


def _make_cold_table(report: Json) -> Table:
    stages = ("start_ms", "import_ms", "load_ms", "first_ms", "total_ms")
    rows = [
        [backend, *(f"{entry['cold_start'][stage]['median']:.0f}" for stage in stages)]
        for backend, entry in report["backends"].items()
    ]
    return Table(
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
            memory.get("private_bytes", {}).get("median"),
            size["ids_bytes"],
            size["text_bytes"],
        ]
        rows.append([backend, *map(_format_megabytes, amounts)])
    return Table(
        title="Memory of a process up to its first answer, and size on disk, MB",
        columns=["Backend", "Peak RSS", "Private", "Disk, ids in", "Disk, string in"],
        rows=rows,
        note="1 MB is 10^6 bytes. Private: no other process could share it.",
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
        title="Largest difference of a probability",
        columns=["Backend", "Probes, ids in", "Probes, string in", "Workload"],
        rows=rows,
        note="Probes: from Keras's. Workload: from the first backend's. "
        f"Same top {report['protocol']['k']} everywhere{except_compressed}.",
    )


def _make_cells_table(report: Json) -> Table:
    return Table(
        title="What each cell holds",
        columns=["Cell", "Requests"],
        rows=[[name, note] for name, note in sorted(report["workload"]["notes"].items())],
        is_detail=True,
    )
