"""What a person sees of a search, and how a worker tells its supervisor how far it is.

`SearchProgress` shows one bar for the search and one for each trial under way, and prints a line
for each ended trial. `ProgressWriter` writes a worker's progress to stdout, one JSON object a
line, and `SearchProgress.read_line` takes it from there.
"""

from __future__ import annotations

import json
import time
from statistics import median
from types import TracebackType
from typing import Protocol, Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from pipeline.config import describe_shape
from pipeline.trials import FailedTrial, Trial

EVERY_S = 0.5
"""Seconds between two updates of a trial's bar: reading the metrics waits for the step to end."""


class Reporter(Protocol):
    """What is told about the trial that a tuner is at."""

    def advance(self, tuner_id: str, share: float, note: str) -> None:
        """Tell that `share` of the trial is done, 0 to 1."""


class ProgressWriter:
    """Writes a worker's progress to stdout, for `SearchProgress.read_line`."""

    def advance(self, tuner_id: str, share: float, note: str) -> None:
        """Write one line."""
        click.echo(json.dumps({"share": round(share, 4), "note": note}))


class Silence:
    """Tells nobody: a worker on another machine."""

    def advance(self, tuner_id: str, share: float, note: str) -> None:
        """Do nothing."""


class SearchProgress:
    """The search on a console; a context, which takes the bars away at its end.

    Args:
        console: Where to; without a terminal there are lines only.
        total: Trials of the whole search.
        tuners: How many trials are under way at a time.
    """

    def __init__(self, console: Console, *, total: int, tuners: int = 1) -> None:
        self._console = console
        self._tuners = tuners
        self._bars: dict[str, TaskID] = {}
        self._seconds: list[float] = []
        self._best: Trial | None = None
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._total = total
        self._done = 0
        self._bar = self._progress.add_task(f"trial 0 of {total}", total=total, note="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def tell(self, line: str) -> None:
        """Print a line above the bars."""
        self._console.print(line, highlight=False, soft_wrap=True, markup=False)

    def count_done(self, trial: Trial | FailedTrial, seconds: float | None) -> None:
        """Count a trial that ended, now or in an earlier process."""
        self._done += 1
        if isinstance(trial, Trial):
            if self._best is None or trial.score > self._best.score:
                self._best = trial
            if seconds is not None:
                self._seconds.append(seconds)
        self._show()

    def begin(self, tuner_id: str, trial: Trial | FailedTrial) -> None:
        """Show the bar of a trial that a tuner begins."""
        self.close(tuner_id)
        cost = "" if trial.latency_us is None else f" {trial.predicted}"
        title = f"trial {trial.trial_id} {describe_shape(trial.values)}{cost}"
        self._bars[tuner_id] = self._progress.add_task(title, total=1.0, note="starts")

    def advance(self, tuner_id: str, share: float, note: str) -> None:
        """Move the bar of the trial that a tuner is at."""
        if tuner_id in self._bars:
            self._progress.update(self._bars[tuner_id], completed=share, note=note)

    def read_line(self, tuner_id: str, line: str) -> None:
        """Take over what a worker's `ProgressWriter` wrote; other lines are passed over."""
        try:
            fields = json.loads(line)
            share, note = float(fields["share"]), str(fields["note"])
        except (ValueError, TypeError, KeyError):
            return
        self.advance(tuner_id, share, note)

    def close(self, tuner_id: str) -> None:
        """Take the bar of a tuner away."""
        if tuner_id in self._bars:
            self._progress.remove_task(self._bars.pop(tuner_id))

    def end(self, trial: Trial | FailedTrial, seconds: float | None) -> None:
        """Print the line of a trial that ended."""
        shown = "  ".join(f"{key} {value}" for key, value in sorted(trial.values.items()))
        cost = "" if trial.latency_us is None else f"{trial.latency_us:.1f} us  "
        result = (
            f"validation top-1 {trial.score:.4f}"
            if isinstance(trial, Trial)
            else f"FAILED: {trial.failure}"
        )
        self.tell(f"trial {trial.trial_id}  {result}  {cost}{trial.table_mb:.1f} MB  {shown}")
        self.count_done(trial, seconds)

    def _show(self) -> None:
        note = ""
        if self._best is not None:
            note = f"best {self._best.score:.4f} (trial {self._best.trial_id})"
        left = self._total - self._done
        if self._seconds and left > 0:
            left_s = median(self._seconds) * left / self._tuners
            note += f", about {format_seconds(left_s)} left"
        self._progress.update(
            self._bar,
            completed=self._done,
            note=note,
            description=f"trial {self._done} of {self._total}",
        )


class Pace:
    """Says when it is time again: at most once every `EVERY_S` seconds."""

    def __init__(self) -> None:
        self._last = 0.0

    def is_due(self) -> bool:
        """Return whether it is time, and begin to wait anew if it is."""
        now = time.monotonic()
        if now - self._last < EVERY_S:
            return False
        self._last = now
        return True


def format_seconds(seconds: float) -> str:
    """Return a time as a person says it: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
