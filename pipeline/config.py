"""Frozen settings of the pipeline, with every range check in one place.

Reads nothing and imports no heavy library: the CLI, the run folder and the
exporters all describe a model with the same `ModelConfig`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, Self, get_args

Pooling = Literal["last", "max", "mean"]
RecurrentKind = Literal["auto", "layer", "cell", "hoisted"]
"""`keras.layers.GRU`, that as `RNN(GRUCell)`, or our `FastGRU`; `auto` is the first
on a GPU, the last on a CPU."""
JitCompile = Literal["auto", "on", "off"]
"""Whether XLA compiles the training step; `auto` measures whether the training is long enough."""
DropoutKind = Literal["spatial", "element"]
"""What embedding dropout zeroes: whole columns of a text, or each element by itself."""
ClassWeights = Literal["none", "balanced", "sqrt"]
EmbeddingInit = Literal["random", "skip_gram", "file"]
Monitor = Literal["top_1", "top_k", "cross_entropy"]
TableFormat = Literal["csv", "tsv", "jsonl", "parquet", "fasttext"]

DEFAULT_SHAPE: Final[Mapping[str, Any]] = MappingProxyType(
    {"embed_dim": 128, "units": 128, "embedding_dropout": 0.4, "head_dropout": 0.5}
)
"""What `train` takes where nothing else is asked for, and `tune` tries first; of other fields it is
what `ModelConfig` has."""
DEFAULT_EMBEDDING_INIT: Final[EmbeddingInit] = "skip_gram"
"""Likewise of `TrainConfig`."""

PAD_ID = 0
"""Id that fills a row on its right. It never stands for a piece of text."""
UNK_ID = 1
"""Id of an unknown piece. A text without any piece becomes this one id, in every path."""


MAX_PATTERN_CHARS = 1000
_DELIMITER = re.compile(r"(?![A-Za-z0-9\"])[\t -~]")


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


def _check_choice(name: str, value: object, kind: Any) -> None:
    if value not in get_args(kind):
        raise ValueError(f"{name}: expected one of {', '.join(get_args(kind))}, found {value!r}.")


def _leave_out_defaults(config: Any, young: Sequence[str]) -> dict[str, Any]:
    """Return a config's fields as JSON values, without those of `young` that have no effect.

    What is named after a configuration keeps its name when the configuration learns a field.
    """
    values = dataclasses.asdict(config)
    for field in dataclasses.fields(config):
        if field.name in young and values[field.name] == field.default:
            del values[field.name]
    return values


def _check_pattern(name: str, pattern: object) -> None:
    if not isinstance(pattern, str):
        raise ValueError(f"{name}: expected a regular expression, found {pattern!r}.")
    if len(pattern) > MAX_PATTERN_CHARS:
        raise ValueError(
            f"{name}: expected at most {MAX_PATTERN_CHARS} characters, found {len(pattern)}."
        )
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as err:
        raise ValueError(
            f"{name}: expected a regular expression of Python's `re`, found {pattern[:80]!r} "
            f"({err})."
        ) from err


@dataclass(frozen=True, kw_only=True)
class FilterConfig:
    """Regular expressions that decide which rows are used; a row must pass all that are set.

    They are searched anywhere in the text or the label as they stand in the source (the label
    without surrounding blanks), by Python's `re`. Such an expression can take exponential time on
    a text made for it: what is bounded here is its length.
    """

    text_must_match: str | None = None
    text_must_not_match: str | None = None
    label_must_match: str | None = None
    label_must_not_match: str | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            pattern = getattr(self, field.name)
            if pattern is not None:
                _check_pattern(field.name, pattern)


def _check_label_map(label_map: object) -> None:
    """Check pairs of a label of the source, and the label it becomes or "" to drop its rows."""
    if not isinstance(label_map, tuple):
        raise ValueError(f"labels: expected pairs of labels, found {label_map!r}.")
    for raw, label in label_map:
        for name in (raw, label):
            if not isinstance(name, str) or name != name.strip() or "\n" in name:
                raise ValueError(
                    "labels: expected labels without blanks around them or line breaks, found "
                    f"{name!r}."
                )
    if len({raw for raw, _ in label_map}) != len(label_map):
        raise ValueError("labels: expected each label once, found one twice.")


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """What turns a table of text into a data folder. Everything in it is part of the cache key.

    Attributes:
        text_column: Name of the text's column or key.
        label_column: Name of the label's column or key.
        vocab_size: V wanted.
        max_tokens: Longer texts are cut.
        shards: TFRecord files of the training split.
        format: What the files are; None goes by their endings.
        delimiter: Between the columns of a CSV; None means the format's own.
        label_prefix: Begins the label, the first word of a line of the format `fasttext`.
        filters: Which rows are used.
        label_map: Pairs of a label of the source and what it becomes; "" drops its rows.
    """

    text_column: str = "title"
    label_column: str = "category"
    vocab_size: int = 15_000
    max_tokens: int = 256
    shards: int = 16
    format: TableFormat | None = None
    delimiter: str | None = None
    label_prefix: str = "__label__"
    filters: FilterConfig = FilterConfig()
    label_map: tuple[tuple[str, str], ...] = ()

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
        if self.format is not None and self.format not in get_args(TableFormat):
            raise ValueError(
                f"format: expected one of {', '.join(get_args(TableFormat))}, found "
                f"{self.format!r}."
            )
        if self.delimiter is not None and not _DELIMITER.fullmatch(self.delimiter):
            raise ValueError(
                "delimiter: expected one ASCII character that is no letter, digit, quote or line "
                f"break, found {self.delimiter!r}."
            )
        if re.search(r"\s", self.label_prefix):
            raise ValueError(f"label_prefix: expected no blanks, found {self.label_prefix!r}.")
        _check_label_map(self.label_map)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values.

        The last five only where they differ from their defaults: the fingerprints of older data
        folders, which knew the first five, stay what they were.
        """
        always = ("text_column", "label_column", "vocab_size", "max_tokens", "shards")
        values = dataclasses.asdict(self)
        defaults = dataclasses.asdict(PrepareConfig())
        return {
            name: value
            for name, value in values.items()
            if name in always or value != defaults[name]
        }


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
        embedding_dropout: Rate of the dropout behind the embedding (training only).
        head_dropout: Rate of `Dropout` before the head (training only).
        embedding_dropout_kind: `spatial` drops columns of the embedding, the same ones at every
            token of a text (`SpatialDropout1D`); `element` drops each element by itself.
        gru_dropout: Rate of each GRU's own dropout of its inputs, one mask for all tokens of a
            text and each direction its own (training only). Keeps cuDNN.
        recurrent_dropout: Rate of the dropout of each GRU's state (training only). Loses cuDNN.
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
    embedding_dropout_kind: DropoutKind = "spatial"
    gru_dropout: float = 0.0
    recurrent_dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_range("vocab_size", self.vocab_size, 3, 1_000_000)
        _check_range("num_classes", self.num_classes, 2, 100_000)
        _check_range("embed_dim", self.embed_dim, 1, 4096)
        _check_range("units", self.units, 1, 4096)
        _check_range("layers", self.layers, 1, 8)
        _check_range("embedding_dropout", self.embedding_dropout, 0.0, 0.95)
        _check_range("head_dropout", self.head_dropout, 0.0, 0.95)
        _check_range("gru_dropout", self.gru_dropout, 0.0, 0.95)
        _check_range("recurrent_dropout", self.recurrent_dropout, 0.0, 0.95)
        _check_flag("bidirectional", self.bidirectional)
        _check_flag("relu", self.relu)
        _check_choice("pooling", self.pooling, Pooling)
        _check_choice("embedding_dropout_kind", self.embedding_dropout_kind, DropoutKind)

    @property
    def directions(self) -> int:
        """Number of reading directions, 1 or 2."""
        return 2 if self.bidirectional else 1

    @property
    def pooled_dim(self) -> int:
        """Width of the pooled state that enters the head: directions x H."""
        return self.directions * self.units

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values; inverse of `from_json`.

        The last three only where they differ from their defaults: names of older runs, and
        manifests of models that do not use them, stay what they were.
        """
        return _leave_out_defaults(self, _YOUNG_MODEL_FIELDS)

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


_YOUNG_MODEL_FIELDS = ("embedding_dropout_kind", "gru_dropout", "recurrent_dropout")


def describe_shape(values: Mapping[str, Any]) -> str:
    """Return the shape that fields of `ModelConfig` give in short: `1xBiGRU(96) E=128 max`."""
    return (
        f"{values['layers']}x{'Bi' if values['bidirectional'] else ''}GRU({values['units']}) "
        f"E={values['embed_dim']} {values['pooling']}"
    )


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
        subword_sampling: Probability that the tokenizer leaves out a merge while training
            (BPE-dropout), so that a text is cut into other pieces in every epoch.
        patience: Epochs without a better validation before training stops.
        num_predict: k of the top-k accuracy shown beside top-1.
        seed: Seeds weights, dropout and the order of the examples.
        deterministic: Trade speed for run-to-run identical weights.
        jit_compile: Compile the training step with XLA. True and False of runs of before there
            was an `auto` are `on` and `off`.
        cell: What runs the recurrence in training. The mathematics, the weights and the saved
            model, which is built by `layer`, are the same.
        monitor: Which validation metric decides about stopping and which epoch is kept: `top_1`,
            `top_k` of `num_predict`, or `cross_entropy`.
        weight_averaging: Decay of an exponential moving average of the weights, which is what is
            validated and saved; 0 keeps none.
        class_weights: How a class counts in the loss: `none` as often as it occurs, `balanced`
            as much as any other, `sqrt` between the two.
        embedding_init: What the embedding starts from: `random` numbers, `skip_gram` vectors of
            the pieces of the training split, or vectors of a `file`.
        pretrained_embeddings: That file, for `file`.
        pretrained_sha256: Its hash, which stands for it in a run's name; filled in by `train`.
        embedding_trainable: Whether training changes the embedding.
        pretrain_epochs: Epochs in which the embedding and the first GRU layer learn to tell the
            next piece of each training text, before classes are learnt; 0 leaves that out.
        calibrate: Fit a temperature on the validation split after training, and fold it into
            the head.
    """

    num_epochs: int = 10
    batch_size: int = 256
    learning_rate: float = 4e-3
    weight_decay: float = 1e-4
    label_smoothing: float = 0.1
    word_dropout: float = 0.1
    subword_sampling: float = 0.0
    patience: int = 3
    num_predict: int = 3
    seed: int = 1
    deterministic: bool = False
    jit_compile: JitCompile = "auto"
    cell: RecurrentKind = "auto"
    monitor: Monitor = "top_1"
    weight_averaging: float = 0.0
    class_weights: ClassWeights = "none"
    embedding_init: EmbeddingInit = "random"
    pretrained_embeddings: str | None = None
    pretrained_sha256: str | None = None
    embedding_trainable: bool = True
    pretrain_epochs: int = 0
    calibrate: bool = True

    def __post_init__(self) -> None:
        _check_range("num_epochs", self.num_epochs, 1, 10_000)
        _check_range("batch_size", self.batch_size, 1, 65_536)
        _check_range("learning_rate", self.learning_rate, 1e-8, 10.0)
        _check_range("weight_decay", self.weight_decay, 0.0, 1.0)
        _check_range("label_smoothing", self.label_smoothing, 0.0, 0.9)
        _check_range("word_dropout", self.word_dropout, 0.0, 0.9)
        _check_range("subword_sampling", self.subword_sampling, 0.0, 0.9)
        if self.deterministic and self.subword_sampling:
            raise ValueError(
                "deterministic: expected subword_sampling 0, found "
                f"{self.subword_sampling}: the tokenizer's sampling takes no seed."
            )
        _check_range("patience", self.patience, 1, 10_000)
        _check_range("num_predict", self.num_predict, 1, 100)
        _check_range("seed", self.seed, 0, 2**31 - 1)
        _check_flag("deterministic", self.deterministic)
        if isinstance(self.jit_compile, bool):
            object.__setattr__(self, "jit_compile", "on" if self.jit_compile else "off")
        _check_choice("jit_compile", self.jit_compile, JitCompile)
        _check_choice("cell", self.cell, RecurrentKind)
        _check_choice("monitor", self.monitor, Monitor)
        _check_range("weight_averaging", self.weight_averaging, 0.0, 0.99999)
        _check_choice("class_weights", self.class_weights, ClassWeights)
        _check_choice("embedding_init", self.embedding_init, EmbeddingInit)
        if (self.embedding_init == "file") != (self.pretrained_embeddings is not None):
            raise ValueError(
                "pretrained_embeddings: expected a path with embedding_init 'file' and none "
                f"without, found {self.pretrained_embeddings!r} with {self.embedding_init!r}."
            )
        _check_flag("embedding_trainable", self.embedding_trainable)
        _check_range("pretrain_epochs", self.pretrain_epochs, 0, 1000)
        _check_flag("calibrate", self.calibrate)

    @property
    def monitored(self) -> str:
        """Name among Keras's logs of the validation metric that decides."""
        name = f"top_{self.num_predict}" if self.monitor == "top_k" else self.monitor
        return f"val_{name}"

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dataclasses.asdict(self)

    def key_fields(self) -> dict[str, Any]:
        """Return the fields that a run or a search is named after.

        All of them, but those that are younger than the first runs and have no effect: runs that
        were named without them keep their names. A file of embeddings is named by its content.
        """
        fields = _leave_out_defaults(self, _YOUNG_TRAIN_FIELDS)
        if fields.get("pretrained_sha256"):
            del fields["pretrained_embeddings"]
        # As they stood in the names of the first runs, which knew two ways each.
        fields["jit_compile"] = self.jit_compile == "on"
        if self.cell != "cell":
            fields.pop("cell", None)
        return fields


_YOUNG_TRAIN_FIELDS = (
    "subword_sampling",
    "cell",
    "monitor",
    "weight_averaging",
    "class_weights",
    "embedding_init",
    "pretrained_embeddings",
    "pretrained_sha256",
    "embedding_trainable",
    "pretrain_epochs",
    "calibrate",
)
