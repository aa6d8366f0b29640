"""`python -m pipeline train-bench`: what a training step costs here, however it is written."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from pipeline.config import DEFAULT_SHAPE, ModelConfig, TrainConfig
from pipeline.data_options import build_root, data_options, prepare_data
from pipeline.json_file import write_json
from pipeline.machine import describe_machine
from pipeline.rounds_bar import show_progress
from pipeline.training_bench.contenders import CONTENDERS, EAGER, FIT
from pipeline.training_bench.measure import (
    PROFILES,
    TrainingBenchError,
    check_promises,
    measure,
    summarise,
    train_in_full,
)

EXIT_CHECK_FAILED = 1
SCHEMA_VERSION = 1
HEADER = (
    *("contender", "ex/s", "step ms", "CPU ms", "start s", "peak GB", "pad"),
    *("against Keras fit", "against eager"),
)
TERMINAL_HEADER = (
    *("contender", "ex/s", "step\nms", "CPU\nms", "start\ns", "peak\nGB", "pad"),
    *("Keras\nfit", "eager"),
)
"""Fits into 80 columns: the ratios' medians only. Their intervals stand in the report."""


@click.command("train-bench")
@data_options
@click.option("--contenders", metavar="NAME,...", help=f"Of {', '.join(CONTENDERS)}. Default: all.")
@click.option("--units", default=DEFAULT_SHAPE["units"], show_default=True)
@click.option("--embed-dim", default=DEFAULT_SHAPE["embed_dim"], show_default=True)
@click.option("--bidirectional/--unidirectional", default=True, show_default=True)
@click.option("--batch-size", default=TrainConfig.batch_size, show_default=True)
@click.option("--seed", default=TrainConfig.seed, show_default=True)
@click.option("--rounds", type=click.IntRange(1, 50), help="Default: 5, and 1 with --quick.")
@click.option(
    "--in-full",
    is_flag=True,
    help="Then also train keras_fit and default in full, and compare their accuracy.",
)
@click.option("--quick", is_flag=True, help="One round of few steps: too little for a promise.")
def train_bench(
    contenders: str | None,
    units: int,
    embed_dim: int,
    bidirectional: bool,
    batch_size: int,
    seed: int,
    rounds: int | None,
    in_full: bool,
    quick: bool,
    **options: Any,
) -> None:
    """Measure training steps: eager loop, Keras fit, XLA, our layer, and what `train` does.

    Each contender trains the same model on batches of the same size of your data, kept in memory,
    in a process of its own, round after round. Examples/s, milliseconds and processor time a step,
    seconds to start (tracing, compiling), peak memory; ratios are taken by round. Writes
    build/reports/train-bench-<name>-<time>/. Some 20 minutes on 2 idle cores, --quick 3;
    --in-full adds two whole trainings.

    Exit code 1: a contender could not be measured.

    Example: python -m pipeline train-bench --contenders keras_fit,default --rounds 3
    """
    chosen = _choose(contenders)
    profile = PROFILES["quick" if quick else "full"]
    if rounds is not None:
        profile = type(profile)(**{**asdict(profile), "rounds": rounds})
    training = TrainConfig(batch_size=batch_size, seed=seed)
    console = Console()
    prepared = prepare_data(options, console)
    shape = {**DEFAULT_SHAPE, "units": units, "embed_dim": embed_dim}
    model = ModelConfig(
        vocab_size=prepared.vocab_size,
        num_classes=len(prepared.labels),
        bidirectional=bidirectional,
        **shape,
    )
    created = datetime.now(UTC)
    work: dict[str, Any] = {"contenders": chosen, "model": model, "training": training}
    quality: list[dict[str, Any]] = []
    try:
        with show_progress(console, width=28) as advance:
            entries = measure(prepared.folder, profile=profile, advance=advance, **work)
        if in_full:
            with show_progress(console, width=28) as advance:
                quality = train_in_full(prepared.folder, advance=advance, **work)
    except TrainingBenchError as err:
        click.echo(f"error: {err}", err=True)
        raise SystemExit(EXIT_CHECK_FAILED) from err
    summary = summarise(entries)
    report = {
        "schema_version": SCHEMA_VERSION,
        "name": prepared.name,
        "created_utc": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "fingerprint": prepared.fingerprint,
        "profile": asdict(profile),
        "model": model.to_json(),
        "training": training.to_json(),
        "machine": describe_machine(),
        "versions": {library: version(library) for library in ("tensorflow", "keras", "numpy")},
        "contenders": {name: CONTENDERS[name].title for name in chosen},
        "measurements": entries,
        "summary": summary,
        "quality": quality,
        "promises": check_promises(summary, quality),
    }
    target = _publish(report, created)
    console.print(make_table(report))
    for line in list_findings(report):
        console.print(line, highlight=False, soft_wrap=True)
    console.print(f"{target}", highlight=False, soft_wrap=True)


