"""report.md: facts, all tables, where the lookup table loses, what was not measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving_compare.losses import list_losses
from serving_compare.tables import is_compressed, make_tables
from serving_compare.text_table import format_markdown_list, format_markdown_table
from serving_compare.verdict import find_verdict, format_verdict

Json = Mapping[str, Any]


def format_report_markdown(report: Json) -> str:
    """Return the whole report.md."""
    machine = report["machine"]
    parts = [
        f"# {report['name']}\n",
        *(f"{line}\n" for line in format_verdict(find_verdict(report))),
        f"{format_origin(report)} One thread each, one process a backend and round, unless said "
        "otherwise. How and why: `docs/measuring.md`.\n",
        f"{format_machine(machine)}. {format_versions(report)}.\n",
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


def format_origin(report: Json) -> str:
    """Return what was compared, how thoroughly and when."""
    artifact, protocol = report["artifact"], report["protocol"]
    return (
        f"Artifact {artifact['name']} version {artifact['version']} "
        f"(manifest sha256 {artifact['manifest_sha256'][:16]}), {format_model(artifact['model'])}. "
        f"Profile `{protocol['profile']['name']}`, {protocol['rounds']} rounds of "
        f"{protocol['profile']['rounds']} planned, seed {protocol['seed']}, begun "
        f"{report['created_utc']}."
    )


def format_machine(machine: Json) -> str:
    """Return the machine in one line."""
    return (
        f"{machine['cpu']}, {machine['cores']} cores ({' '.join(machine['flags'])}), "
        f"{machine['system']} {machine['kernel']}, governor {machine['governor'] or 'unknown'}, "
        f"load average {machine['load_average']} at the start"
    )


def format_versions(report: Json) -> str:
    """Return the libraries and their versions, comma-separated."""
    return ", ".join(f"{name} {version}" for name, version in report["versions"].items())


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
