"""`python -m pipeline train-workers`: one training in several processes of this machine."""

from __future__ import annotations

import signal
from typing import Any

import click
from rich.console import Console


@click.command(
    "train-workers",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@click.option(
    "-n",
    "--workers",
    default=2,
    show_default=True,
    help="Processes; each takes its rows of a batch.",
)
@click.argument("train_options", nargs=-1, type=click.UNPROCESSED)
def train_workers(workers: int, train_options: tuple[str, ...]) -> None:
    """Train one model with several processes of this machine, each on its share of the cores.

    Takes every option of `train` and gives the same run: each batch is split among the workers,
    and their gradients are added up. Killed at any time, the same command goes on after the last
    finished epoch. On several machines set TF_CONFIG and call `train` on each (docs/scaling.md).

    Workers listen on every address of this machine and ask for no password: keep their ports
    behind a firewall.

    Example: python -m pipeline train-workers -n 2 --units 256 --num-epochs 12
    """
    from pipeline.data_options import prepare_data
    from pipeline.distributed.launcher import check_count, run_workers
    from pipeline.train_command import train

    check_count(workers)
    # Once, here: with its progress bar, and with the errors of options before any process begins.
    with train.make_context("train", list(train_options)) as context:
        options = dict(context.params)
        if options["strategy"] not in ("auto", "multi_worker"):
            raise ValueError(
                f"--strategy: expected multi_worker or nothing, found {options['strategy']}. Use "
                "`python -m pipeline train` for it."
            )
        prepare_data(options, Console())

    def end(*_: Any) -> None:
        raise KeyboardInterrupt

    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), end)
    try:
        run_workers(workers, train_options, lambda line: click.echo(line, err=True))
    except KeyboardInterrupt:
        click.echo("Ended; the workers too. The same command goes on.", err=True)
        raise SystemExit(130) from None