def _choose(names: str | None) -> list[str]:
    """Return the chosen contenders in the table's order."""
    if names is None:
        return list(CONTENDERS)
    wanted = {name.strip() for name in names.split(",")}
    if unknown := wanted - set(CONTENDERS):
        raise ValueError(
            f"--contenders: expected names among {', '.join(CONTENDERS)}, found "
            f"{', '.join(sorted(unknown))}."
        )
    return [name for name in CONTENDERS if name in wanted]


def _publish(report: dict[str, Any], created: datetime) -> Path:
    reports = build_root() / "reports"
    reports.mkdir(parents=True, exist_ok=True)
    target = reports / f"train-bench-{report['name'][:80]}-{created:%Y%m%dT%H%M%SZ}"
    with tempfile.TemporaryDirectory(prefix=".train-bench-", dir=reports) as partial:
        filled = Path(partial) / "report"
        filled.mkdir()
        write_json(filled / "train_bench.json", report)
        (filled / "train_bench.md").write_text(format_markdown(report), encoding="utf-8")
        filled.rename(target)
    return target


def _format_ratio(entry: dict[str, Any], rival: str) -> str:
    ratio = entry["ratios"].get(rival)
    if ratio is None or entry["contender"] == rival:
        return ""
    text = f"{ratio['median']:.2f}x"
    return text + (f" [{ratio['low']:.2f}, {ratio['high']:.2f}]" if ratio["rounds"] > 1 else "")


def _make_rows(report: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            entry["contender"],
            f"{entry['examples_per_s']:,.0f}",
            f"{entry['step_ms']:.1f}",
            f"{entry['cpu_ms']:.1f}",
            f"{entry['start_s']:.1f}",
            f"{entry['peak_bytes'] / 1e9:.1f}",
            f"{entry['padded_tokens']:.1f}",
            _format_ratio(entry, FIT),
            _format_ratio(entry, EAGER),
        )
        for entry in report["summary"]
    ]


def make_table(report: dict[str, Any]) -> Table:
    """Return the table for the terminal, slowest first."""
    table = Table(box=box.SIMPLE_HEAD)
    for index, column in enumerate(TERMINAL_HEADER):
        table.add_column(column, justify="right" if index else "left", no_wrap=True)
    for row in _make_rows(report):
        *figures, fit, eager = row
        table.add_row(*figures, fit.partition(" ")[0], eager.partition(" ")[0])
    return table


def list_findings(report: dict[str, Any]) -> list[str]:
    """Return what `default` decided about XLA, full trainings, and one line a promise."""
    plans = [entry["plan"] for entry in report["summary"] if entry["plan"]]
    k = report["training"]["num_predict"]
    trained = [
        f"{entry['contender']}, trained in full: validation top-1 {100 * entry['top_1']:.2f}, "
        f"top-{k} {100 * entry['top_k']:.2f}, {entry['wall_s']:.0f} s"
        for entry in report["quality"]
    ]
    promises = [
        f"{'held' if promise['is_held'] else 'NOT HELD'}: {promise['what']}: {promise['found']} "
        f"(promised {promise['target']})"
        for promise in report["promises"]
    ]
    return plans + trained + promises


def format_markdown(report: dict[str, Any]) -> str:
    """Return the report as Markdown: how it was measured, the table, the findings."""
    machine, profile = report["machine"], report["profile"]
    lines = [
        f"{report['created_utc']}, {machine['cpu']}, {machine['cores']} cores, TensorFlow "
        f"{report['versions']['tensorflow']}, Keras {report['versions']['keras']}. Batches of "
        f"{report['training']['batch_size']} rows of {report['name']}; {profile['rounds']} rounds, "
        f"medians of {profile['passes']} passes over {profile['steps']} batches "
        f"({profile['eager_steps']} for the eager loop). Ratios: examples a second by round, "
        "median [lowest, highest]. CPU ms: processor time of a step, all threads. pad: tokens a "
        "row, padding included.",
        "",
        "| " + " | ".join(HEADER) + " |",
        "|---" + "|--:" * (len(HEADER) - 1) + "|",
        *("| " + " | ".join(row) + " |" for row in _make_rows(report)),
        "",
        *(f"* `{name}`: {title}" for name, title in report["contenders"].items()),
        "",
        *(f"* {line}" for line in list_findings(report)),
    ]
    return "\n".join(lines).rstrip() + "\n"
