"""`python -m export upload | pull`: the command lines of transfers to and from S3."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from export.bundle import BundleError, find_artifact
from export.sizes import format_bytes
from export.store.deadline import Deadline, run_bounded
from export.store.errors import RefusedError, StoreError
from export.store.location import Location, parse_location
from export.store.signing_command import load_signing_key, sign_option

if TYPE_CHECKING:
    from export.store.s3 import ObjectStore
    from export.store.upload import Progress as ShowProgress

Result = TypeVar("Result")
DEFAULT_DEADLINE_S = 3600.0
BUCKET_VARIABLE = "S3_BUCKET_NAME"

artifacts_option = click.option(
    "--to",
    "artifacts",
    type=click.Path(path_type=Path, file_okay=False),
    default=lambda: Path(os.environ.get("GATETABLE_BUILD") or "build") / "artifacts",
    show_default="build/artifacts",
    help="Folder that holds <name>/<version>/.",
)
endpoint_option = click.option(
    "--endpoint-url",
    envvar="S3_ENDPOINT_URL",
    show_envvar=True,
    help="Address of an S3-compatible store; AWS when not given.",
)
deadline_option = click.option(
    "--deadline",
    "deadline_s",
    type=click.FloatRange(min=1),
    default=DEFAULT_DEADLINE_S,
    show_default=True,
    help="Seconds for everything, tries again included.",
)


@contextmanager
def known_errors() -> Iterator[None]:
    """Turn known errors into exit codes: 1 for a failed check, 2 for the rest."""
    try:
        yield
    except RefusedError as err:
        click.echo(f"error: {err}", err=True)
        sys.exit(1)
    except ModuleNotFoundError as err:
        if err.name not in ("boto3", "botocore", "cryptography"):
            raise
        click.echo(
            f"error: expected the package {err.name}, found none. Run "
            "`pip install 'gatetable[store]'`.",
            err=True,
        )
        sys.exit(2)
    except (StoreError, BundleError, OSError) as err:
        click.echo(f"error: {err}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        click.echo("\nStopped. What was finished is kept: run the same command to go on.", err=True)
        sys.exit(130)


@contextmanager
def _progress_bar(console: Console) -> Iterator[ShowProgress]:
    """Show what is being done; transfers get bytes, speed and the time left."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        stage, task = "", bar.add_task("starting", total=None)

        def show(what: str, done: int, total: int) -> None:
            nonlocal stage, task
            if what != stage:  # a new bar, so that speeds do not mix
                bar.remove_task(task)
                stage, task = what, bar.add_task(what, total=None)
            bar.update(task, completed=done, total=total or None)

        yield show


def open_store(location: Location, endpoint_url: str | None, deadline: Deadline) -> ObjectStore:
    """Return the bucket, importing boto3 only now.

    Raises:
        StoreError: Its settings cannot be used.
    """
    from export.store.s3 import ObjectStore

    return ObjectStore(location, endpoint_url=endpoint_url or None, deadline=deadline)


def run_with_store(
    location: Location,
    endpoint_url: str | None,
    deadline_s: float,
    work: Callable[[ObjectStore, ShowProgress], Result],
) -> Result:
    """Run `work` on a bucket, with a progress bar, within the deadline."""
    deadline = Deadline(deadline_s)
    with _progress_bar(Console(stderr=True)) as progress:
        return run_bounded(
            lambda: work(open_store(location, endpoint_url, deadline), progress), deadline
        )


def find_location(text: str | None) -> Location:
    """Return the address given, or that of the bucket in `S3_BUCKET_NAME`.

    Raises:
        StoreError: Neither is there.
    """
    if text is None:
        bucket = os.environ.get(BUCKET_VARIABLE)
        if not bucket:
            raise StoreError(
                f"upload: expected s3://bucket/prefix or the variable {BUCKET_VARIABLE}, found "
                "neither. Name a bucket."
            )
        text = f"s3://{bucket}"
    return parse_location(text)


def _split_arguments(arguments: tuple[str, ...]) -> tuple[Path | None, str | None]:
    """Tell a folder and an address apart; either may be missing."""
    urls = [each for each in arguments if "://" in each]
    folders = [each for each in arguments if "://" not in each]
    if len(urls) > 1 or len(folders) > 1:
        raise click.UsageError(
            f"expected one ARTIFACT and one s3://bucket/prefix, found {' '.join(arguments)!r}."
        )
    return (Path(folders[0]) if folders else None), (urls[0] if urls else None)


def say(text: str) -> None:
    """Print one line as it is."""
    Console().print(text, highlight=False, soft_wrap=True, markup=False)


