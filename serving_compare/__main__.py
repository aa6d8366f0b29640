"""Command line of the comparison: `python -m serving_compare --help`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from dotenv import load_dotenv
from rich.console import Console

from export.bundle import Artifact, find_artifact, read_artifact
from serving_compare.against import (
    AGAINST_FILE,
    check_alike,
    check_nothing_worse,
    compare_reports,
    format_against_markdown,
    format_summary,
    make_against_tables,
    read_report,
)
from serving_compare.backends import BACKENDS
from serving_compare.bench.command import bench
from serving_compare.calibrate import calibrate
from serving_compare.command_line import (
    build_root,
    exit_codes,
    lock_reports,
    progress_bar,
    read_split,
)
from serving_compare.compare import (
    Questions,
    choose_backends,
    describe_artifact,
    make_questions,
    run_comparison,
)
from serving_compare.load.command import load
from serving_compare.load.endure_command import endure
from serving_compare.load.http_run import run_http
from serving_compare.load.profile import HTTP_BACKENDS, HTTP_PROFILES
from serving_compare.load.results import Http
from serving_compare.losses import list_losses
from serving_compare.machine import read_machine
from serving_compare.markdown_report import format_harness
from serving_compare.peers import PEER_LIBRARIES
from serving_compare.report import (
    RAW_FOLDER,
    build_report,
    check_report_name,
    find_report,
    publish_report,
    write_report,
)
from serving_compare.results import merge_results, read_results
from serving_compare.schedule import PROFILES
from serving_compare.server.command import serve
from serving_compare.tables import make_tables
from serving_compare.text_table import print_tables
from serving_compare.verdict import find_verdict, format_verdict
from serving_compare.whole_file import write_whole

_against = click.option(
    "--against",
    metavar="REPORT",
    type=click.Path(path_type=Path),
    help="An earlier report: exit code 1 if anything got worse since.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Compare the forms of an artifact, honestly: what answers the same, and how fast.

    Everything lies under build/, or under GATETABLE_BUILD where that is set.

    \b
    Example:
      python -m serving_compare compare
      python -m serving_compare report build/reports/<name>
    """  # noqa: D301  (click wants the character \b, not the two letters)
    # In a group callback, so that `--help` of a command works in any folder.
    load_dotenv(Path(".env"))


