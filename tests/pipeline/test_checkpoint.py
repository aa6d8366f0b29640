"""State on disk of an unfinished training. (What it restores is held in test_train.)"""

from __future__ import annotations

import json
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.slow

EPOCHS, STEPS = 3, 4


@pytest.fixture
def model() -> Any:
    import keras

    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.layers.Input((3,)), keras.layers.Dropout(0.5), keras.layers.Dense(2, "softmax")]
    )
    model.compile(
        "adam",
        "sparse_categorical_crossentropy",
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="top_1")],
    )
    return model


def fit(model: Any, checkpoint: Any) -> None:
    rows, labels = np.eye(3, dtype="float32"), np.array([0, 1, 1])
    model.fit(
        *(np.repeat(part, 4, axis=0) for part in (rows, labels)),
        batch_size=3,
        epochs=EPOCHS,
        validation_data=(rows, labels),
        shuffle=False,
        callbacks=[checkpoint],
        verbose=0,
    )


class Spy:
    """Notes what lies in the folder after each saved state."""

    def __init__(self, checkpoint: Any) -> None:
        self.states: list[tuple[int, int, list[str]]] = []
        self._checkpoint, self._save = checkpoint, checkpoint._save
        checkpoint._save = self

    def __call__(self) -> None:
        self._save()
        folder = self._checkpoint.folder
        state = json.loads((folder / "checkpoint.json").read_text())
        files = sorted(path.name for path in folder.glob("*.h5"))
        self.states.append((state["epochs_done"], state["steps_done"], files))


def test_every_state_names_a_file_that_is_there_and_old_ones_go(model: Any, tmp_path: Path) -> None:
    from pipeline.checkpoint import Checkpoint

    checkpoint = Checkpoint(tmp_path, patience=9, save_every_s=0)
    spy = Spy(checkpoint)
    fit(model, checkpoint)
    # The last step of an epoch is followed by its end at once, and saves nothing of its own.
    places = [(epochs, steps) for epochs, steps, _ in spy.states]
    assert places == [
        *((0, 1), (0, 2), (0, 3), (1, 0)),
        *((1, 1), (1, 2), (1, 3), (2, 0)),
        *((2, 1), (2, 2), (2, 3), (3, 0)),
    ]
    for epochs, steps, files in spy.states:
        newest = f"step-{epochs:05d}-{steps:06d}" if steps else f"epoch-{epochs - 1:05d}"
        assert f"{newest}.weights.h5" in files
        assert len(files) <= 2  # the newest and the best


def test_a_stream_that_cannot_be_repeated_is_saved_between_epochs_only(
    model: Any, tmp_path: Path
) -> None:
    from pipeline.checkpoint import Checkpoint

    checkpoint = Checkpoint(tmp_path, patience=9, save_every_s=None)
    spy = Spy(checkpoint)
    fit(model, checkpoint)
    assert [(epochs, steps) for epochs, steps, _ in spy.states] == [(1, 0), (2, 0), (3, 0)]


def test_a_fresh_folder_restores_nothing(model: Any, tmp_path: Path) -> None:
    from pipeline.checkpoint import Checkpoint

    checkpoint = Checkpoint(tmp_path, patience=9)
    before = model.get_weights()
    checkpoint.restore(model)
    assert (checkpoint.epochs_done, checkpoint.steps_done) == (0, 0)
    for weight, unchanged in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, unchanged)


def test_a_state_of_before_steps_were_kept_is_understood(model: Any, tmp_path: Path) -> None:
    from pipeline.checkpoint import Checkpoint

    fit(model, Checkpoint(tmp_path, patience=9, save_every_s=None))
    path = tmp_path / "checkpoint.json"
    state = json.loads(path.read_text())
    for younger in ("steps_done", "metric_values"):
        del state[younger]
    path.write_text(json.dumps(state))
    checkpoint = Checkpoint(tmp_path, patience=9)
    checkpoint.restore(model)
    assert (checkpoint.epochs_done, checkpoint.steps_done) == (EPOCHS, 0)


@pytest.mark.parametrize(
    ("monitor", "curve", "best_epoch"),
    [
        ("val_top_1", [0.5, 0.7, 0.7, 0.6], 1),
        ("val_top_3", [0.5, 0.7, 0.7, 0.8], 3),
        ("val_cross_entropy", [0.9, 0.4, 0.4, 0.6], 1),
    ],
)
def test_the_monitored_metric_decides_which_epoch_is_best(
    monitor: str, curve: list[float], best_epoch: int, tmp_path: Path
) -> None:
    from pipeline.checkpoint import Checkpoint

    checkpoint = Checkpoint(tmp_path, patience=2, monitor=monitor)
    checkpoint._save = lambda: None  # type: ignore[method-assign]
    logs = {"val_top_1": 0.1, "val_top_3": 0.1, "val_cross_entropy": 0.1}
    for epoch, value in enumerate(curve):
        # The first of equals is kept; behind the second epoch after it patience is at its end.
        assert not checkpoint.is_finished
        checkpoint.set_model(types.SimpleNamespace(stop_training=False))
        checkpoint.on_epoch_end(epoch, {**logs, monitor: value})
    assert checkpoint.best_epoch == best_epoch
    assert checkpoint.is_finished == (len(curve) - 1 - best_epoch >= 2)
