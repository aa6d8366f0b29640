"""The contenders: ways to write the same training step, from the eager loop to `make train`'s own.

All train the same model on batches of the same number of rows of the same data; they differ in how
rows are batched, what runs the recurrence, which optimizer op is used, and in XLA. Imports no
TensorFlow: the command lists them before it is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.config import JitCompile, RecurrentKind

Batching = Literal["ragged", "buckets", "windows"]
"""Random rows as a ragged tensor, `bucket_by_sequence_length`, or our sorted windows."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to train.

    Attributes:
        name: In options, JSON and tables.
        title: What it is, for people.
        batching: How its batches are made.
        cell: What runs the recurrence.
        jit_compile: XLA; `auto` decides as `train` does.
        is_ours: Whether optimizer and threads are those of `train`, and not Keras's defaults.
        is_eager: Whether a loop over a `GradientTape` trains, and no `fit`.
    """

    name: str
    title: str
    batching: Batching = "windows"
    cell: RecurrentKind = "hoisted"
    jit_compile: JitCompile = "off"
    is_ours: bool = True
    is_eager: bool = False


EAGER, FIT, DEFAULT = "eager_ragged", "keras_fit", "default"
CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender(
            name=EAGER,
            title="eager GradientTape over ragged batches in random order",
            batching="ragged",
            cell="layer",
            is_ours=False,
            is_eager=True,
        ),
        Contender(
            name=FIT,
            title="Keras fit, bucket_by_sequence_length, keras.layers.GRU, AdamW",
            batching="buckets",
            cell="layer",
            is_ours=False,
        ),
        Contender(
            name="keras_fit_xla",
            title="the same with XLA, padded to the buckets' widths",
            batching="buckets",
            cell="layer",
            jit_compile="on",
            is_ours=False,
        ),
        Contender(name="gru_cell", title="our step with RNN(GRUCell)", cell="cell"),
        Contender(name="layer", title="our step with keras.layers.GRU", cell="layer"),
        Contender(name="hoisted", title="our step with FastGRU, never XLA"),
        Contender(name="hoisted_xla", title="our step with FastGRU and XLA", jit_compile="on"),
        Contender(
            name=DEFAULT,
            title="what `make train` does, XLA by its own decision",
            cell="auto",
            jit_compile="auto",
        ),
    )
}
