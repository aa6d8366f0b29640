"""`python -m pipeline data-service`, and the options by which a training uses one."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any, get_args

import click

from pipeline.service.config import ServiceConfig, Sharding
from pipeline.service.server import ServerConfig, run_service

_SERVER = ServerConfig()


def service_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that `take_service` reads."""
    for option in (
        click.option(
            "--data-service-timeout",
            default=ServiceConfig.timeout_s,
            show_default=True,
            help="Seconds to wait for a block of rows before the service is given up.",
        ),
        click.option(
            "--data-service-sharding",
            type=click.Choice(get_args(Sharding)),
            default=ServiceConfig.sharding,
            show_default=True,
            help="Shards go to whichever worker is free, or are dealt out beforehand.",
        ),
        click.option(
            "--data-service",
            metavar="GRPC://HOST:PORT",
            help="Read and tokenise on a service of `data-service`: docs/data_service.md.",
        ),
    ):
        function = option(function)
    return function


def take_service(options: dict[str, Any]) -> ServiceConfig | None:
    """Remove the options of `service_options` and return what they say.

    Raises:
        ValueError: An option is out of range.
    """
    address = options.pop("data_service")
    sharding = options.pop("data_service_sharding")
    timeout_s = options.pop("data_service_timeout")
    if address is None:
        return None
    return ServiceConfig(address=address, sharding=sharding, timeout_s=timeout_s)


@click.command("data-service")
@click.option(
    "--workers",
    default=_SERVER.workers,
    show_default=True,
    help="Processes that read and tokenise.",
)
@click.option(
    "--port",
    default=_SERVER.port,
    show_default=True,
    help="Of the dispatcher; worker i takes port + i.",
)
@click.option(
    "--host",
    default=_SERVER.host,
    show_default=True,
    help="Name or address of this machine for clients and other machines.",
)
@click.option(
    "--dispatcher",
    metavar="GRPC://HOST:PORT",
    help="Add the workers to this dispatcher of another machine instead of starting one.",
)
@click.option(
    "--remote-worker",
    "remote_workers",
    metavar="HOST:PORT",
    multiple=True,
    help="A worker that another machine will add; once for each.",
)
def data_service_command(**options: Any) -> None:
    """Run a tf.data service: a dispatcher, and workers that read shards and tokenise.

    Trainings use it by `train --data-service ADDRESS`. A worker that dies is named and started
    anew. Ctrl-C ends everything. TensorFlow's servers listen on every address of the machine, ask
    for no password and run what clients send: keep the ports behind a firewall.

    Example: python -m pipeline data-service --workers 4 --port 5050
    """
    config = ServerConfig(**options)

    def end(*_: Any) -> None:
        raise KeyboardInterrupt

    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), end)
    last_port = config.port + config.workers
    click.echo(
        f"Ports {config.port}-{last_port} listen on every address of this machine and ask for no "
        "password: keep them behind a firewall. Ctrl-C ends the service."
    )
    try:
        run_service(config, click.echo)
    except KeyboardInterrupt:
        click.echo("Ended; its workers too.")
