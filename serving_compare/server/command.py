"""`python -m serving_compare serve`: the options, and what can be wrong with them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from export.bundle import MANIFEST_FILE, Artifact, BundleError, find_artifact, read_artifact
from serving_compare.backends import BACKENDS
from serving_compare.command_line import BAD_INPUT, build_root, exit_codes
from serving_compare.compare import choose_backends
from serving_compare.machine import allowed_cores
from serving_compare.server.config import Limits, Sibling, WorkerConfig
from serving_compare.server.errors import ServerError
from serving_compare.server.listener import bind_socket, format_url
from serving_compare.server.logs import LEVELS, set_up_logs
from serving_compare.server.model_slot import find_latest
from serving_compare.server.supervisor import Group, Supervisor


def split_cores(context: click.Context, option: click.Parameter, value: str | None) -> Any:
    """Return core numbers of a comma list; refuse those this process may not use."""
    if not value:
        return ()
    known = allowed_cores() or []
    try:
        cores = tuple(int(part) for part in value.split(","))
    except ValueError as err:
        raise click.BadParameter(
            f"expected numbers with commas between them, found {value!r}."
        ) from err
    for core in cores:
        if core not in known:
            raise click.BadParameter(f"expected cores out of {known}, found {core}.")
    return cores


def find_served(artifact: Path | None, build: Path) -> tuple[Path, bool, Artifact]:
    """Return the folder to serve, whether its `latest` is followed, and the artifact to begin with.

    Args:
        artifact: A version folder, an artifact's folder, or None for the newest artifact.
        build: Root of everything generated.

    Raises:
        BundleError: There is no such artifact, or it is damaged.
    """
    folder = artifact or find_artifact(build / "artifacts").parent
    if (folder / MANIFEST_FILE).is_file():
        return folder.resolve(), False, read_artifact(folder)
    if not folder.is_dir():
        raise BundleError(
            f"{folder}: expected an artifact's folder or one of its versions, found no folder. "
            "Export a run with `make export`."
        )
    return folder.resolve(), True, read_artifact(find_latest(folder))


def find_backends(names: str, artifact: Artifact) -> list[str]:
    """Return the wanted backends in the order given.

    Raises:
        BackendsError: One is unknown, or the artifact has no files for it.
        ServerError: One is named twice.
    """
    wanted = [name.strip() for name in names.split(",")]
    choose_backends(artifact, [*wanted, "lookup"])  # it refuses `null` alone, which can be served
    for name in wanted:
        if wanted.count(name) > 1:
            raise ServerError(
                f"--backends: expected each name once, found {name} twice. For more processes of "
                "one backend use --workers."
            )
    return wanted


@click.command()
@click.option(
    "--artifact",
    type=click.Path(path_type=Path),
    help="A version folder, or an artifact's folder whose `latest` is followed; default: the "
    "newest artifact, followed.",
)
@click.option(
    "--backends",
    metavar="NAMES",
    default="lookup",
    show_default=True,
    help=f"Comma-separated, out of {', '.join(BACKENDS)}.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Of the first backend; the next ones follow. 0: any that are free.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Processes of each backend.",
)
@click.option(
    "--cores", callback=split_cores, help="Comma list of cores the workers may use; default: all."
)
@click.option(
    "--threads",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Of one worker's runtime.",
)
@click.option(
    "--max-body-bytes",
    type=click.IntRange(1, 2**30),
    default=Limits.max_body_bytes,
    show_default=True,
    help="Longer bodies are refused with 413.",
)
@click.option(
    "--max-batch",
    type=click.IntRange(1, 2**20),
    default=Limits.max_batch,
    show_default=True,
    help="Texts or rows of ids in one request.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(1, 2**20),
    help="Ids of one row; default: the artifact's limit. Texts are cut at the artifact's.",
)
@click.option(
    "--queue-size",
    type=click.IntRange(1, 2**20),
    default=Limits.queue_size,
    show_default=True,
    help="Requests that may wait; more are refused with 429.",
)
@click.option(
    "--max-wait-ms",
    type=click.FloatRange(0),
    default=Limits.max_wait_ms,
    show_default=True,
    help="Whoever would wait, or has waited, longer is refused with 429.",
)
@click.option(
    "--deadline-ms",
    type=click.FloatRange(0),
    default=Limits.deadline_ms,
    show_default=True,
    help="Whoever has waited longer is answered 504; for a large --max-wait-ms.",
)
@click.option(
    "--body-timeout-ms",
    type=click.FloatRange(1),
    default=Limits.body_timeout_ms,
    show_default=True,
    help="For a whole body to come, else 408.",
)
@click.option(
    "--head-timeout-ms",
    type=click.FloatRange(1),
    default=Limits.head_timeout_ms,
    show_default=True,
    help="For a whole head to come, else the connection is closed.",
)
@click.option(
    "--drain-seconds",
    type=click.FloatRange(0),
    default=10.0,
    show_default=True,
    help="For accepted requests to finish after SIGTERM.",
)
@click.option(
    "--micro-batch",
    type=click.IntRange(0, 4096),
    default=0,
    show_default=True,
    help="Waiting requests computed in one call; 0: off.",
)
@click.option("--access-log", is_flag=True, help="Log each request.")
@click.option("--log-level", type=click.Choice(LEVELS), default="info", show_default=True)
@click.option("--page/--no-page", default=True, show_default=True, help="A page to try it on.")
@click.option(
    "--ready-file",
    type=click.Path(path_type=Path),
    help="JSON written once everything answers: pid, and each backend's url and workers.",
)
def serve(
    *,
    artifact: Path | None,
    backends: str,
    host: str,
    port: int,
    workers: int,
    cores: tuple[int, ...],
    threads: int,
    drain_seconds: float,
    access_log: bool,
    log_level: str,
    page: bool,
    ready_file: Path | None,
    **limits: Any,
) -> None:
    """Answer over HTTP, each backend on a port of its own, until SIGTERM or Ctrl-C.

    \b
    Example:
      python -m serving_compare serve --backends lookup,onnx
      curl -H 'content-type: application/json' -d '{"instances": "a small cat"}' \\
        http://127.0.0.1:8000/v1/models/wordnet31:predict
    """  # noqa: D301  (click wants the character \b, not the two letters)
    with exit_codes(), contextlib.ExitStack() as stack:
        try:
            folder, follow, loaded = find_served(artifact, build_root())
            names = find_backends(backends, loaded)
            if ready_file is not None and not ready_file.absolute().parent.is_dir():
                raise ServerError(
                    f"--ready-file {ready_file}: expected its folder to exist, found none."
                )
            listeners = [
                stack.enter_context(bind_socket(host, port and port + number))
                for number in range(len(names))
            ]
            urls = [format_url(host, listener.getsockname()[1]) for listener in listeners]
            siblings = tuple(map(Sibling, names, urls))
            metrics = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="gatetable-metrics-"))
            )
            groups = [
                Group(
                    config=WorkerConfig(
                        backend=sibling.backend,
                        artifact=str(folder),
                        follow=follow,
                        limits=Limits(**limits),
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
                    url=sibling.url,
                    metrics=make_folder(metrics / sibling.backend),
                )
                for sibling, listener in zip(siblings, listeners, strict=True)
            ]
            announce(loaded, siblings)
            set_up_logs(log_level, pid=os.getpid())
            if cores and hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(
                    0, cores
                )  # workers are born there, so imports disturb no other
            code = asyncio.run(Supervisor(groups, workers=workers, ready_file=ready_file).run())
        except ServerError as err:
            click.echo(f"error: {err}", err=True)
            sys.exit(BAD_INPUT)
    sys.exit(code)


def make_folder(folder: Path) -> Path:
    """Make a folder and return it."""
    folder.mkdir()
    return folder


def announce(artifact: Artifact, siblings: Sequence[Sibling]) -> None:
    """Say on stdout what is served where."""
    click.echo(f"{artifact.name}, version {artifact.version}:")
    for sibling in siblings:
        click.echo(f"  {sibling.backend:<14}{sibling.url}")