@click.command("upload")
@click.argument("arguments", nargs=-1, metavar="[ARTIFACT] [s3://BUCKET/PREFIX]")
@endpoint_option
@deadline_option
@sign_option
@click.option(
    "--part-mb",
    type=click.IntRange(5, 5120),
    default=8,
    show_default=True,
    help="Parts of larger files, in MiB; one is held in memory for each of 4 threads.",
)
@click.option("--read-back", is_flag=True, help="Read what is stored to compare it; slow.")
@click.option("--promote", is_flag=True, help="Move `latest` here even from a higher version.")
@click.option("--dry-run", is_flag=True, help="Only say what would be sent.")
def upload_command(
    arguments: tuple[str, ...],
    endpoint_url: str | None,
    deadline_s: float,
    key: Path | None,
    part_mb: int,
    **flags: Any,
) -> None:
    """Upload and publish an artifact.

    ARTIFACT is a version's folder; the newest when not given. It is published as
    PREFIX/<name>/<version>, whole or not at all; PREFIX may be empty, and the bucket alone may come
    from S3_BUCKET_NAME. Exit code 1 means that another artifact has this version there already.

    Killed, the same command goes on where it was. Credentials are boto3's: AWS_ACCESS_KEY_ID and
    AWS_SECRET_ACCESS_KEY, profiles, roles.

    Example: python -m export upload build/artifacts/wordnet31/2 s3://models/texts --sign team.pem
    """
    folder, url = _split_arguments(arguments)
    with known_errors():
        from export.store.blobs import MIB
        from export.store.upload import UploadConfig, upload_artifact

        location = find_location(url)
        folder = folder or find_artifact(
            Path(os.environ.get("GATETABLE_BUILD") or "build") / "artifacts"
        )
        sign = load_signing_key(key) if key else None
        config = UploadConfig(
            folder=folder,
            location=location,
            part_bytes=part_mb * MIB,
            make_signature=sign,
            **flags,
        )
        result = run_with_store(
            location,
            endpoint_url,
            deadline_s,
            lambda store, progress: upload_artifact(store, config, progress),
        )
    sizes = f"{result.sent_files} of {result.files} contents, {format_bytes(result.sent_bytes)}"
    if config.dry_run:
        what = "publish it" if result.is_new else "change nothing else: it is published already"
        say(f"{result.place}: would send {sizes} of {format_bytes(result.size)}, and {what}.")
        return
    signed = ", signed" if result.is_signed else ""
    if result.is_new:
        say(f"Published {result.place}{signed}: sent {sizes} of {format_bytes(result.size)}.")
    else:
        healed = f"; {sizes} were missing and sent" if result.sent_files else ""
        say(f"{result.place}{signed}: already there, verified{healed}.")
    if not result.is_latest:
        say("Its `latest` names a higher version and was left so; --promote moves it here.")


@click.command("pull")
@click.argument("address", metavar="s3://BUCKET/PREFIX[/NAME[/VERSION]]", required=False)
@artifacts_option
@endpoint_option
@deadline_option
@click.option(
    "--public-key",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="GATETABLE_PUBLIC_KEY",
    show_envvar=True,
    help="Refuse what none of the keys in this file has signed.",
)
@click.option(
    "--max-gb",
    type=click.FloatRange(min=0, min_open=True),
    default=8.0,
    show_default=True,
    help="Refuse larger artifacts, in GiB.",
)
def pull_command(
    address: str | None,
    artifacts: Path,
    endpoint_url: str | None,
    deadline_s: float,
    public_key: Path | None,
    max_gb: float,
) -> None:
    """Fetch an artifact, check every byte of it, and publish it on disk.

    Without VERSION, or with `latest`, it is the one that the store's `latest` names, and `latest`
    on disk moves to it: a server that follows it changes over. A version asked for by number
    leaves `latest` alone. Exit code 1 means that a check failed: nothing was published, and what
    served goes on serving.

    Example: python -m export pull s3://models/texts/wordnet31 --public-key team.pub.pem
    """
    with known_errors():
        from export.store.pull import pull_artifact

        keys: Any = ()
        if public_key is not None:
            from export.store.signing import load_public_keys

            keys = load_public_keys(public_key)
        result = run_with_store(
            find_location(address),
            endpoint_url,
            deadline_s,
            lambda store, progress: pull_artifact(
                store,
                artifacts,
                progress,
                public_keys=keys,
                max_bytes=int(max_gb * 2**30),
            ),
        )
    signed = ", signature checked" if result.is_signed else ""
    if result.is_new:
        say(
            f"Published {result.folder}: {format_bytes(result.size)}, "
            f"{format_bytes(result.fetched_bytes)} of it fetched now, every sha256 checked{signed}."
        )
    else:
        say(f"{result.folder}: already there, verified{signed}.")
    if not result.is_latest:
        say(f"`latest` was left alone; `python -m export promote {result.folder}` moves it.")
