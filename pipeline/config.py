"""Frozen settings of the pipeline, with every range check in one place.

Reads nothing and imports no heavy library: the CLI, the run folder and the
exporters all describe a model with the same `ModelConfig`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

Pooling = Literal["last", "max", "mean"]

PAD_ID = 0
"""Id that fills a row on its right. It never stands for a piece of text."""
UNK_ID = 1
"""Id of an unknown piece. A text without any piece becomes this one id, in every path."""


def _check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{name}: expected true or false, found {value!r}.")


def _check_range(name: str, value: object, low: float, high: float) -> None:
    """Check a number; bounds that are integers ask for an integer."""
    is_count = isinstance(low, int)
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or (is_count and not isinstance(value, int))
    ):
        kind = "an integer" if is_count else "a number"
        raise ValueError(f"{name}: expected {kind} from {low} to {high}, found {value!r}.")
    if not low <= value <= high:
        raise ValueError(f"{name}: expected a value from {low} to {high}, found {value}.")


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """What turns a table of text into a data folder. Everything in it is part of the cache key."""

    text_column: str = "title"
    label_column: str = "category"
    vocab_size: int = 15_000
    max_tokens: int = 256
    shards: int = 16

    def __post_init__(self) -> None:
        if not self.text_column or not self.label_column:
            raise ValueError("text_column and label_column: expected names, found an empty one.")
        if self.text_column == self.label_column:
            raise ValueError(
                f"text_column and label_column: expected two columns, found {self.text_column!r} "
                "for both."
            )
        _check_range("vocab_size", self.vocab_size, 16, 1_000_000)
        _check_range("max_tokens", self.max_tokens, 1, 65_536)
        _check_range("shards", self.shards, 1, 1024)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Shape of one classifier: Embedding -> (Bi)GRU layers -> pooling -> ReLU -> Dense -> softmax.

    Attributes:
        vocab_size: V, rows of the embedding; ids 0 (padding) and 1 (unknown) included.
        num_classes: C, at least 2.
        embed_dim: E. It costs time in training only: the gate table folds it away.
        units: H, state size of each direction.
        layers: Number of (Bi)GRU layers.
        bidirectional: Whether each layer also reads from right to left.
        pooling: `last` state, or `max` or `mean` over the outputs at the text's own positions.
        relu: Whether a ReLU stands between pooling and head.
        embedding_dropout: Rate of `SpatialDropout1D` behind the embedding (training only).
        head_dropout: Rate of `Dropout` before the head (training only).
    """

    vocab_size: int
    num_classes: int
    embed_dim: int = 128
    units: int = 128
    layers: int = 1
    bidirectional: bool = True
    pooling: Pooling = "max"
    relu: bool = True
    embedding_dropout: float = 0.0
    head_dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_range("vocab_size", self.vocab_size, 3, 1_000_000)
        _check_range("num_classes", self.num_classes, 2, 100_000)
        _check_range("embed_dim", self.embed_dim, 1, 4096)
        _check_range("units", self.units, 1, 4096)
        _check_range("layers", self.layers, 1, 8)
        _check_range("embedding_dropout", self.embedding_dropout, 0.0, 0.95)
        _check_range("head_dropout", self.head_dropout, 0.0, 0.95)
        _check_flag("bidirectional", self.bidirectional)
        _check_flag("relu", self.relu)
        if self.pooling not in get_args(Pooling):
            raise ValueError(
                f"pooling: expected one of {', '.join(get_args(Pooling))}, found {self.pooling!r}."
            )

    @property
    def directions(self) -> int:
        """Number of reading directions, 1 or 2."""
        return 2 if self.bidirectional else 1

    @property
    def pooled_dim(self) -> int:
        """Width of the pooled state that enters the head: directions x H."""
        return self.directions * self.units

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values; inverse of `from_json`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Return the config of `to_json`, refusing fields it does not know.

        Raises:
            ValueError: A field is missing, unknown or out of range.
        """
        try:
            return cls(**fields)
        except TypeError as err:
            raise ValueError(f"model config: {err}.") from err


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a model is fitted.

    Attributes:
        num_epochs: Upper bound; early stopping may end before.
        batch_size: B, examples a step.
        learning_rate: Peak of the one-cycle schedule.
        weight_decay: AdamW's decoupled decay.
        label_smoothing: Share of the target spread over all classes.
        word_dropout: Share of the training tokens replaced by the unknown id.
        patience: Epochs without a better validation top-1 before training stops.
        num_predict: k of the top-k accuracy shown beside top-1.
        seed: Seeds weights, dropout and the order of the examples.
        deterministic: Trade speed for run-to-run identical weights.
        jit_compile: Compile the training step with XLA.
    """

    num_epochs: int = 10
    batch_size: int = 256
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    label_smoothing: float = 0.1
    word_dropout: float = 0.1
    patience: int = 3
    num_predict: int = 3
    seed: int = 1
    deterministic: bool = False
    jit_compile: bool = False

    def __post_init__(self) -> None:
        _check_range("num_epochs", self.num_epochs, 1, 10_000)
        _check_range("batch_size", self.batch_size, 1, 65_536)
        _check_range("learning_rate", self.learning_rate, 1e-8, 10.0)
        _check_range("weight_decay", self.weight_decay, 0.0, 1.0)
        _check_range("label_smoothing", self.label_smoothing, 0.0, 0.9)
        _check_range("word_dropout", self.word_dropout, 0.0, 0.9)
        _check_range("patience", self.patience, 1, 10_000)
        _check_range("num_predict", self.num_predict, 1, 100)
        _check_range("seed", self.seed, 0, 2**31 - 1)
        _check_flag("deterministic", self.deterministic)
        _check_flag("jit_compile", self.jit_compile)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dataclasses.asdict(self)
