"""`python -m pipeline tune-workers`: a search by several processes of this machine."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import click
from rich.console import Console

from pipeline.tune_command import CHIEF_VARIABLES, print_search, take_search, tune_options

SUPERVISED = "GATETABLE_TUNE_SUPERVISED"
"""Set for the workers: they tell their progress on stdout, and end with their parent."""
_ARGUMENTS = "pipeline.tune_workers_command.arguments"


class _KeepsArguments(click.Command):
    """Keeps the arguments as they came: the workers are started with the same."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)


@click.command("tune-workers", cls=_KeepsArguments)
@click.option(
    "-n",
    "--workers",
    type=click.IntRange(1, 256),
    default=2,
    show_default=True,
    help="Processes, each with its share of the cores.",
)
@tune_options
@click.pass_context
def tune_workers(context: click.Context, workers: int, **options: Any) -> None:
    """Search hyperparameters with several processes, one trial each at a time.

    The same trials as `tune` with the same options, in the same folder; either goes on where the
    other was killed. A worker that dies is started again and gets its trial back. Ctrl-C ends
    everything. Memory: each worker holds a model and, with --cache memory, the tokenised rows.

    Example: python -m pipeline tune-workers -n 4 --max-trials 40 --max-minutes 60 --cache block
    """
    if os.environ.get(SUPERVISED):
        _work(options)
        return
    if given := [name for name in CHIEF_VARIABLES if os.environ.get(name)]:
        raise ValueError(
            f"environment: expected none of KerasTuner's variables, found {' and '.join(given)}: "
            "tune-workers starts a chief of its own. Unset them, or call `tune` on each machine."
        )

    def end(*_: Any) -> None:
        raise KeyboardInterrupt

    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), end)
    console = Console()
    request = take_search(options, console)
    from pipeline.tune_workers import make_worker_command, search_with_workers

    try:
        result = search_with_workers(
            request.data,
            request.training,
            request.tuners,
            request.config,
            workers=workers,
            command=make_worker_command(context.meta[_ARGUMENTS]),
            console=console,
        )
    except KeyboardInterrupt:
        click.echo("Ended; the workers too. The same command goes on; finished trials are kept.")
        raise
    print_search(result, context, console)


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os._exit(0)  # whatever is under way is run again: nothing to save


def _work(options: dict[str, Any]) -> None:
    """Be one of the workers: tell progress on stdout, and live as long as stdin is open."""
    threading.Thread(target=_end_with_parent, name="parent-watcher", daemon=True).start()
    request = take_search(options, Console(quiet=True))
    from pipeline.search import search_as_worker
    from pipeline.tune_progress import ProgressWriter

    search_as_worker(
        request.data, request.training, request.tuners, request.config, ProgressWriter()
    )
