"""State of an unfinished training on disk, exact to the step.

    checkpoint.json             where the training stands, its curves, the states below
    epoch-00003.weights.h5      weights and optimiser after an epoch: the best one's and the last's
    step-00004-000120.weights.h5    the same in the middle of an epoch

The JSON is replaced last and names the file it stands for, so a kill between two writes leaves
the previous state. Keras's `BackupAndRestore` keeps neither curves nor early-stopping state and
restarts the epoch, on weights that have seen a part of it; its weight files leave the random
states of the dropout layers out, and no file of Keras holds the running metrics of an epoch.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pipeline.accounting import Account
from pipeline.json_file import write_json

SAVE_EVERY_S = 30.0
"""A state takes 0.1 s to write at the default size, so this costs a third of a percent."""


def _seed_states(model: keras.Model) -> list[keras.Variable]:
    """Return the random states of the dropout layers, in layer order."""
    return [value for value in model.variables if value.path.endswith("/seed_generator_state")]


def _read_values(variables: list[keras.Variable]) -> list[Any]:
    """Return variables as JSON values; float32 survives the way there and back."""
    return [value.numpy().tolist() for value in variables]


def _assign_values(variables: list[keras.Variable], values: list[Any]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


class Checkpoint(keras.callbacks.Callback):
    """Keeps the newest and the best weights and the curves on disk, and stops early.

    Owns `checkpoint.json` and the weight files in `folder`.

    Args:
        folder: The partial run folder.
        patience: Epochs without a better validation before training stops.
        monitor: Name of the validation metric that decides; a cross entropy is better lower.
        save_every_s: Seconds between two states within an epoch; None saves at its end only, for
            a stream that another process cannot make again from the middle of an epoch on.
        account: What the training costs; its state is saved with the rest.
    """

    def __init__(
        self,
        folder: Path,
        patience: int,
        *,
        monitor: str = "val_top_1",
        save_every_s: float | None = SAVE_EVERY_S,
        account: Account | None = None,
    ) -> None:
        super().__init__()
        self.folder = folder
        self.patience = patience
        self.monitor = monitor
        self.save_every_s = save_every_s
        self.history: dict[str, list[float]] = {}
        self.epochs_done = 0
        self.steps_done = 0
        """Steps done of the epoch behind `epochs_done`."""
        self.best_epoch = -1
        self.account = account or Account()
        self._metric_values: list[Any] = []
        self._saved_at = time.monotonic()

    @property
    def _state_path(self) -> Path:
        return self.folder / "checkpoint.json"

    def _epoch_path(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:05d}.weights.h5"

    @property
    def _newest_path(self) -> Path:
        if self.steps_done:
            return self.folder / f"step-{self.epochs_done:05d}-{self.steps_done:06d}.weights.h5"
        return self._epoch_path(self.epochs_done - 1)

    @property
    def is_finished(self) -> bool:
        """Whether early stopping has ended this training."""
        return self.epochs_done - 1 - self.best_epoch >= self.patience

    def restore(self, model: keras.Model) -> None:
        """Load the newest complete state into a compiled `model`; no-op on a fresh folder."""
        if not self._state_path.is_file():
            return
        state = json.loads(self._state_path.read_text(encoding="utf-8"))
        self.epochs_done = state["epochs_done"]
        self.steps_done = state.get("steps_done", 0)
        self.best_epoch = state["best_epoch"]
        self.history = state["history"]
        if "account" in state:  # trainings begun by earlier versions kept the seconds alone
            self.account.take_over(state["account"])
        self._metric_values = state.get("metric_values", [])
        model.optimizer.build(model.trainable_variables)
        model.load_weights(self._newest_path)
        _assign_values(_seed_states(model), state["seed_states"])
        if self.steps_done:
            # Keras makes the metrics' variables in the first step, where theirs are needed.
            uniform = np.full((1, model.output_shape[-1]), 1 / model.output_shape[-1], "float32")
            model.compute_metrics(None, np.zeros(1, "int32"), uniform)

    def load_best(self, model: keras.Model) -> None:
        """Load the weights of the best epoch."""
        model.load_weights(self._epoch_path(self.best_epoch))

    def _save(self) -> None:
        """Write the state, then forget the weights nobody needs any more."""
        self._saved_at = time.monotonic()
        self.account.end_lap("train")
        self.model.save_weights(self._newest_path, overwrite=True)
        write_json(
            self._state_path,
            {
                "epochs_done": self.epochs_done,
                "steps_done": self.steps_done,
                "best_epoch": self.best_epoch,
                "history": self.history,
                "account": self.account.to_json(),
                "seed_states": _read_values(_seed_states(self.model)),
                "metric_values": _read_values(self.model.metrics_variables)
                if self.steps_done
                else [],
            },
        )
        keep = {self._newest_path, self._epoch_path(self.best_epoch)}
        for path in self.folder.glob("*.weights.h5"):
            if path not in keep:
                path.unlink()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Give an epoch that is gone on with the metrics of its first part."""
        if self.steps_done:
            _assign_values(self.model.metrics_variables, self._metric_values)
        self._first_step = self.steps_done

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Save the state where it is time to, unless the epoch's end is about to."""
        is_last = batch + 1 == self.params["steps"]
        if self.save_every_s is None or is_last:
            return
        if time.monotonic() - self._saved_at < self.save_every_s:
            return
        self.steps_done = self._first_step + batch + 1
        self._save()

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """What came before was training."""
        self.account.end_lap("train")

    def on_test_end(self, logs: dict[str, float] | None = None) -> None:
        """What came before was validation."""
        self.account.end_lap("validation")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Record the epoch and its state."""
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        sign = -1.0 if self.monitor == "val_cross_entropy" else 1.0
        curve = [sign * value for value in self.history[self.monitor]]
        self.best_epoch = max(range(len(curve)), key=lambda index: (curve[index], -index))
        self.epochs_done = epoch + 1
        self.steps_done = 0
        self._save()
        if self.is_finished:
            self.model.stop_training = True
