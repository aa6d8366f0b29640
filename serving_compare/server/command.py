"""`python -m serving_compare serve`: the options, and what of them is wrong."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import click

from export.bundle import MANIFEST_FILE, find_artifact, read_artifact
from serving_compare.backends import BACKENDS
from serving_compare.command_line import BAD_INPUT, build_root, exit_codes
from serving_compare.compare import BackendsError
from serving_compare.server.config import Limits, Sibling, WorkerConfig
from serving_compare.server.errors import ServerError
from serving_compare.server.supervisor import Supervisor, bind_socket


def _split_cores(context: click.Context, option: click.Parameter, value: str | None) -> Any:
    try:
        return tuple(int(part) for part in value.split(",")) if value else ()
    except ValueError as err:
        raise click.BadParameter(f"expected numbers with commas between, found {value!r}.") from err


@click.command()
@click.option(
    "--artifact",
    type=click.Path(path_type=Path),
    help="A version folder, or an artifact's folder, whose `latest` is then followed; default: "
    "the newest artifact, followed.",
)
@click.option("--backends", default="lookup", show_default=True, help=f"Of {', '.join(BACKENDS)}.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
@click.option("--workers", type=click.IntRange(1, 256), default=1, show_default=True)
@click.option("--cores", callback=_split_cores, help="Comma list; workers are pinned to them.")
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True)
@click.option("--max-body-bytes", type=click.IntRange(1), default=2**20, show_default=True)
@click.option("--max-batch", type=click.IntRange(1), default=256, show_default=True)
@click.option("--max-tokens", type=click.IntRange(1))
@click.option("--queue-size", type=click.IntRange(0), default=64, show_default=True)
@click.option("--max-wait-ms", type=click.FloatRange(0), default=15.0, show_default=True)
@click.option("--deadline-ms", type=click.FloatRange(0), default=1000.0, show_default=True)
@click.option("--drain-seconds", type=click.FloatRange(0), default=10.0, show_default=True)
@click.option("--micro-batch", type=click.IntRange(0), default=0, show_default=True)
@click.option("--access-log", is_flag=True)
@click.option("--log-level", default="info", show_default=True)
@click.option("--page/--no-page", default=True, show_default=True)
@click.option("--ready-file", type=click.Path(path_type=Path))
def serve(
    artifact: Path | None,
    backends: str,
    host: str,
    port: int,
    workers: int,
    cores: tuple[int, ...],
    threads: int,
    max_body_bytes: int,
    max_batch: int,
    max_tokens: int | None,
    queue_size: int,
    max_wait_ms: float,
    deadline_ms: float,
    drain_seconds: float,
    micro_batch: int,
    access_log: bool,
    log_level: str,
    page: bool,
    ready_file: Path | None,
) -> None:
    """Answer over HTTP: one port a backend, until SIGTERM or Ctrl-C."""
    with exit_codes():
        try:
            folder = artifact or find_artifact(build_root() / "artifacts").parent
            follow = not (folder / MANIFEST_FILE).is_file()
            read_artifact(find_artifact(folder.parent, folder.name) if follow else folder)
            names = [name.strip() for name in backends.split(",")]
            for name in names:
                if name not in BACKENDS:
                    raise BackendsError(
                        f"--backends: expected names out of {', '.join(BACKENDS)}, found {name!r}."
                    )
            sockets = [bind_socket(host, port and port + number) for number in range(len(names))]
            siblings = tuple(
                Sibling(name, f"http://{host}:{listener.getsockname()[1]}")
                for name, listener in zip(names, sockets, strict=True)
            )
            limits = Limits(
                max_body_bytes=max_body_bytes,
                max_batch=max_batch,
                max_tokens=max_tokens,
                queue_size=queue_size,
                max_wait_ms=max_wait_ms,
                deadline_ms=deadline_ms,
                micro_batch=micro_batch,
            )
            groups = [
                (
                    WorkerConfig(
                        backend=name,
                        artifact=str(folder.resolve()),
                        follow=follow,
                        limits=limits,
                        siblings=siblings,
                        socket_fd=listener.fileno(),
                        threads=threads,
                        cores=cores,
                        drain_seconds=drain_seconds,
                        accept_while_loading=True,
                        access_log=access_log,
                        log_level=log_level,
                        page=page,
                    ),
                    sibling.url,
                )
                for name, listener, sibling in zip(names, sockets, siblings, strict=True)
            ]
            code = asyncio.run(Supervisor(groups, workers, ready_file).run())
        except ServerError as err:
            click.echo(f"error: {err}", err=True)
            sys.exit(BAD_INPUT)
    sys.exit(code)
