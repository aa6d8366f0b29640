"""`python -m export list | promote | rollback | prune`: the command lines of versions."""

from __future__ import annotations

import os
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from export.bundle import iterate_versions
from export.sizes import format_bytes
from export.store import versions
from export.store.errors import StoreError
from export.store.location import is_version, parse_location
from export.store.transfer_command import (
    deadline_option,
    endpoint_option,
    known_errors,
    run_with_store,
    say,
)


def _artifacts() -> Path:
    return Path(os.environ.get("GATETABLE_BUILD") or "build") / "artifacts"


def find_folder(text: str | None) -> Path:
    """Return `<artifacts>/<name>` from a path or a name; the only one there is when None.

    Raises:
        StoreError: There is none, or more than one.
    """
    if text is not None:
        path = Path(text)
        return path if path.is_dir() or "/" in text else _artifacts() / text
    names = versions.list_names(_artifacts())
    if len(names) != 1:
        raise StoreError(
            f"{_artifacts()}: expected one artifact, found {', '.join(names) or 'none'}. "
            + ("Name one of them." if names else "Export a run with `make export`.")
        )
    return _artifacts() / names[0]


@click.command("list")
@click.argument("place", required=False, metavar="[FOLDER|s3://BUCKET/PREFIX]")
@endpoint_option
@deadline_option
def list_command(place: str | None, endpoint_url: str | None, deadline_s: float) -> None:
    """List artifacts and their versions, on disk or in a bucket.

    FOLDER is an artifact's folder or one that holds several; build/artifacts when not given. The
    version that `latest` names is marked.

    Example: python -m export list s3://models/texts
    """
    with known_errors():
        if place is not None and "://" in place:
            _list_bucket(place, endpoint_url, deadline_s)
        else:
            _list_folder(Path(place) if place else _artifacts())


def _list_folder(folder: Path) -> None:
    names = {folder.name: folder} if any(iterate_versions(folder)) else {}
    names = names or {name: folder / name for name in versions.list_names(folder)}
    if not names:
        raise StoreError(
            f"{folder}: expected artifacts, found none. Export a run with `make export`."
        )
    rows = [(name, row) for name, each in names.items() for row in versions.list_versions(each)]
    table = Table()
    for column in ("artifact", "version", "", "size", "top-1", "signature", "published, UTC"):
        right = column in ("version", "size", "top-1")
        table.add_column(column, justify="right" if right else "left", no_wrap=True)
    for name, row in rows:
        table.add_row(
            name,
            str(row.number),
            "latest" if row.is_latest else "",
            "" if row.size is None else format_bytes(row.size),
            "" if row.top_1 is None else f"{row.top_1:.2%}",
            "there" if row.is_signed else "",
            f"{row.published:%Y-%m-%d %H:%M}",
        )
    Console().print(table)
    for name, row in rows:
        if row.defect is not None:
            say(f"{names[name] / str(row.number)}: damaged, {row.defect}.")


def _list_bucket(place: str, endpoint_url: str | None, deadline_s: float) -> None:
    from export.store.listing import list_bucket

    rows = run_with_store(
        parse_location(place),
        endpoint_url,
        deadline_s,
        lambda store, progress: list_bucket(store, progress),
    )
    table = Table()
    table.add_column("artifact")
    table.add_column("version", justify="right")
    table.add_column("")
    table.add_column("published, UTC")
    for row in rows:
        published = f"{row.published:%Y-%m-%d %H:%M}"
        table.add_row(row.name, str(row.version), "latest" if row.is_latest else "", published)
    Console().print(table)


@click.command("promote")
@click.argument("folder", metavar="FOLDER/VERSION", type=click.Path(path_type=Path))
def promote_command(folder: Path) -> None:
    """Point `latest` at a version, after reading it whole.

    A server that follows `latest` changes over between two requests. Exit code 1 means that the
    version is damaged; `latest` stays as it is then.

    Example: python -m export promote build/artifacts/wordnet31/2
    """
    with known_errors():
        if not is_version(folder.name):
            raise StoreError(
                f"{folder}: expected an artifact's folder and the number of a version, as in "
                f"build/artifacts/wordnet31/2, found {folder.name!r} at its end. Add the number."
            )
        moved = versions.promote(folder.parent, int(folder.name))
    say(f"{folder.parent}/latest names {folder.name}{'' if moved else ' already'}.")


