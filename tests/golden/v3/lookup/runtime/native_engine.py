"""The `native` engine: the compiled kernel behind the protocol of `engine.Engine`.

It takes raw text too, where the folder has a word table: text to answer is then one call into C.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .arrays import Float32Array
from .format import LookupFiles
from .gru import Int32Array
from .native import load_extension
from .words import EncodeUnseen

# The numbers of the enumerations in kernel/model.h.
_POOLINGS = {"last": 0, "max": 1, "mean": 2}
_DTYPES = {"float32": 0, "float16": 1, "int16": 2, "int8": 3}


class NativeEngine:
    """Computes a lookup model in C: `kernel/gatetable.c` over the folder's arrays.

    Safe to share between threads. Calls of more than about 10 us let other Python threads run
    meanwhile; for shorter ones handing the interpreter lock over would cost more than it wins.

    Args:
        files: Content of the folder.
        isa: Instruction set; when None, that of the environment variable GATETABLE_ISA, or else
            the best of this machine.

    Attributes:
        isa: Instruction set in use.
        has_words: Whether the folder has a word table.

    Raises:
        NativeUnavailableError: The kernel is not built here.
        ValueError: This machine does not have the instruction set.
    """

    name = "native"

    def __init__(self, files: LookupFiles, *, isa: str | None = None) -> None:
        config = files.config
        arrays: dict[str, Any] = dict(files.arrays)
        if files.words is not None:
            arrays |= vars(files.words)
        self._model = load_extension().Model(
            vocab_size=config.vocab_size,
            units=config.units,
            num_classes=config.num_classes,
            max_tokens=files.max_tokens,
            layers=config.layers,
            directions=2 if config.bidirectional else 1,
            pooling=_POOLINGS[config.pooling],
            relu=config.relu,
            table_dtype=_DTYPES[config.table_dtype],
            recurrent_dtype=_DTYPES[config.recurrent_dtype],
            arrays=arrays,
            labels=files.labels,
            isa=isa,
        )
        self.isa: str = self._model.isa
        self.has_words = files.words is not None
        self.try_logits: Callable[[Any, Any], Float32Array | None] = self._model.logits
        """Logits of unchecked arguments, or None where they are not contiguous int32 arrays with
        every value in range: the checks are made in C."""
        self.try_probabilities: Callable[[Any, Any], Float32Array | None]
        self.try_probabilities = self._model.probabilities
        self.encode: Callable[[str, EncodeUnseen], list[int]] = self._model.encode
        """Ids of a text by the word table, at least one."""
        self.text_probabilities: Callable[[str, EncodeUnseen], Float32Array]
        self.text_probabilities = self._model.text_probabilities
        """Probabilities (1, C) of a text by the word table."""
        self.predict: Callable[[str, int, EncodeUnseen], list[tuple[str, float]]]
        self.predict = self._model.predict
        """The k best labels of a text by the word table, 1 <= k <= C."""
        self.start_stream: Callable[[], Any] = self._model.stream

    def logits(self, ids: Int32Array, lengths: Int32Array) -> Float32Array:
        """Return the logits of a checked batch.

        Args:
            ids: (B, T) int32, 0 <= id < V.
            lengths: (B,) int32, 1 <= length <= T.

        Returns:
            (B, C) float32.

        Raises:
            ValueError: T is more than 1,048,576.
        """
        result = self.try_logits(
            np.ascontiguousarray(ids, np.int32), np.ascontiguousarray(lengths, np.int32)
        )
        if result is None:
            raise ValueError(
                f"ids: expected at most 1048576 tokens a row, found {ids.shape[1]}. Cut the rows."
            )
        return result
