"""A search in TensorBoard's HParams tab: the space, and each trial's values and results.

logs/                        the domains, once
logs/<trial>/                values, validation top-1, predicted time, size of the tables
logs/<trial>/train, .../validation    curves, by Keras's TensorBoard callback
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf
from keras_tuner.engine import hyperparameters as kinds
from tensorboard.plugins.hparams import api

from pipeline.trials import FailedTrial, Trial

TOP_1 = "search/validation_top_1"
PREDICTED_US = "search/predicted_us"
TABLE_MB = "search/table_mb"
_METRICS = {
    TOP_1: "validation top-1",
    PREDICTED_US: "predicted us",
    TABLE_MB: "tables, MB",
}


def _make_domain(entry: Any) -> Any:
    if isinstance(entry, kinds.Choice):
        return api.Discrete(entry.values)
    if isinstance(entry, kinds.Boolean):
        return api.Discrete([True, False])
    return api.RealInterval(float(entry.min_value), float(entry.max_value))


def write_domains(logs: Path, space: list[Any]) -> None:
    """Write what is searched, unless an earlier process did.

    Args:
        logs: Folder of all logs of the search.
        space: KerasTuner's entries.
    """
    if any(logs.glob("events*")):
        return
    with tf.summary.create_file_writer(str(logs)).as_default():
        api.hparams_config(
            hparams=[api.HParam(entry.name, _make_domain(entry)) for entry in space],
            metrics=[api.Metric(tag, display_name=name) for tag, name in _METRICS.items()],
        )


def write_trial(logs: Path, trial: Trial | FailedTrial) -> None:
    """Write an ended trial's values and results; a failed one has no score."""
    with tf.summary.create_file_writer(str(logs / trial.trial_id)).as_default():
        api.hparams(trial.values, trial_id=trial.trial_id)
        if isinstance(trial, Trial):
            tf.summary.scalar(TOP_1, trial.score, step=0)
        if trial.latency_us is not None:
            tf.summary.scalar(PREDICTED_US, trial.latency_us, step=0)
        tf.summary.scalar(TABLE_MB, trial.table_mb, step=0)
