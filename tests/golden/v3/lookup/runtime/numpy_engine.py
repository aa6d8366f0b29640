"""The `numpy` engine: the reference, which needs no compiler and nothing but NumPy."""

from __future__ import annotations

import numpy as np

from .arrays import Float32Array, LookupArrays
from .config import LookupConfig
from .gru import (
    Int32Array,
    StepBuffers,
    make_state,
    pool_batch,
    prepare_weights,
    run,
    step,
)
from .row import ForwardRow, TwoWayRow

SLICE_ROWS = 256
"""Rows computed at once. Above, nothing is won per row (measured at H=128), only memory lost."""
SLICE_TOKENS = 16_384
"""Padded tokens computed at once where layers keep all their outputs: 100 MB at H=128."""
FEW_ROWS = 12
"""Batches up to here run row by row: a product over a few rows costs as much as several over one.
At H=96, bidirectional, rows of the embedded dataset: 8 rows 4.9k/s one by one and 3.5k/s as a
batch, 12 rows even, 16 rows 7.3k/s and 7.6k/s."""
ROW_FLOATS = 2**20
"""Gate inputs that the scratch of one row may hold, 4 MB: 1365 tokens at H=128, bidirectional."""

_ZERO = np.zeros((), np.float32)


class NumpyEngine:
    """Computes a lookup model in NumPy.

    Its weights never change after construction and every call has its own scratch memory, so one
    engine may serve any number of threads. Single rows reuse scratch of earlier calls (at most
    10 MB for each call that ever ran at the same time); batches allocate theirs.

    Args:
        config: Shape of the model.
        arrays: The lookup folder's arrays by manifest name.
    """

    name = "numpy"

    def __init__(self, config: LookupConfig, arrays: LookupArrays) -> None:
        self.config = config
        self.weights = prepare_weights(config, arrays)
        self._row_class = TwoWayRow if config.bidirectional else ForwardRow
        self._row_capacity = max(1, ROW_FLOATS // (3 * config.pooled_dim))
        # Taking from and adding to a list is atomic, so threads share the scratch without a lock;
        # there are never more of them than calls ran at once.
        self._idle_rows: list[ForwardRow | TwoWayRow] = []
        self.head_kernel = np.array(arrays["head_kernel"])
        self.head_bias = np.array(arrays["head_bias"])

    def logits(self, ids: Int32Array, lengths: Int32Array) -> Float32Array:
        """Return the logits of a checked batch.

        Args:
            ids: (B, T) int32, 0 <= id < V.
            lengths: (B,) int32, 1 <= length <= T.

        Returns:
            (B, C) float32.
        """
        if len(ids) <= FEW_ROWS and ids.shape[1] <= self._row_capacity:
            return self._few_logits(ids, lengths)
        pooled = np.empty((len(ids), self.config.pooled_dim), np.float32)
        order = np.argsort(-lengths, kind="stable")
        start = 0
        with np.errstate(over="ignore"):
            while start < len(order):
                rows = SLICE_ROWS
                if self.config.layers > 1:
                    rows = max(1, min(rows, SLICE_TOKENS // int(lengths[order[start]])))
                chosen = order[start : start + rows]
                pooled[chosen] = pool_batch(self.config, self.weights, ids[chosen], lengths[chosen])
                start += rows
        return self.head(pooled, np.empty((len(ids), self.config.num_classes), np.float32))

    def _few_logits(self, ids: Int32Array, lengths: Int32Array) -> Float32Array:
        """Return the logits of a batch that is faster row by row."""
        try:
            row = self._idle_rows.pop()
        except IndexError:
            row = self._make_row(ids.shape[1])
        if row.capacity < ids.shape[1]:
            row = self._make_row(ids.shape[1])
        logits = np.empty((len(ids), self.config.num_classes), np.float32)
        pooling = self.config.pooling
        with np.errstate(over="ignore"):
            for index, length in enumerate(lengths.tolist()):
                self.head(row.pool(ids[index, :length], pooling), logits[index])
        self._idle_rows.append(row)
        return logits

    def _make_row(self, width: int) -> ForwardRow | TwoWayRow:
        capacity = min(self._row_capacity, max(32, 2 * width))
        return self._row_class(self.config, self.weights, capacity)

    def head(self, pooled: Float32Array, logits: Float32Array) -> Float32Array:
        """Write the logits (..., C) of pooled states (..., directions*H) and return them."""
        if self.config.relu:
            pooled = np.maximum(pooled, _ZERO)
        np.dot(pooled, self.head_kernel, logits)
        np.add(logits, self.head_bias, logits)
        return logits

    def start_stream(self) -> NumpyStream:
        """Return a stream that has read nothing."""
        return NumpyStream(self)


class NumpyStream:
    """State of one text that arrives token by token: see `stream.Stream` for what it costs.

    Args:
        engine: Whose weights it uses.
    """

    def __init__(self, engine: NumpyEngine) -> None:
        self._engine = engine
        config = engine.config
        # Above a bidirectional layer nothing can be computed before the text has ended.
        self._stepped = 1 if config.bidirectional else config.layers
        self._states = [make_state(1, config.units) for _ in range(self._stepped)]
        self._buffers = StepBuffers(1, config.units)
        self._pooled = np.zeros(config.units, np.float32)
        self._length = 0
        self._tokens: list[int] = []

    def push(self, token: int) -> None:
        """Read one more token, 0 <= token < V."""
        config = self._engine.config
        self._length += 1
        if config.bidirectional:
            self._tokens.append(token)
            if config.layers > 1:
                return
        weights = self._engine.weights
        forward = weights.first[0]
        with np.errstate(over="ignore"):
            x = forward.table.take(np.array([token]), 0, None, "clip")  # (1, 3H)
            step(self._states[0], x, forward.recurrent, self._buffers)
            for layer in range(1, self._stepped):
                dense = weights.upper[layer - 1][0]
                x = self._states[layer - 1][:, :-1] @ dense.kernel + dense.bias
                step(self._states[layer], x, dense.recurrent, self._buffers)
        h = self._states[-1][0, :-1]
        if config.pooling == "mean":
            self._pooled += h
        elif config.pooling == "last" or self._length == 1:
            self._pooled[:] = h
        else:
            np.maximum(self._pooled, h, out=self._pooled)

    def logits(self) -> Float32Array:
        """Return the logits (C,) of the tokens so far, at least one."""
        engine, config = self._engine, self._engine.config
        if config.bidirectional and config.layers > 1:
            ids = np.array([self._tokens], np.int32)
            logits: Float32Array = engine.logits(ids, np.array([self._length], np.int32))[0]
            return logits
        pooled = self._pooled
        if config.pooling == "mean":
            pooled = pooled / np.float32(self._length)
        if config.bidirectional:
            pooled = np.concatenate((pooled, self._read_backward()))
        return engine.head(pooled, np.empty(config.num_classes, np.float32))

    def _read_backward(self) -> Float32Array:
        """Return the pooled state (H,) of the backward direction."""
        backward = self._engine.weights.first[1]
        tokens = np.array(self._tokens[::-1], np.int32)
        gates = backward.table.take(tokens, 0, None, "clip")  # (T, 3H)
        with np.errstate(over="ignore"):
            pooled = run(
                lambda start, stop: gates[start:stop],
                backward.recurrent,
                np.arange(self._length + 1),
                np.array([self._length], np.int32),
                self._engine.config.pooling,
            )
        return pooled.reshape(-1)

    def fork(self) -> NumpyStream:
        """Return an independent copy."""
        twin = NumpyStream(self._engine)
        twin._states = [state.copy() for state in self._states]
        twin._pooled = self._pooled.copy()
        twin._length = self._length
        twin._tokens = self._tokens.copy()
        return twin
