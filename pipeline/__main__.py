"""Command line of the pipeline: `python -m pipeline data | train | tune | baseline | ...`.

Options beat environment variables; `.env` in the working directory is read for variables that are
not set. Heavy libraries are imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from dotenv import load_dotenv
from rich.console import Console
from rich.table import Table

from pipeline.ablation.command import ablation
from pipeline.baselines.command import baseline
from pipeline.cache_command import clean_cache
from pipeline.cudnn_check import cudnn_check
from pipeline.data_options import data_options, prepare_data
from pipeline.distributed.command import train_workers
from pipeline.evaluation.command import evaluate_command
from pipeline.legacy.command import import_cudnn
from pipeline.run_folder import RunError
from pipeline.runs_command import runs_command
from pipeline.service.command import data_service_command
from pipeline.tables.source import DataError
from pipeline.train_command import train
from pipeline.training_bench.command import train_bench
from pipeline.tune_command import tune
from pipeline.tune_workers_command import tune_workers

EXIT_BAD_INPUT = 2


class _Group(click.Group):
    """Turns the errors a user can cause into one line and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (DataError, RunError, ValueError, OSError) as err:
            click.echo(f"error: {err}", err=True)
            ctx.exit(EXIT_BAD_INPUT)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Prepare a table of text and labels, and train GRU classifiers on it.

    \b
    The embedded dataset:     python -m pipeline train
    Your own CSV:             python -m pipeline train --source news.csv.gz --text-column headline
    Several files:            python -m pipeline train --source 'news/*.jsonl.gz'
    A CSV inside a ZIP:       ZIPFILE_NAME=news.zip FILE_NAME=news.csv python -m pipeline train
    Another place to write:   GATETABLE_BUILD=/data/gatetable python -m pipeline train
    """  # noqa: D301  (click's \b keeps the lines apart)
    load_dotenv(Path(".env"))


cli.add_command(ablation)
cli.add_command(baseline)
cli.add_command(clean_cache)
cli.add_command(cudnn_check)
cli.add_command(data_service_command)
cli.add_command(evaluate_command)
cli.add_command(import_cudnn)
cli.add_command(runs_command)
cli.add_command(train)
cli.add_command(train_bench)
cli.add_command(train_workers)
cli.add_command(tune)
cli.add_command(tune_workers)


@cli.command()
@data_options
def data(**options: Any) -> None:
    """Clean, split and tokenise a table into build/data/<name>/, and describe it in a data card.

    Bad rows are counted and sampled into rejects.jsonl, never silently lost. The 8:1:1 split
    hashes the text itself: adding rows moves none, and no text is in two splits. A second call on
    the same file and options does nothing.

    Example: python -m pipeline data --source news.csv --label-column section
    """
    from pipeline.data_card.card import list_warnings

    console = Console()
    prepared = prepare_data(options, console)
    table = Table("split", "rows", title=f"{prepared.name}: {len(prepared.labels)} classes")
    for split in ("train", "validation", "test"):
        table.add_row(split, f"{getattr(prepared, split).count:,}")
    console.print(table)
    for line in [*list_warnings(prepared.folder), f"{prepared.folder}"]:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


if __name__ == "__main__":
    cli(prog_name="python -m pipeline")
