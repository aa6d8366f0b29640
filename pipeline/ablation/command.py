"""`python -m pipeline ablation`: the tf.data ladder on the user's own data."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import filelock
from rich.console import Console

from pipeline.config import DEFAULT_SHAPE, ModelConfig, TrainConfig
from pipeline.data_options import build_root, data_options, prepare_data
from pipeline.machine import describe_machine
from pipeline.rounds_bar import show_progress
from pipeline.tables.source import DataError

EXIT_CHECK_FAILED = 1


@click.command()
@data_options
@click.option("--rungs", metavar="NAME,...", help="Measure these only, beside naive.")
@click.option(
    "--storage",
    type=click.Choice(["local", "remote", "both"]),
    default="both",
    show_default=True,
    help="Local disk, simulated remote storage, or both.",
)
@click.option("--open-ms", default=100.0, show_default=True, help="Remote: delay of an open.")
@click.option("--read-ms", default=10.0, show_default=True, help="Remote: delay of a read.")
@click.option(
    "--records-per-read", default=256, show_default=True, help="Remote: rows a read brings."
)
@click.option("--batch-size", default=TrainConfig.batch_size, show_default=True)
@click.option("--seed", default=TrainConfig.seed, show_default=True)
@click.option("--quick", is_flag=True, help="Three minutes, rough, too small for the promises.")
@click.option(
    "--docs",
    "docs_folder",
    type=click.Path(path_type=Path),
    help="Make it the reference of the documentation in this folder.",
)
def ablation(
    rungs: str | None,
    storage: str,
    open_ms: float,
    read_ms: float,
    records_per_read: int,
    batch_size: int,
    seed: int,
    quick: bool,
    docs_folder: Path | None,
    **options: Any,
) -> None:
    """Measure what each step of a tf.data pipeline is worth, on your own data.

    Every rung of the ladder, from a naive pipeline to the product's own, on the local disk and
    on simulated remote storage: examples/s, memory, padding, waiting in a real training step.
    Each in a process of its own, each epoch checked to be every row exactly once. Writes
    build/reports/ablation-<name>-<time>/. Under 10 minutes on 2 idle cores.

    Exit code 1: a rung lost or repeated a row, or could not be measured.

    Example: python -m pipeline ablation --rungs prefetch,vectorised_map,default --storage local
    """
    training = TrainConfig(batch_size=batch_size, seed=seed)
    console = Console()
    prepared = prepare_data(options, console)

    from pipeline.run_folder import import_tensorflow

    import_tensorflow()
    from pipeline.ablation.measure import AblationError, measure
    from pipeline.ablation.report import (
        SCHEMA_VERSION,
        check_docs,
        format_promises,
        list_findings,
        make_tables,
        write_docs,
        write_report,
    )
    from pipeline.ablation.rungs import RUNGS
    from pipeline.ablation.schedule import PROFILES
    from pipeline.ablation.storage import Latency
    from pipeline.ablation.summary import check_promises, summarise

    if docs_folder is not None:
        check_docs(docs_folder)  # now, not behind ten minutes of work
    chosen = _choose_rungs(rungs, list(RUNGS))
    latency = Latency(open_ms=open_ms, read_ms=read_ms, records_per_read=records_per_read)
    latencies = {
        name: fields
        for name, fields in (("local", None), ("remote", latency.to_json()))
        if storage in (name, "both")
    }
    profile = PROFILES["quick" if quick else "full"]
    model = ModelConfig(
        vocab_size=prepared.vocab_size,
        num_classes=len(prepared.labels),
        **DEFAULT_SHAPE,
    )
    created = datetime.now(UTC)
    reports = build_root() / "reports"
    reports.mkdir(parents=True, exist_ok=True)
    try:
        with _scratch(reports) as scratch, show_progress(console) as advance:
            measured = measure(
                prepared,
                rungs=chosen,
                latencies=latencies,
                profile=profile,
                seed=seed,
                model=model,
                training=training,
                scratch=scratch,
                advance=advance,
            )
    except AblationError as err:
        click.echo(f"error: {err}", err=True)
        raise SystemExit(EXIT_CHECK_FAILED) from err
    summary = summarise(measured["measurements"])
    report = {
        "schema_version": SCHEMA_VERSION,
        "name": prepared.name,
        "created_utc": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "fingerprint": prepared.fingerprint,
        "train_rows": prepared.train.count,
        "profile": vars(profile),
        "seed": seed,
        "model": model.to_json(),
        "training": training.to_json(),
        "latencies": latencies,
        "machine": describe_machine(),
        "versions": {
            library: version(library) for library in ("tensorflow", "tensorflow-text", "keras")
        },
        "rungs": [
            {
                "name": rung.name,
                "title": rung.title,
                "base": rung.base,
                "is_per_element": rung.per_element,
            }
            for rung in (RUNGS[name] for name in chosen)
        ],
        **measured,
        "summary": summary,
        "promises": check_promises(summary),
    }
    target = reports / f"ablation-{prepared.name[:80]}-{created:%Y%m%dT%H%M%SZ}"
    with tempfile.TemporaryDirectory(prefix=".ablation-", dir=reports) as partial:
        filled = Path(partial) / "report"
        filled.mkdir()
        write_report(filled, report)
        filled.rename(target)
    for table in make_tables(report):
        console.print(table)
    slower = [finding for finding in list_findings(report) if "slower" in finding]
    for line in [*slower, *format_promises(report)]:
        console.print(line, highlight=False, soft_wrap=True)
    if docs_folder is not None:
        write_docs(docs_folder, report)
    console.print(f"{target}", highlight=False, soft_wrap=True)


def _choose_rungs(names: str | None, known: list[str]) -> list[str]:
    """Return the chosen rungs in the ladder's order, the naive one always among them."""
    if names is None:
        return known
    wanted = {name.strip() for name in names.split(",")} | {known[0]}
    if wanted <= set(known):
        return [name for name in known if name in wanted]
    raise ValueError(
        f"--rungs: expected names among {', '.join(known)}, found "
        f"{', '.join(sorted(wanted - set(known)))}."
    )


@contextmanager
def _scratch(reports: Path) -> Iterator[Path]:
    """Give an empty folder, gone afterwards; one ablation at a time, as two would time each other.

    Raises:
        DataError: Another ablation runs.
    """
    folder = reports / ".ablation-scratch"
    lock = filelock.FileLock(reports / ".ablation.lock", blocking=False)
    try:
        lock.acquire()
    except filelock.Timeout as err:
        raise DataError(
            f"{reports}: another ablation is running here, and two would measure each other. Wait "
            "for it to end, or stop it."
        ) from err
    try:
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()
