"""What the commands of this stage share: where things lie, exit codes, the lock, a progress bar."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from export.bundle import Artifact, BundleError
from export.lookup import ArtifactError
from serving_compare.against import AgainstError, RegressionError
from serving_compare.agreement import AgreementError
from serving_compare.bench.profile import BenchOptionError
from serving_compare.bench.programs import ProgramError
from serving_compare.child import ChildError
from serving_compare.compare import BackendsError
from serving_compare.load.errors import LoadError
from serving_compare.report import ReportError
from serving_compare.results import ResultsError
from serving_compare.workload import LabelledTexts, TextsError, read_texts

CHECK_FAILED = 1
BAD_INPUT = 2
LOCK_FILE = ".lock"
BAD_INPUT_ERRORS = (
    AgainstError,
    ArtifactError,
    BackendsError,
    BenchOptionError,
    BundleError,
    ChildError,
    LoadError,
    OSError,
    ProgramError,
    ReportError,
    ResultsError,
    TextsError,
)


class LockedError(OSError):
    """The reports folder cannot be had: another comparison runs there, or it cannot be made."""


def build_root() -> Path:
    """Return the folder of everything generated: `GATETABLE_BUILD`, or `build`."""
    return Path(os.environ.get("GATETABLE_BUILD") or "build")


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn known errors into one line on stderr and the exit codes the documentation promises."""
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except (AgreementError, RegressionError) as err:
        click.echo(f"error: {err}", err=True)
        sys.exit(CHECK_FAILED)
    except BAD_INPUT_ERRORS as err:
        click.echo(f"error: {err}", err=True)
        sys.exit(BAD_INPUT)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Let a polite kill unwind as Ctrl-C does, so that the children are ended."""
    raise KeyboardInterrupt


@contextmanager
def lock_reports(reports: Path) -> Iterator[None]:
    """Hold the reports folder: two comparisons at once would time each other.

    What a killed comparison left there is removed.
    """
    try:
        reports.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise LockedError(
            f"{reports}: expected a folder to write reports to, found {err.strerror}. Choose "
            "another root with GATETABLE_BUILD."
        ) from err
    lock = FileLock(reports / LOCK_FILE)
    try:
        lock.acquire(blocking=False)
    except Timeout as err:
        raise LockedError(
            f"{reports / LOCK_FILE}: expected no other comparison at work, found one. "
            "Wait until it has ended: two at once would time each other."
        ) from err
    try:
        for stale in (*reports.glob(".scratch-*"), *reports.glob(".*.partial")):
            shutil.rmtree(stale, ignore_errors=True)
        yield
    finally:
        lock.release()


def read_split(
    build: Path, artifact: Artifact, texts: Path | None
) -> tuple[LabelledTexts | None, str]:
    """Return labelled texts and what they are in words, or None and "" where none are known.

    Args:
        build: Root of everything generated.
        artifact: Whose classes they have.
        texts: File to read, or None for the test split of the run the artifact came from.

    Raises:
        TextsError: The file cannot be used.
    """
    num_classes = len(artifact.labels)
    if texts is not None:
        return read_texts(texts, num_classes), "the file given"
    path = build / "runs" / str(artifact.manifest["provenance"]["run"]) / "test_split.jsonl"
    if not path.is_file():
        return None, ""
    return read_texts(path, num_classes), "the test split of the artifact's run"


def progress_bar(console: Console, *, draws_itself: bool = True) -> Progress:
    """Return a bar for one task, 0 to 1; one that does not draw itself is drawn by `refresh`."""
    # Twice a second: drawing is work, though on another core than the timing.
    return Progress(
        TextColumn("{task.description:<24}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        console=console,
        refresh_per_second=2,
        auto_refresh=draws_itself,
    )
