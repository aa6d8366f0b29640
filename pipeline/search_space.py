"""The space that `tune` searches, in one place: what is drawn, from where, and why so narrow.

Each entry is a field of `ModelConfig` or `TrainConfig`, so that the values of a trial are what
`train --hp` takes. Ranges are those in which good models were found on tables of 10^4 to 10^6
short texts; a wider space spends its trials on models that nobody would keep.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras_tuner

from pipeline.config import DEFAULT_SHAPE, ModelConfig, TrainConfig

SEARCH_VERSION = 4
"""Part of a search's key: raised when the space below changes."""

EMBED_DIMS = [64, 128, 192, 256]
UNITS = [16, 32, 48, 64, 96, 128, 192, 256]
BATCH_SIZES = [128, 256, 512]
SIGNIFICANT_DIGITS = 4
"""Drawn numbers are rounded to so many digits: a person can type them, and 0.15000000000000002
and 0.15 are one value."""


def declare_space(hp: keras_tuner.HyperParameters, *, draws_batch_size: bool) -> None:
    """Declare every entry of the space; its order decides what a seed draws."""
    # The shape: what serving costs depends on units, layers and directions; the embedding folds
    # away.
    hp.Choice("embed_dim", EMBED_DIMS, default=DEFAULT_SHAPE["embed_dim"])
    hp.Choice("units", UNITS, default=DEFAULT_SHAPE["units"])
    hp.Choice("layers", [1, 2], default=1)
    hp.Boolean("bidirectional", default=True)
    hp.Choice("pooling", ["last", "max", "mean"], default="max")
    # Noise: without dropout on both ends these models learn short texts by heart in two epochs.
    for name, low, high in (("embedding_dropout", 0.1, 0.6), ("head_dropout", 0.2, 0.6)):
        hp.Float(name, low, high, step=0.05, default=DEFAULT_SHAPE[name])
    hp.Choice("gru_dropout", [0.0, 0.1, 0.2], default=0.0)
    hp.Choice("word_dropout", [0.0, 0.05, 0.1, 0.15], default=0.1)
    # How it is fitted. A trial is short: rates far below 1e-3 would look worse than they are.
    hp.Float("learning_rate", 1e-3, 8e-3, sampling="log", default=TrainConfig.learning_rate)
    hp.Choice("label_smoothing", [0.0, 0.05, 0.1], default=0.1)
    hp.Choice("weight_decay", [1e-4, 1e-2, 5e-2], default=1e-4)
    hp.Choice("weight_averaging", [0.0, 0.99], default=0.0)
    if draws_batch_size:
        hp.Choice("batch_size", BATCH_SIZES, default=256)


def list_first_values(hp: keras_tuner.HyperParameters) -> list[dict[str, Any]]:
    """Return what a search tries before it draws, best first: it takes the first it can afford.

    The defaults of `train`, then with fewer and fewer units, then so in one direction.
    """
    smaller = [units for units in reversed(UNITS) if units <= hp.values["units"]]
    return [
        {**hp.values, "units": units, "bidirectional": bidirectional}
        for bidirectional in (True, False)
        for units in smaller
    ]


_MODEL_FIELDS = {field.name for field in dataclasses.fields(ModelConfig)}
_TRAIN_FIELDS = {field.name for field in dataclasses.fields(TrainConfig)}


def tidy_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return drawn values with their numbers rounded to `SIGNIFICANT_DIGITS`.

    Example:
        `tidy_values({"head_dropout": 0.15000000000000002})` is `{"head_dropout": 0.15}`.
    """
    return {
        name: float(f"{value:.{SIGNIFICANT_DIGITS}g}") if isinstance(value, float) else value
        for name, value in values.items()
    }


def drop_tuner_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values without Hyperband's own, such as `tuner/epochs`."""
    return {name: value for name, value in values.items() if "/" not in name}


def make_model_config(
    values: Mapping[str, Any], *, vocab_size: int, num_classes: int
) -> ModelConfig:
    """Return the shape that values describe; what they leave out has the space's default."""
    hp = keras_tuner.HyperParameters()
    declare_space(hp, draws_batch_size=False)
    shape = {**hp.values, **values}
    shape = {name: value for name, value in shape.items() if name in _MODEL_FIELDS}
    return ModelConfig(vocab_size=vocab_size, num_classes=num_classes, **shape)


def make_train_config(values: Mapping[str, Any], base: TrainConfig) -> TrainConfig:
    """Return `base` with the values that say how to fit."""
    drawn = {name: value for name, value in values.items() if name in _TRAIN_FIELDS}
    return dataclasses.replace(base, **drawn)


def smallest_config(*, vocab_size: int, num_classes: int) -> ModelConfig:
    """Return the model of the space that costs least to serve."""
    return ModelConfig(
        vocab_size=vocab_size,
        num_classes=num_classes,
        embed_dim=min(EMBED_DIMS),
        units=min(UNITS),
        bidirectional=False,
    )
