"""The shape of a lookup model: its axes, its options, and the arrays that follow from them.

Names, shapes and types of a folder's arrays are derived here and nowhere else; neither the
manifest's own list nor a file's header has a say. The format is described in
`docs/artifact_format.md`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

Pooling = Literal["last", "max", "mean"]
TableDtype = Literal["float32", "float16", "int16", "int8"]
RecurrentDtype = Literal["float32", "int16", "int8"]

MAX_TOKENS_LIMIT = 65_536
STORED_TYPES = {"float32": "<f4", "float16": "<f2", "int16": "<i2", "int8": "|i1"}
"""Name of an option to the type its numbers have in a file."""

_LIMITS = {
    "vocab_size": (2, 1_000_000),  # rows 0 and 1, padding and unknown, always exist
    "embed_dim": (1, 4096),
    "units": (1, 4096),
    "num_classes": (2, 100_000),
    "layers": (1, 8),
}
_CHOICES = {
    "pooling": get_args(Pooling),
    "table_dtype": get_args(TableDtype),
    "recurrent_dtype": get_args(RecurrentDtype),
}
_WORD_LIMITS = {"words": (1, 2_000_000), "word_bytes": (1, 2**28), "word_ids": (0, 2**26)}


def check_int(name: str, value: object, low: int, high: int) -> int:
    """Return `value` if it is an integer from `low` to `high`.

    Raises:
        ValueError: It is anything else; bool is an int in Python and is refused, so that JSON's
            `true` does not pass for 1.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name}: expected an integer from {low} to {high}, found {value!r}.")
    return value


def check_max_tokens(value: object) -> int:
    """Return `value` if it is a usable bound on the ids of a text.

    Raises:
        ValueError: It is not an integer from 1 to 65536.
    """
    return check_int("max_tokens", value, 1, MAX_TOKENS_LIMIT)


@dataclass(frozen=True, kw_only=True)
class LookupConfig:
    """Shape of the model that a lookup folder holds; its first field names are the pipeline's.

    Attributes:
        vocab_size: V, rows of the gate table.
        embed_dim: E of the trained model. Nothing here depends on it; it is told to readers.
        units: H, state size of each direction.
        num_classes: C.
        layers: Number of (Bi)GRU layers.
        bidirectional: Whether each layer also reads from right to left.
        pooling: `last` state, or `max` or `mean` over the outputs at the row's own positions.
        relu: Whether a ReLU stands between pooling and head.
        table_dtype: How the gate tables are stored. Exact is `float32`.
        recurrent_dtype: How the recurrent kernels of all layers are stored, likewise.
    """

    vocab_size: int
    embed_dim: int
    units: int
    num_classes: int
    layers: int = 1
    bidirectional: bool = True
    pooling: Pooling = "max"
    relu: bool = True
    table_dtype: TableDtype = "float32"
    recurrent_dtype: RecurrentDtype = "float32"

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            check_int(name, getattr(self, name), low, high)
        for name in ("bidirectional", "relu"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise ValueError(f"{name}: expected true or false, found {value!r}.")
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"{name}: expected one of {', '.join(choices)}, found {value!r}.")

    @property
    def pooled_dim(self) -> int:
        """Width of a layer's output: directions x H."""
        return self.units * (2 if self.bidirectional else 1)

    @property
    def is_exact(self) -> bool:
        """Whether every array is stored as the float32 that training and folding gave."""
        return self.table_dtype == self.recurrent_dtype == "float32"


@dataclass(frozen=True, kw_only=True)
class WordTableSizes:
    """How large a folder's word table is.

    Attributes:
        words: W, words in the table.
        word_bytes: N, UTF-8 bytes of all words.
        word_ids: M, ids of all words.
    """

    words: int
    word_bytes: int
    word_ids: int

    def __post_init__(self) -> None:
        for name, (low, high) in _WORD_LIMITS.items():
            check_int(name, getattr(self, name), low, high)


@dataclass(frozen=True)
class ArraySpec:
    """Shape and stored type, as NumPy spells it, of one array.

    Attributes:
        shape: Its axes.
        dtype: One of `<f4`, `<f2`, `<i2`, `|i1`, `|u1`, `<u4` and `<i4`.
    """

    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """Bytes of the data."""
        return int(self.dtype[-1]) * math.prod(self.shape)


def array_specs(config: LookupConfig) -> dict[str, ArraySpec]:
    """Return shape and type of every weight array by its manifest name, in a fixed order.

    Args:
        config: Shape of the model.

    Returns:
        `gate_table` (V, 3H), `recurrent_kernel` (H, 3H), `candidate_bias` (H,), then per further
        layer `layer_<k>_kernel` (directions*H, 3H), `layer_<k>_bias` (3H,) and its own recurrent
        kernel and candidate bias; the same again with the suffix `_backward` where the model is
        bidirectional; last `head_kernel` (directions*H, C) and `head_bias` (C,). A gate table of
        integers is followed by `gate_table_scale` (V,), a recurrent kernel of integers by
        `[layer_<k>_]recurrent_kernel_scale` (3H,), each with its direction's suffix.
    """
    units, pooled = config.units, config.pooled_dim
    specs: dict[str, ArraySpec] = {}

    def add(name: str, suffix: str, *shape: int, option: str = "float32") -> None:
        specs[f"{name}{suffix}"] = ArraySpec(shape, STORED_TYPES[option])

    for suffix in ("", "_backward") if config.bidirectional else ("",):
        add("gate_table", suffix, config.vocab_size, 3 * units, option=config.table_dtype)
        if config.table_dtype in ("int16", "int8"):
            add("gate_table_scale", suffix, config.vocab_size)
        for layer in range(config.layers):
            prefix = f"layer_{layer}_" if layer else ""
            if layer:
                add(f"{prefix}kernel", suffix, pooled, 3 * units)
                add(f"{prefix}bias", suffix, 3 * units)
            name = f"{prefix}recurrent_kernel"
            add(name, suffix, units, 3 * units, option=config.recurrent_dtype)
            if config.recurrent_dtype != "float32":
                add(f"{name}_scale", suffix, 3 * units)
            add(f"{prefix}candidate_bias", suffix, units)
    add("head_kernel", "", pooled, config.num_classes)
    add("head_bias", "", config.num_classes)
    return specs


def word_specs(sizes: WordTableSizes) -> dict[str, ArraySpec]:
    """Return shape and type of every array of a word table by its manifest name."""
    return {
        "word_bytes": ArraySpec((sizes.word_bytes,), "|u1"),
        "word_ends": ArraySpec((sizes.words,), "<u4"),
        "word_ids": ArraySpec((sizes.word_ids,), "<i4"),
        "word_id_ends": ArraySpec((sizes.words,), "<u4"),
    }


def array_file(name: str) -> str:
    """Return the file name of the array `name`."""
    return f"{name}.npy"
