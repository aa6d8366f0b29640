"""`python -m export score`: the command line of bulk scoring."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from export.lookup import ArtifactError
from export.part_store import ScoreError
from export.score import (
    DEFAULT_PART_ROWS,
    PartScorer,
    ScoreConfig,
    ScoreResult,
    score_file,
    score_in_threads,
)
from export.score import Progress as ShowProgress
from export.score_rows import BLOCK_ROWS
from export.utf8_stream import TableError


@contextmanager
def _progress_bar(console: Console) -> Iterator[ShowProgress]:
    """Show how much of the file is done, rows a second of this run, and the time it will take."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]:,} rows, {task.fields[rate]:,.0f} rows/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        stage, task = "", bar.add_task("starting", total=None, rows=0, rate=0.0)

        def show(what: str, done: int, total: int, rows: int) -> None:
            nonlocal stage, task
            if what != stage:
                bar.remove_task(task)
                stage, task = what, bar.add_task(what, total=None, rows=0, rate=0.0)
            bar.update(task, completed=done, total=total or None, rows=rows)
            # The bar's own speed forgets: parts that were kept do not count for long.
            speed = bar.tasks[0].speed or 0.0
            bar.update(task, rate=speed * rows / done if done else 0.0)

        yield show


def _count_cores() -> int:
    """Return the cores this process may use; macOS does not tell, and has all."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return cores or 1


def _find_scorer(use_ray: bool, workers: int | None) -> PartScorer:
    """Return what does the work: threads of this process, or workers of a Ray cluster."""
    if not use_ray:
        if workers is not None:
            raise ScoreError("--workers: expected --ray beside it, found none. Say --threads.")
        return score_in_threads
    try:
        from export.score_ray import score_on_ray
    except ImportError as err:
        raise ScoreError(
            f"--ray: expected the package ray, found: {err}. Run `pip install 'ray[data]'` on "
            "every machine of the cluster."
        ) from err
    return functools.partial(score_on_ray, workers=workers)


def _print_result(console: Console, target: Path, result: ScoreResult, workers: str) -> None:
    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    scored = result.rows - result.kept_rows
    rate = scored / result.elapsed_s if result.elapsed_s else 0.0
    kept = f", {result.kept_rows:,} kept from an earlier run" if result.kept_rows else ""
    say(
        f"{target}: {result.rows:,} rows; {scored:,} scored in {result.elapsed_s:.1f} s "
        f"({rate:,.0f} rows/s, engine {result.engine}, {result.workers} {workers}){kept}."
    )
    if result.blank_rows:
        say(f"{result.blank_rows:,} rows have no text: scored as one unknown token.")
    if result.rejects:
        say(
            f"{result.rejected_rows:,} rows have another number of fields than the header and are "
            f"not in it: see {result.rejects}."
        )


@click.command("score")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--text-column", default="title", show_default=True, help="Column of the texts.")
@click.option(
    "--k", type=click.IntRange(1), default=3, show_default=True, help="Labels a row, best first."
)
@click.option(
    "--batch",
    type=click.IntRange(1),
    default=DEFAULT_PART_ROWS,
    show_default=True,
    help=f"Rows held by a thread and kept as one part; rounded up to a multiple of {BLOCK_ROWS}.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    default=_count_cores,
    show_default="one a core",
    help="Threads that tokenise and compute.",
)
@click.option(
    "--engine",
    type=click.Choice(["auto", "native", "numpy"]),
    default="auto",
    show_default=True,
    help="What computes; auto takes the fastest there is.",
)
@click.option("--ray", "use_ray", is_flag=True, help="Score on a Ray cluster: docs/scaling.md.")
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Ray worker processes.  [default: the cluster's CPUs]",
)
@click.option("--restart", is_flag=True, help="Forget finished parts, and replace an existing OUT.")
def score_command(
    artifact: Path,
    source: Path,
    target: Path,
    text_column: str,
    k: int,
    batch: int,
    threads: int,
    engine: str,
    use_ray: bool,
    workers: int | None,
    restart: bool,
) -> None:
    """Score a column of a CSV, gzipped CSV or Parquet file.

    ARTIFACT is an exported artifact or its lookup/ folder. OUT ends in .csv, .csv.gz or .parquet
    and gets every column of IN, in the order of its rows, and label_1, probability_1, ... label_k,
    probability_k.

    Finished parts are kept in OUT.parts/ until OUT appears: killed, the same command goes on where
    it was. Rows without text are scored as one unknown token; rows with a wrong number of fields
    go to OUT.rejects.jsonl.

    Example: python -m export score build/artifacts/wordnet31/1 titles.csv.gz scored.parquet
    """
    try:
        score_parts = _find_scorer(use_ray, workers)
        config = ScoreConfig(
            artifact=artifact,
            source=source,
            target=target,
            text_column=text_column,
            k=k,
            part_rows=batch,
            threads=threads,
            engine=engine,
            restart=restart,
        )
        with _progress_bar(Console(stderr=True)) as progress:
            result = score_file(config, progress, score_parts=score_parts)
    except (ScoreError, TableError, ArtifactError, ImportError, ValueError, OSError) as err:
        click.echo(f"error: {err}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        click.echo("\nStopped. Finished parts are kept: run the same command to go on.", err=True)
        sys.exit(130)
    _print_result(Console(), target, result, "Ray workers" if use_ray else "threads")
