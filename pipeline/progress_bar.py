"""What a person sees of a training: one bar an epoch, one line a finished epoch."""

from __future__ import annotations

import time

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PROGRESS_EVERY = 10
"""Steps between two updates of the bar: reading the metrics waits for the step to end."""


class ProgressBar(keras.callbacks.Callback):
    """One bar an epoch and one line a finished epoch.

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
        super().__init__()
        self._console = console
        self._num_epochs = num_epochs
        self._steps = steps
        self._k = k
        self._start_step = start_step
        self._progress: Progress | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start the epoch's bar."""
        self._epoch_started = time.monotonic()
        self._progress = Progress(
            TextColumn(f"epoch {epoch + 1:>2}/{self._num_epochs}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("loss {task.fields[loss]:.3f}  top-1 {task.fields[top_1]:.3f}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("", total=self._steps, loss=0.0, top_1=0.0)
        self._progress.update(self._task, completed=self._start_step)
        self._progress.start()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Move the bar."""
        if self._progress and (batch + 1) % PROGRESS_EVERY == 0 and logs:
            self._progress.update(
                self._task,
                completed=self._start_step + batch + 1,
                loss=logs["loss"],
                top_1=logs["top_1"],
            )

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Replace the bar by a line of results."""
        self.close()
        self._start_step = 0
        if logs:
            k = self._k
            self._console.print(
                f"epoch {epoch + 1:>2}/{self._num_epochs}  "
                f"{time.monotonic() - self._epoch_started:5.0f} s  loss {logs['loss']:.3f}  "
                f"validation top-1 {logs['val_top_1']:.4f}  top-{k} {logs[f'val_top_{k}']:.4f}",
                highlight=False,
                soft_wrap=True,
            )

    def close(self) -> None:
        """Remove a bar that an exception left on the screen."""
        if self._progress:
            self._progress.stop()
            self._progress = None
