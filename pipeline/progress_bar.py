"""What a person sees of a training: one bar an epoch, one line a finished epoch."""

from __future__ import annotations

import time

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PROGRESS_EVERY = 10
"""Steps between two updates of the bar: reading the metrics waits for the step to end."""


class EpochBar(keras.callbacks.Callback):
    """One bar an epoch and one line a finished epoch, with the loss.

    Args:
        console: Where to.
        num_epochs: Epochs of the whole training.
        steps: Steps an epoch.
        title: What is being done, in front of the epoch's number.
        start_step: Steps of the first epoch that an earlier process has done.
    """

    def __init__(
        self,
        console: Console,
        *,
        num_epochs: int,
        steps: int,
        title: str = "epoch",
        start_step: int = 0,
    ) -> None:
        super().__init__()
        self._console = console
        self._num_epochs = num_epochs
        self._steps = steps
        self._title = title
        self._start_step = start_step
        self._progress: Progress | None = None

    def _format_step(self, logs: dict[str, float]) -> str:
        return f"loss {logs['loss']:.3f}"

    def _format_epoch(self, logs: dict[str, float]) -> str:
        return f"loss {logs['loss']:.3f}"

    def _format_number(self, epoch: int) -> str:
        return f"{self._title} {epoch + 1:>2}/{self._num_epochs}"

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start the epoch's bar."""
        self._epoch_started = time.monotonic()
        self._progress = Progress(
            TextColumn(self._format_number(epoch)),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[found]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("", total=self._steps, found="")
        self._progress.update(self._task, completed=self._start_step)
        self._progress.start()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Move the bar."""
        if self._progress and (batch + 1) % PROGRESS_EVERY == 0 and logs:
            self._progress.update(
                self._task,
                completed=self._start_step + batch + 1,
                found=self._format_step(logs),
            )

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Replace the bar by a line of results."""
        self.close()
        self._start_step = 0
        if logs:
            self._console.print(
                f"{self._format_number(epoch)}  "
                f"{time.monotonic() - self._epoch_started:5.0f} s  {self._format_epoch(logs)}",
                highlight=False,
                soft_wrap=True,
            )

    def close(self) -> None:
        """Remove a bar that an exception left on the screen."""
        if self._progress:
            self._progress.stop()
            self._progress = None


class ProgressBar(EpochBar):
    """The bars of a classifier, with its accuracies.

    Args:
        console: Where to.
        num_epochs: Epochs of the whole training.
        steps: Steps an epoch.
        k: The k of the top-k accuracy.
        start_step: Steps of the first epoch that an earlier process has done.
    """

    def __init__(
        self, console: Console, *, num_epochs: int, steps: int, k: int, start_step: int = 0
    ) -> None:
        super().__init__(console, num_epochs=num_epochs, steps=steps, start_step=start_step)
        self._k = k

    def _format_step(self, logs: dict[str, float]) -> str:
        return f"{super()._format_step(logs)}  top-1 {logs['top_1']:.3f}"

    def _format_epoch(self, logs: dict[str, float]) -> str:
        k = self._k
        return (
            f"{super()._format_epoch(logs)}  "
            f"validation top-1 {logs['val_top_1']:.4f}  top-{k} {logs[f'val_top_{k}']:.4f}"
        )
