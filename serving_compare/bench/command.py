"""The command `bench`: `python -m serving_compare bench --help`."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import click
import numpy as np
from rich.console import Console

from export.bundle import BundleError, find_artifact, read_artifact
from export.lookup import LookupModel, read_lookup
from serving_compare.bench.profile import choose_profile
from serving_compare.bench.report import Json, publish_bench, read_parts, write_bench
from serving_compare.bench.run import Subject, run_bench
from serving_compare.bench.tables import make_bench_tables
from serving_compare.command_line import (
    build_root,
    exit_codes,
    lock_reports,
    progress_bar,
    read_split,
)
from serving_compare.compare import make_questions
from serving_compare.report import check_report_name
from serving_compare.text_table import print_tables


class NumberList(click.ParamType[tuple[int, ...]]):
    """Whole numbers separated by commas."""

    name = "N,N,..."

    def convert(
        self,
        value: str | tuple[int, ...],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[int, ...]:
        """Return the numbers."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(part) for part in value.split(","))
        except ValueError:
            self.fail(f"expected numbers separated by commas, found {value!r}.", param, ctx)


@click.command()
@click.option("--quick", is_flag=True, help="Under 2 minutes; claims no winner.")
@click.option("--units", type=NumberList(), help="State sizes H of the models; default: 128,256.")
@click.option(
    "--lengths", type=NumberList(), help="Tokens of the single rows; default: 1,2,5,10,20,40."
)
@click.option(
    "--artifact",
    type=click.Path(path_type=Path),
    help="For raw texts and cold starts; default: the newest, if there is one.",
)
@click.option("--seed", type=click.IntRange(0, 2**20), default=1, show_default=True)
@click.option("--output", metavar="NAME", help="Report name; default: bench-time.")
@click.option(
    "--rebuild",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Time nothing: write bench.json and bench.md anew from the raw results of a benchmark.",
)
def bench(
    quick: bool,
    units: tuple[int, ...] | None,
    lengths: tuple[int, ...] | None,
    artifact: Path | None,
    seed: int,
    output: str | None,
    rebuild: Path | None,
) -> None:
    """Time the lookup kernel, its floor and its peers on untrained models. Under 15 minutes.

    Leave the machine alone meanwhile: whatever else runs is in the numbers.

    \b
    Example:
      python -m serving_compare bench --quick --units 64 --lengths 1,20
    """  # noqa: D301  (click wants the character \b, not the two letters)
    console = Console()
    with exit_codes():
        if rebuild is not None:
            _print_bench(console, write_bench(rebuild, read_parts(rebuild)), rebuild)
            return
        profile = choose_profile(quick=quick, units=units, lengths=lengths)
        reports = build_root() / "reports"
        name = output or f"bench-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        with lock_reports(reports):
            check_report_name(reports, name)
            subject = _find_subject(artifact, profile.texts, seed)
            with (
                tempfile.TemporaryDirectory(prefix=".scratch-", dir=reports) as scratch,
                progress_bar(console) as bar,
            ):
                task = bar.add_task("models", total=1.0)
                parts = run_bench(
                    profile,
                    subject,
                    name=name,
                    seed=seed,
                    scratch=Path(scratch),
                    progress=lambda step, share: bar.update(
                        task, description=step, completed=share
                    ),
                )
                bar.update(task, description="statistics", completed=1.0)
                folder, content = publish_bench(reports, name, parts)
            _print_bench(console, content, folder)


def _find_subject(artifact: Path | None, count: int, seed: int) -> Subject | None:
    """The artifact asked for or the newest, with texts of its test split; None without any."""
    build = build_root()
    try:
        loaded = read_artifact(artifact or find_artifact(build / "artifacts"))
    except BundleError:
        if artifact is not None:
            raise
        return None
    questions = make_questions(loaded, *read_split(build, loaded, None))
    texts = questions.split.texts
    order = np.random.default_rng(seed).permutation(len(texts))[:count]
    chosen = [texts[int(i)] for i in order]
    files = read_lookup(loaded.lookup_path, check_hashes=False)
    ids, lengths = LookupModel(files, engine="numpy").encode(chosen[:1])
    return Subject(
        artifact=loaded,
        texts=chosen,
        ids=ids[0, : lengths[0]].tolist(),
        source=questions.source,
        has_word_table=files.words is not None,
        tolerance=files.tolerance,
    )


def _print_bench(console: Console, content: Json, folder: Path) -> None:
    print_tables(console, make_bench_tables(content))
    console.print(f"Report: {folder}", highlight=False, soft_wrap=True)
