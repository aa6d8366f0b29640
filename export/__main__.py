"""Command line of the export stage: `python -m export export | verify | score | wheel`."""

from __future__ import annotations

import os

# Read once, when NumPy is imported. A second OpenBLAS thread gains nothing at these sizes, and on a
# busy machine the two wait for each other: 0.8 s became 5 to 15 s over the test split.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, get_args

import click
from dotenv import load_dotenv
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from export.bundle import Artifact, BundleError, find_artifact
from export.compression import DEFAULT_MAX_ACCURACY_LOSS, Option, list_options
from export.diff_command import diff_command
from export.difference import AgreementError
from export.inspect_command import inspect_command
from export.layout_command import layout_command
from export.lookup import ArtifactError
from export.lookup.config import RecurrentDtype, TableDtype
from export.model_card import FORM_PATHS, describe_word_table
from export.preflight import DEFAULT_MAX_TABLE_MB, ExportError
from export.publish import BusyError, export_run
from export.rewrite.rewrite_command import rewrite_command
from export.score_command import score_command
from export.sizes import format_bytes
from export.store.errors import StoreError
from export.store.files import signature_path
from export.store.signing_command import keygen_command, load_signing_key, sign_option
from export.store.transfer_command import pull_command, upload_command
from export.store.versions_command import (
    list_command,
    promote_command,
    prune_command,
    rollback_command,
)
from export.text_onnx_command import text_onnx_command
from export.tf2onnx_graph import OracleError
from export.verify import verify_artifact
from export.wheel_command import wheel_command
from pipeline.run_folder import RunError, check_run_name, find_run

_BUILD = click.option(
    "--build",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build"),
    show_default=True,
    envvar="GATETABLE_BUILD",
    help="Root of everything generated.",
)


def _fail(error: Exception, code: int) -> NoReturn:
    """Print one known error and leave with its exit code."""
    click.echo(f"error: {error}", err=True)
    sys.exit(code)


@contextmanager
def _known_errors() -> Iterator[None]:
    """Turn known errors into exit codes: 1 for a failed check, 2 for bad input."""
    try:
        yield
    except (AgreementError, OracleError) as err:
        _fail(err, 1)
    except (BundleError, BusyError, ExportError, RunError, StoreError, OSError) as err:
        _fail(err, 2)


def _check_name(_: click.Context, option: click.Parameter, name: str | None) -> str | None:
    """Refuse names that could leave their folder, as a usage error."""
    if name is not None:
        try:
            check_run_name(name)
        except ValueError as err:
            raise click.BadParameter(str(err), param=option) from err
    return name


