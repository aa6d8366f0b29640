"""The tables of a benchmark, for terminal and Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from serving_compare.bench.forms import NATIVE
from serving_compare.sampling import COLD_BYTES
from serving_compare.text_table import (
    NOT_AVAILABLE,
    UNSTABLE,
    UNSTABLE_NOTE,
    Table,
    format_markdown_table,
)

Json = Mapping[str, Any]
NUMPY = "lookup numpy"
NULL = "null"
ALSO_OURS = (f"{NATIVE} int16", f"{NATIVE} int8", NUMPY)
"""Beside the fastest exact form, told against the fastest onnx form only."""


def format_bench_markdown(bench: Json) -> str:
    """Return the whole bench.md: facts and all tables."""
    machine, protocol = bench["machine"], bench["protocol"]
    profile = protocol["profile"]
    versions = ", ".join(f"{name} {version}" for name, version in bench["versions"].items())
    parts = [
        f"# {bench['name']}\n",
        f"Microbenchmarks, profile `{profile['name']}`, {protocol['processes']} fresh processes of "
        f"each kind ({profile['processes']} planned), seed {protocol['seed']}, begun "
        f"{bench['created_utc']}. Untrained models: one layer left to right, last pooling, ids in, "
        "probabilities out, one core, one thread. How and why: `docs/measuring.md`.\n",
        f"{machine['cpu']}, {machine['cores']} cores ({' '.join(machine['flags'])}), caches "
        f"{machine['caches']}, {machine['system']} {machine['kernel']}, load average "
        f"{machine['load_average']} at the start. {versions}.\n",
    ]
    for table in make_bench_tables(bench):
        parts += [f"## {table.title}\n", format_markdown_table(table)]
        if table.note:
            parts.append(table.note + "\n")
    return "\n".join(parts)


def make_bench_tables(bench: Json) -> list[Table]:
    """Return all tables with at least one row, the same for Markdown and terminal."""
    tables: list[Table] = []
    for units, model in bench["models"].items():
        tables += [
            _make_latency_table(units, model["warm"], "warm", ""),
            _make_speedup_table(units, model),
            _make_latency_table(
                units,
                model["cold"],
                "cold caches",
                f"{COLD_BYTES // 10**6} MB are written over before each call.",
            ),
            _make_step_table(units, model),
            _make_bulk_table(units, model),
            _make_agreement_table(units, model),
        ]
    tables += [
        _make_text_table(bench),
        *_make_start_tables(bench),
        _make_target_table(bench),
        _make_absent_table(bench),
    ]
    return [table for table in tables if table.rows]


def choose_exact(model: Json) -> str:
    """Return the fastest exact form of ours."""
    found: str = model["float32"] or NUMPY
    return found


def format_cell(cell: Json | None) -> str:
    """Return the median in microseconds, marked where it is unstable."""
    if cell is None:
        return NOT_AVAILABLE
    digits = 2 if cell["median_us"] < 10 else 1
    return f"{cell['median_us']:.{digits}f}" + ("" if cell["stable"] else UNSTABLE)


def format_ratio(found: Json | None, unit: str = "x") -> str:
    """Return a ratio with its interval: `3.02x [2.90, 3.10]`."""
    if found is None:
        return NOT_AVAILABLE
    interval = found["ci95"]
    text = f"{found['ratio']:.2f}{unit}"
    return text if interval is None else f"{text} [{interval[0]:.2f}, {interval[1]:.2f}]"


def list_forms(rows: Json) -> list[str]:
    """Return the forms of all rows, in the order of the tables."""
    return list(dict.fromkeys(form for row in rows.values() for form in row["forms"]))


def _make_latency_table(units: str, rows: Json, kind: str, note: str) -> Table:
    return Table(
        title=f"H={units}: microseconds by tokens, batch 1, {kind}",
        columns=["Form", *rows],
        rows=[
            [form, *(format_cell(row["forms"].get(form)) for row in rows.values())]
            for form in list_forms(rows)
        ],
        note=f"{note} {UNSTABLE_NOTE}".strip(),
    )


def _make_speedup_table(units: str, model: Json) -> Table:
    """Our fastest exact form against everything; our other forms against onnx."""
    warm, ours = model["warm"], choose_exact(model)
    pairs = []
    for form in list_forms(warm):
        if form.startswith(("lookup ", "onnx")) or form == NULL:
            continue
        pairs.append((ours, form))
    pairs = [(ours, "onnx"), *pairs]
    pairs += [(form, "onnx") for form in ALSO_OURS if form in list_forms(warm) and form != ours]
    rows = []
    for form, rival in pairs:
        found = [
            row["speedups"].get(form, {}).get(row["best"].get(rival, rival))
            for row in warm.values()
        ]
        if any(found):
            rows.append([f"{form} / {rival}", *(format_ratio(pair) for pair in found)])
    at: dict[str, list[str]] = {}
    for size, row in warm.items():
        at.setdefault(str(row["best"]["onnx"]), []).append(size)
    fastest = ", ".join(f"{form} at {' '.join(sizes)}" for form, sizes in at.items())
    return Table(
        title=f"H={units}: how many times faster, warm",
        columns=["Ours / rival", *warm],
        rows=rows,
        note=f"Ratios of medians paired by process, with 95 % intervals. onnx is its fastest form: "
        f"{fastest} tokens.",
    )


def _make_step_table(units: str, model: Json) -> Table:
    return Table(
        title=f"H={units}: one step of the recurrence and its floor",
        columns=["Form", "Weights", "Step ns", "Read ns", "Gates ns", "Floor / step"],
        rows=[
            [
                form,
                step["weights"],
                *(f"{step[name]:.0f}" for name in ("step_ns", "read_ns", "gates_ns")),
                format_ratio(step["floor_share"], ""),
            ]
            for form, step in model["steps"].items()
        ],
        note="Step: time at 20 tokens less time at 1, over 19. Floor: reading all recurrent "
        "weights once, and the gates alone, in the same processes.",
    )


def _make_bulk_table(units: str, model: Json) -> Table:
    bulk, ours = model["bulk"], choose_exact(model)
    rows = []
    for form in list_forms(bulk):
        row = [form]
        for cells in bulk.values():
            cell = cells["forms"].get(form)
            rate = NOT_AVAILABLE if cell is None else f"{cell['sequences_per_s']:,.0f}"
            row.append(rate + (UNSTABLE if cell and not cell["stable"] else ""))
        rows.append(row)
    for rival in next(iter(bulk.values()))["best"] if bulk else ():
        found = [
            cells["speedups"].get(ours, {}).get(cells["best"][rival]) for cells in bulk.values()
        ]
        rows.append([f"{ours} / best {rival}", *(format_ratio(pair) for pair in found)])
    return Table(
        title=f"H={units}: sequences a second by batch size",
        columns=["Form", *bulk],
        rows=rows,
        note="Lognormal lengths with mean 9. Sorted: by length, in pieces of so many.",
    )


def _make_agreement_table(units: str, model: Json) -> Table:
    return Table(
        title=f"H={units}: largest difference of a log-probability from float64",
        columns=["Form", "Difference"],
        rows=[
            [form, f"{found['max_abs_log_probability_diff']:.1e}"]
            for form, found in model["agreement"].items()
        ],
        is_detail=True,
    )


def _make_text_table(bench: Json) -> Table:
    text = bench["text"]
    rows = []
    if text is not None:
        ours = next(iter(text["speedups"]))
        for form, cell in text["forms"].items():
            found = text["speedups"][ours].get(form)
            rows.append([form, format_cell(cell), format_ratio(found) if found else ""])
    return Table(
        title="Raw text to its three best labels, batch 1, microseconds",
        columns=["Form", "Median", f"{next(iter(text['speedups'])) if text else ''} is faster"],
        rows=rows,
        note=""
        if text is None
        else f"{text['texts']} texts from {text['source']}; artifact "
        f"{text['artifact']['name']} version {text['artifact']['version']}, "
        f"{'with' if text['word_table'] else 'without'} a word table.",
    )


def _make_start_tables(bench: Json) -> Iterator[Table]:
    for interface, starts in (bench["cold_start"] or {}).items():
        stages = ("start_ms", "import_ms", "load_ms", "first_ms", "total_ms")
        yield Table(
            title=f"Cold start in milliseconds, {interface} in",
            columns=[
                *("Form", "Start", "Import", "Load", "First answer", "Total"),
                *("Memory MB", "Beyond null MB"),
            ],
            rows=[
                [
                    form,
                    *(f"{found[stage]['median']:.0f}" for stage in stages),
                    f"{found['peak_bytes']['median'] / 1e6:.1f}",
                    f"{found['beyond_null_bytes']['median'] / 1e6:.1f}",
                ]
                for form, found in starts.items()
            ],
            note="From the start of a process to its first answer, files in the page cache. null: "
            "Python, NumPy and the harness. Memory is the peak resident set.",
        )


def _make_target_table(bench: Json) -> Table:
    rows = []
    for target in bench["targets"]:
        value, interval, unit = target["value"], target["ci95"], target["unit"]
        if value is None:
            continue
        found = f"{value:.2f}{unit}"
        if interval is not None:
            found += f" [{interval[0]:.2f}, {interval[1]:.2f}]"
        held = target["held"]
        if held in ("yes", "no") and not target["decided"]:
            held += " (open: the interval does not exclude the other)"
        if target["reason"]:
            held += f": {target['reason']}"
        bound = "at most" if target["is_limit"] else "at least"
        rows.append([target["name"], f"{bound} {target['target']:g}{unit}", found, held])
    return Table(
        title="What is promised, and whether it holds here",
        columns=["Promise", "Target", "Found", "Held"],
        rows=rows,
        note="Promises that this run did not measure are left out.",
    )


def _make_absent_table(bench: Json) -> Table:
    rows = [
        [f"H={units}", form, reason]
        for units, model in bench["models"].items()
        for form, reason in model["unavailable"].items()
    ]
    return Table(title="Not timed", columns=["Model", "Form", "Why"], rows=rows)
