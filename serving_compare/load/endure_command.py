"""`python -m serving_compare endure`: what is asked of a server over a long time, and found."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from export.bundle import Artifact, find_artifact, read_artifact
from serving_compare.command_line import (
    CHECK_FAILED,
    build_root,
    exit_codes,
    lock_reports,
    progress_bar,
    read_split,
)
from serving_compare.compare import choose_backends, make_questions
from serving_compare.load.checks import Check
from serving_compare.load.endure import SCENARIOS, Setup, find_capacity
from serving_compare.load.profile import NUM_TEXTS
from serving_compare.machine import read_machine, read_versions

SCHEMA_VERSION = 1


@click.command()
@click.option(
    "--scenario",
    "chosen",
    type=click.Choice(list(SCENARIOS)),
    multiple=True,
    help="May be repeated; default: all.",
)
@click.option(
    "--artifact", type=click.Path(path_type=Path), help="Version folder; default: the newest."
)
@click.option("--backend", default="lookup", show_default=True)
@click.option(
    "--capacity",
    type=click.FloatRange(1, 1e6),
    help="Requests a second that one worker holds; default: searched for first.",
)
@click.option("--duration", type=click.FloatRange(1), default=600.0, show_default=True)
@click.option("--overload", type=click.FloatRange(1), default=60.0, show_default=True)
@click.option("--drains", type=click.IntRange(1), default=100, show_default=True)
@click.option("--crashes", type=click.IntRange(1), default=50, show_default=True)
@click.option("--swaps", type=click.IntRange(1), default=5, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=1, show_default=True)
@click.option(
    "--output", type=click.Path(path_type=Path), help="JSON; default: build/endure-<time>.json."
)
def endure(
    chosen: Sequence[str],
    artifact: Path | None,
    backend: str,
    capacity: float | None,
    duration: float,
    overload: float,
    drains: int,
    crashes: int,
    swaps: int,
    seed: int,
    output: Path | None,
) -> None:
    """Load a server of ours for a long time and mistreat it: about 25 minutes with the defaults.

    \b
    steady    70 % of the capacity for --duration seconds: no error, no growth of memory
    overload  twice the capacity for --overload seconds: refusals at once, then back to normal
    drain     --drains times SIGTERM under load: no accepted request is lost
    crash     --crashes times kill -9 of one of two workers: back in 2 s
    swap      --swaps new versions of the artifact under load: none is noticed

    Exit code 1 when something asked does not hold.
    """  # noqa: D301  (click wants the character \b, not the two letters)
    build = build_root()
    console = Console()
    with exit_codes(), lock_reports(build / "reports"):
        loaded = read_artifact(artifact or find_artifact(build / "artifacts"))
        choose_backends(loaded, [backend])
        texts = choose_texts(build, loaded)
        with progress_bar(console, draws_itself=False) as bar:
            task = bar.add_task("capacity", total=1.0)

            def progress(step: str, share: float) -> None:
                bar.update(task, description=step, completed=share, refresh=True)

            progress("capacity", 0.0)
            setup = Setup(
                artifact=loaded,
                backend=backend,
                texts=texts,
                capacity_per_s=capacity or find_capacity(loaded, backend, texts, seed=seed),
                seed=seed,
                duration_s=duration,
                overload_s=overload,
                drains=drains,
                crashes=crashes,
                swaps=swaps,
                progress=progress,
            )
            checks = []
            for name in chosen or SCENARIOS:
                progress(name, 0.0)
                checks += SCENARIOS[name](setup)
                progress(name, 1.0)
        result = make_result(setup, checks)
        path = output or build / f"endure-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print_checks(console, setup, checks)
        console.print(f"Written: {path}", highlight=False, soft_wrap=True)
    sys.exit(0 if result["holds"] else CHECK_FAILED)


def choose_texts(build: Path, artifact: Artifact) -> list[str]:
    """Return the first texts of the test split, or the artifact's own probes without one."""
    split, source = read_split(build, artifact, None)
    texts = make_questions(artifact, split, source).split.texts
    return [text for text in texts if text.strip()][:NUM_TEXTS]


def make_result(setup: Setup, checks: Sequence[Check]) -> dict[str, Any]:
    """Return the content of the JSON file."""
    return {
        "schema_version": SCHEMA_VERSION,
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "artifact": {"name": setup.artifact.name, "version": setup.artifact.version},
        "machine": read_machine(),
        "versions": read_versions(),
        "backend": setup.backend,
        "capacity_per_s": setup.capacity_per_s,
        "settings": {
            "seed": setup.seed,
            "duration_s": setup.duration_s,
            "overload_s": setup.overload_s,
            "drains": setup.drains,
            "crashes": setup.crashes,
            "swaps": setup.swaps,
        },
        "checks": [check.to_json() for check in checks],
        "holds": all(check.holds for check in checks),
    }


def print_checks(console: Console, setup: Setup, checks: Sequence[Check]) -> None:
    """Print what was asked, what was found, and whether the one is the other."""
    table = Table(
        title=f"{setup.backend}, one worker holds {setup.capacity_per_s:,.0f} requests a second"
    )
    for column in ("Scenario", "What", "Asked", "Found", "Holds"):
        table.add_column(column, overflow="fold")
    for check in checks:
        table.add_row(
            check.scenario,
            check.subject,
            check.asked,
            check.found,
            "yes" if check.holds else "NO",
            style=None if check.holds else "bold red",
        )
    console.print(table)