@contextmanager
def _progress_bar(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Show what is being done; counted steps get a bar."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("starting", total=None)

        def show(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total or None)

        yield show


def _print_forms(
    console: Console, artifact: Artifact, differences: Mapping[str, tuple[float, int]]
) -> None:
    """Print one row a form; `differences` holds its largest difference and the rows compared."""
    replayed = artifact.manifest["metrics"]["replayed"]
    table = Table(title=f"{artifact.name}, version {artifact.version}")
    table.add_column("backend")
    for column in ("size", "max |dp|", "top-1", f"top-{replayed['k']}", "rows compared"):
        table.add_column(column, justify="right")
    keras = replayed["keras"]
    table.add_row(
        "keras", "", "", f"{keras['top_1']:.2%}", f"{keras['top_k']:.2%}", str(replayed["rows"])
    )
    for form in (form for form in FORM_PATHS if form in differences):
        difference, rows = differences[form]
        size = sum(
            record["bytes"]
            for name, record in artifact.manifest["files"].items()
            if name == FORM_PATHS[form] or name.startswith(f"{FORM_PATHS[form]}/")
        )
        accuracy = replayed[form]
        table.add_row(
            form,
            format_bytes(size),
            f"{difference:.1e}",
            f"{accuracy['top_1']:.2%}",
            f"{accuracy['top_k']:.2%}",
            str(rows),
        )
    console.print(table)


def _print_options(
    console: Console, artifact: Artifact, latency_us: Mapping[Option, float]
) -> None:
    """Print what compressing the lookup folder costs; times only if they were just measured."""
    header, *rows = list_options(artifact.manifest["compression"], latency_us)
    table = Table(title="lookup folder, compressed")
    for number, column in enumerate(header):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Turn a trained run into an artifact: SavedModel, ONNX and lookup tables that agree."""
    load_dotenv(Path(".env"))


main.add_command(score_command)
main.add_command(wheel_command)
main.add_command(rewrite_command)
main.add_command(layout_command)
main.add_command(text_onnx_command)
main.add_command(inspect_command)
main.add_command(diff_command)
for _command in (upload_command, pull_command, keygen_command):
    main.add_command(_command)
for _command in (list_command, promote_command, rollback_command, prune_command):
    main.add_command(_command)


@main.command("export")
@_BUILD
@click.option(
    "--run", "run_name", callback=_check_name, help="Run to export; the newest when not given."
)
@click.option("--name", callback=_check_name, help="Artifact name; the dataset's when not given.")
@click.option("--force", is_flag=True, help="Export again even if nothing has changed.")
@click.option(
    "--max-table-mb",
    type=click.IntRange(1),
    default=DEFAULT_MAX_TABLE_MB,
    show_default=True,
    help="Refuse larger gate tables, in MiB.",
)
@click.option(
    "--lookup-table",
    type=click.Choice(get_args(TableDtype)),
    default="float32",
    show_default=True,
    help="How the lookup folder stores its gate tables; float32 is exact.",
)
@click.option(
    "--lookup-recurrent",
    type=click.Choice(get_args(RecurrentDtype)),
    default="float32",
    show_default=True,
    help="How the lookup folder stores its recurrent kernels; float32 is exact.",
)
@click.option(
    "--max-accuracy-loss",
    type=click.FloatRange(0, 1),
    default=DEFAULT_MAX_ACCURACY_LOSS,
    show_default=True,
    help="Refuse a compressed lookup folder that loses more top-1 or top-k accuracy, a fraction.",
)
@sign_option
def export_command(
    build: Path,
    run_name: str | None,
    name: str | None,
    force: bool,
    max_table_mb: int,
    lookup_table: TableDtype,
    lookup_recurrent: RecurrentDtype,
    max_accuracy_loss: float,
    key: Path | None,
) -> None:
    """Export a run in every form and publish it if all agree with the trained model.

    Writes <build>/artifacts/<name>/<version>/. Exit code 1 means that a form gave other answers
    than Keras, or that a compressed lookup folder lost too much accuracy; nothing is published
    then. What every compressed option costs is measured each time, chosen or not.

    Example: python -m export export --run 2026-wordnet --name wordnet
    """
    console = Console()
    with _known_errors():
        sign = load_signing_key(key) if key else None  # before an hour's work
        run_folder = find_run(build / "runs", run_name)
        with _progress_bar(Console(stderr=True)) as progress:
            result = export_run(
                run_folder,
                build / "artifacts",
                name=name,
                force=force,
                max_table_mb=max_table_mb,
                option=Option(lookup_table, lookup_recurrent),
                max_accuracy_loss=max_accuracy_loss,
                progress=progress,
            )
        if sign is not None:
            sign(result.artifact.folder)
            click.echo(f"Signed: {signature_path(result.artifact.folder)}", err=True)
    artifact = result.artifact
    parity = artifact.manifest["parity"]["backends"]
    _print_forms(
        console,
        artifact,
        {
            form: (entry["max_abs_probability_diff"], entry["rows"])
            for form, entry in parity.items()
        },
    )
    _print_options(console, artifact, result.latency_us)
    words = describe_word_table(artifact.manifest["word_table"])
    console.print(words, highlight=False, markup=False, soft_wrap=True)
    if result.is_new:
        console.print(f"Published {artifact.folder}", highlight=False, soft_wrap=True)
    else:
        console.print(
            f"{artifact.folder} was made from this run by this code: nothing to do. "
            "Pass --force to export it again.",
            highlight=False,
            soft_wrap=True,
        )


@main.command("verify")
@_BUILD
@click.argument("folder", required=False, type=click.Path(path_type=Path, file_okay=False))
def verify_command(build: Path, folder: Path | None) -> None:
    """Check a published artifact: every checksum, and its golden probes on every runtime.

    FOLDER is an artifact, wherever it was copied; the newest one of the build root when not
    given. Exit code 1 means that it is damaged or gives other answers than the trained model.

    Example: python -m export verify build/artifacts/wordnet/3
    """
    console = Console()
    with _known_errors():
        folder = folder or find_artifact(build / "artifacts")
        if not folder.is_dir():
            raise BundleError(f"{folder}: expected an artifact folder, found none.")
        try:
            result = verify_artifact(folder)
        except (BundleError, ArtifactError) as err:
            _fail(err, 1)
    _print_forms(
        console,
        result.artifact,
        {
            backend.name: (backend.max_abs_probability_diff, backend.rows)
            for backend in result.backends
        },
    )
    console.print(
        f"{folder}: undamaged, and every form gives what the trained model gave.",
        highlight=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    main()