@click.command("rollback")
@click.argument("folder", required=False)
def rollback_command(folder: str | None) -> None:
    """Point `latest` back at the version it named before.

    FOLDER is an artifact's folder or its name; the only one when not given. A second rollback goes
    one further back. Exit code 1 means that the version to go back to is damaged.

    Example: python -m export rollback wordnet31
    """
    with known_errors():
        found = find_folder(folder)
        before, now = versions.rollback(found)
    say(f"{found}/latest names {now} again, no longer {before}.")


@click.command("prune")
@click.argument("place", required=False, metavar="[FOLDER|s3://BUCKET/PREFIX[/NAME]]")
@click.option("--keep", type=click.IntRange(1), required=True, help="Versions to keep, the newest.")
@click.option("--dry-run", is_flag=True, help="Only say which would go.")
@click.option(
    "--grace-hours",
    type=click.FloatRange(min=0),
    help="In a bucket: files and unfinished uploads younger than this stay.  [default: 24]",
)
@endpoint_option
@deadline_option
def prune_command(
    place: str | None,
    keep: int,
    dry_run: bool,
    grace_hours: float | None,
    endpoint_url: str | None,
    deadline_s: float,
) -> None:
    """Delete old versions of an artifact, on disk or in a bucket.

    FOLDER is an artifact's folder or its name; the only one when not given. The version that
    `latest` names is kept in any case, and so is the one that a rollback goes to: in a bucket, the
    one below `latest`.

    In a bucket the files that no other version names go too. Uploads may be under way meanwhile:
    what they need stays. Killed, the same command goes on.

    Example: python -m export prune s3://models/texts/wordnet31 --keep 3 --dry-run
    """
    with known_errors():
        if place is not None and "://" in place:
            _prune_bucket(place, keep, dry_run, grace_hours, endpoint_url, deadline_s)
        elif grace_hours is not None:
            raise click.UsageError("--grace-hours: expected s3://bucket/prefix, found a folder.")
        else:
            _prune_folder(place, keep, dry_run)


def _prune_folder(place: str | None, keep: int, dry_run: bool) -> None:
    found = find_folder(place)
    gone = versions.prune(found, keep, dry_run=dry_run)
    left = sorted(iterate_versions(found))
    say(f"{found}: {_describe_gone(gone, left, dry_run)}.")


def _describe_gone(gone: list[int], left: list[int], dry_run: bool) -> str:
    return (
        f"{'would delete' if dry_run else 'deleted'} {', '.join(map(str, gone)) or 'nothing'}; "
        f"there {'are' if dry_run else 'remain'} {', '.join(map(str, left))}"
    )


def _prune_bucket(
    place: str,
    keep: int,
    dry_run: bool,
    grace_hours: float | None,
    endpoint_url: str | None,
    deadline_s: float,
) -> None:
    from export.store.bucket_prune import DEFAULT_GRACE_H, BucketPruneConfig, prune_bucket

    hours = DEFAULT_GRACE_H if grace_hours is None else grace_hours
    config = BucketPruneConfig(keep=keep, grace_s=hours * 3600, dry_run=dry_run)
    result = run_with_store(
        parse_location(place),
        endpoint_url,
        deadline_s,
        lambda store, progress: prune_bucket(store, config, progress),
    )
    left = sorted(result.left + result.gone) if dry_run else result.left
    say(f"{result.place}: {_describe_gone(result.gone, left, dry_run)}.")
    say(
        f"{'Would delete' if dry_run else 'Deleted'} {result.files} files that no version names, "
        f"{format_bytes(result.size)}, and {result.uploads} unfinished uploads."
    )
    if result.young:
        say(
            f"{result.young} more files that no version names are younger than {hours:g} hours and "
            "stay until a later prune."
        )