@main.command()
@click.option(
    "--artifact", type=click.Path(path_type=Path), help="Artifact folder; default: the newest."
)
@click.option(
    "--texts",
    type=click.Path(path_type=Path),
    help='Lines of {"text", "label"}; default: the test split of the artifact\'s run.',
)
@click.option("--quick", "profile", flag_value="quick", help="About 40 s; claims no winner.")
@click.option("--thorough", "profile", flag_value="thorough", help="Up to an hour; with p99.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=1, show_default=True)
@click.option("--output", metavar="NAME", help="Report name; default: artifact-version-time.")
@click.option(
    "--backends",
    metavar="NAMES",
    help=f"Comma-separated, out of {', '.join(BACKENDS)}; default: all the artifact has.",
)
@click.option(
    "--peers",
    "with_peers",
    is_flag=True,
    help=f"Add {', '.join(PEER_LIBRARIES)}, as far as they are installed (extra `peers`).",
)
@click.option(
    "--http",
    "over_http",
    is_flag=True,
    help="Behind real servers too: highest rate within a p99 of 10 ms. About 12 minutes more.",
)
@_against
def compare(
    artifact: Path | None,
    texts: Path | None,
    profile: str | None,
    seed: int,
    output: str | None,
    backends: str | None,
    with_peers: bool,
    over_http: bool,
    against: Path | None,
) -> None:
    """Check that all backends agree, time them, write a report. About 4 minutes on 2 cores.

    Leave the machine alone meanwhile: whatever else runs is in the numbers.

    \b
    Example:
      python -m serving_compare compare --quick --backends onnx,lookup
    """  # noqa: D301  (click wants the character \b, not the two letters)
    build = build_root()
    reports = build / "reports"
    console = Console()
    with exit_codes(), lock_reports(reports):
        loaded = read_artifact(artifact or find_artifact(build / "artifacts"))
        name = output or f"{loaded.name}-{loaded.version}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        check_report_name(reports, name)
        old = read_report(against) if against else None
        if old:  # a look ahead: the same refusal in 3 minutes would be a pity
            check_alike(old, machine=read_machine(), artifact=describe_artifact(loaded))
        split, source = read_split(build, loaded, texts)
        wanted = [part.strip() for part in backends.split(",")] if backends else None
        chosen = choose_backends(loaded, wanted, with_peers=with_peers)
        questions = make_questions(loaded, split, source)
        with (
            tempfile.TemporaryDirectory(prefix=".scratch-", dir=reports) as scratch,
            progress_bar(console) as bar,
        ):
            task = bar.add_task("agreement", total=1.0)
            results = run_comparison(
                loaded,
                questions,
                chosen,
                PROFILES[profile or "default"],
                name=name,
                seed=seed,
                scratch=Path(scratch),
                progress=lambda step, share: bar.update(task, description=step, completed=share),
            )
            bar.update(task, description="statistics", completed=1.0)
        if over_http:
            served = chosen if wanted else [name for name in chosen if name in HTTP_BACKENDS]
            http = _compare_over_http(
                console, loaded, questions, served, profile or "default", seed
            )
            results = replace(results, http=http)
        folder = publish_report(reports, results)
        _print_report(console, build_report(results), folder, old)


@main.command()
@click.argument("folders", type=click.Path(path_type=Path), nargs=-1)
@click.option("--output", metavar="NAME", help="Name of the merged report, beside the first.")
@_against
def report(folders: tuple[Path, ...], output: str | None, against: Path | None) -> None:
    """Write a report's files anew from its raw results; by default the newest report's.

    With several FOLDERS their rounds are put together in a new report; they must be of the same
    artifact, machine and workload.

    \b
    Example:
      python -m serving_compare report build/reports/wordnet31-1-20260101T120000Z
    """  # noqa: D301  (click wants the character \b, not the two letters)
    with exit_codes():
        folders = folders or (find_report(build_root() / "reports"),)
        old = read_report(against) if against else None
        parts = [read_results(folder / RAW_FOLDER) for folder in folders]
        if len(parts) == 1:
            results, folder = parts[0], folders[0]
            write_report(folder, build_report(results))
        else:
            if output is None:
                raise click.UsageError("--output: expected a name for the merged report.")
            reports = folders[0].resolve().parent
            check_report_name(reports, output)
            with lock_reports(reports):
                results = merge_results(parts, name=output)
                folder = publish_report(reports, results)
        _print_report(Console(), build_report(results), folder, old)


def _compare_over_http(
    console: Console,
    artifact: Artifact,
    questions: Questions,
    backends: Sequence[str],
    profile: str,
    seed: int,
) -> Http:
    # A bar that draws by itself would be in the generator's way, which shares this core.
    with progress_bar(console, draws_itself=False) as bar:
        task = bar.add_task("HTTP", total=1.0)
        return run_http(
            artifact,
            questions.split.texts,
            backends,
            HTTP_PROFILES[profile],
            seed=seed,
            progress=lambda step, share: bar.update(
                task, description=step, completed=share, refresh=True
            ),
        )


def _print_report(
    console: Console, report: dict[str, Any], folder: Path, old: dict[str, Any] | None
) -> None:
    for line in format_verdict(find_verdict(report)):
        console.print(line, highlight=False, soft_wrap=True)
    console.print()
    print_tables(console, make_tables(report))
    console.print("Where the lookup table loses", style="bold")
    for line in list_losses(report):
        console.print(f"- {line}", highlight=False, soft_wrap=True)
    console.print(format_harness(report), highlight=False, soft_wrap=True)
    console.print(
        f"Not measured: {', '.join(report['not_measured'])}.", highlight=False, soft_wrap=True
    )
    console.print(f"Report: {folder}", highlight=False, soft_wrap=True)
    if old is not None:
        _print_against(console, report, folder, old)


def _print_against(
    console: Console, report: dict[str, Any], folder: Path, old: dict[str, Any]
) -> None:
    comparison = compare_reports(old, report)
    write_whole(folder / AGAINST_FILE, format_against_markdown(comparison))
    console.print()
    print_tables(console, make_against_tables(comparison))
    for line in format_summary(comparison):
        console.print(f"- {line}", highlight=False, soft_wrap=True)
    check_nothing_worse(comparison)


main.add_command(bench)
main.add_command(calibrate)
main.add_command(endure)
main.add_command(load)
main.add_command(serve)

if __name__ == "__main__":
    main()
