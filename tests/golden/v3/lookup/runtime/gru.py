"""The GRU recurrence over gate tables, in NumPy.

Keras's GRU with `reset_after=True`, gate order z, r, h, for one step of one row, with x the row's
gate-table entry (input projection, input bias and the z, r thirds of the recurrent bias):

    z = sigmoid(x_z + h U_z)    r = sigmoid(x_r + h U_r)
    c = tanh(x_h + r * (h U_h + candidate_bias))
    h = z * h + (1 - z) * c

It is computed in the cheapest form NumPy has, one matrix product and nine element-wise calls:
with the z and r columns of U negated once at load, e = 1 + exp(-h U - x) gives sigmoid as 1 / e,
so `r * y` becomes `y / e_r` and the last line `c + (h - c) / e_z`. A constant 1 behind the state
multiplies a last row of U that holds the candidate bias. An overflow of exp to infinity is the
right limit (the gate is 0), so that one warning is off for the whole call.

A batch runs as rows sorted by length, longest first, so that the rows still active are always the
first ones, and rows drop off as they end. The step-by-step values of all rows lie packed: step 0
of all rows, step 1 of the rows that have one, and so on. Layers above the first project all
packed inputs in one product before the recurrence. The backward direction is the same recurrence
over each row's own tokens in reverse, so padding never enters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .arrays import Float32Array, LookupArrays, make_aligned
from .config import LookupConfig, Pooling
from .dequantise import CompressedTable, load_kernel, load_table

Int32Array = NDArray[np.int32]
IndexArray = NDArray[np.intp]
GateSource = Callable[[int, int], Float32Array]
"""Gives the gate inputs (stop-start, 3H) of a range of packed steps."""

ONE: NDArray[np.float32] = np.ones((), np.float32)
"""0-dimensional: a NumPy scalar costs half as much again per call, a Python number nearly twice."""


@dataclass(frozen=True, kw_only=True)
class TableDirection:
    """The first layer in one reading direction: its inputs are rows of the gate table.

    Attributes:
        table: (V, 3H) as it lies in the file, or what gives its rows as float32.
        recurrent: (H+1, 3H), z and r columns negated, last row the candidate bias.
    """

    table: Float32Array | CompressedTable
    recurrent: Float32Array


@dataclass(frozen=True, kw_only=True)
class DenseDirection:
    """A layer above the first in one reading direction.

    Attributes:
        kernel: (D, 3H), input kernel.
        bias: (3H,), folded bias.
        recurrent: See `TableDirection`.
    """

    kernel: Float32Array
    bias: Float32Array
    recurrent: Float32Array


@dataclass(frozen=True, kw_only=True)
class GruWeights:
    """Weights of all layers, prepared for the recurrence.

    Attributes:
        first: The first layer: forward, and backward if bidirectional.
        upper: The layers above, each likewise.
    """

    first: tuple[TableDirection, ...]
    upper: tuple[tuple[DenseDirection, ...], ...]


def prepare_weights(config: LookupConfig, arrays: LookupArrays) -> GruWeights:
    """Return the weights of a lookup folder's arrays; tables are shared, the rest is copied."""
    suffixes = ("", "_backward") if config.bidirectional else ("",)

    def recurrent(prefix: str, suffix: str) -> Float32Array:
        prepared = make_aligned((config.units + 1, 3 * config.units))
        prepared[:-1] = load_kernel(arrays, prefix, suffix)
        prepared[:-1, : 2 * config.units] *= -1
        prepared[-1, : 2 * config.units] = 0
        prepared[-1, 2 * config.units :] = arrays[f"{prefix}candidate_bias{suffix}"]
        return prepared

    return GruWeights(
        first=tuple(
            TableDirection(table=load_table(arrays, suffix), recurrent=recurrent("", suffix))
            for suffix in suffixes
        ),
        upper=tuple(
            tuple(
                DenseDirection(
                    kernel=np.array(arrays[f"layer_{layer}_kernel{suffix}"]),
                    bias=np.array(arrays[f"layer_{layer}_bias{suffix}"]),
                    recurrent=recurrent(f"layer_{layer}_", suffix),
                )
                for suffix in suffixes
            )
            for layer in range(1, config.layers)
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Packing:
    """Order of the N = sum(lengths) steps of a batch of rows sorted longest first.

    Attributes:
        offsets: (T+1,) starts of each step's block of rows; block t has the rows longer than t.
        rows: (N,) row of each packed step.
        steps: (N,) position in its row of each packed step.
        mirror: (N,) packed place of the same row's position counted from its end. It is its own
            inverse.
    """

    offsets: IndexArray
    rows: IndexArray
    steps: IndexArray
    mirror: IndexArray


def make_packing(lengths: Int32Array) -> Packing:
    """Return the packing of rows with `lengths` (B,), which must fall and be at least 1."""
    active = lengths > np.arange(lengths[0])[:, None]  # (T, B)
    offsets = np.concatenate(([0], active.sum(axis=1))).cumsum()
    steps, rows = np.nonzero(active)
    mirror = offsets[lengths[rows] - 1 - steps] + rows
    return Packing(offsets=offsets, rows=rows, steps=steps, mirror=mirror)


class StepBuffers:
    """Scratch memory of `step` for up to `rows` rows of H units. One per running recurrence.

    Attributes:
        product: (rows, 3H).
        gate: (rows, 2H).
        candidate: (rows, H).
    """

    def __init__(self, rows: int, units: int) -> None:
        self.product = np.empty((rows, 3 * units), np.float32)
        self.gate = np.empty((rows, 2 * units), np.float32)
        self.candidate = np.empty((rows, units), np.float32)


def make_state(rows: int, units: int) -> Float32Array:
    """Return the state before the first step, (rows, H+1): zeros, and the constant 1 behind."""
    state = np.zeros((rows, units + 1), np.float32)
    state[:, -1] = 1
    return state


def step(
    state: Float32Array, x: Float32Array, recurrent: Float32Array, buffers: StepBuffers
) -> None:
    """Advance the first rows of a batch by one step, in place.

    Args:
        state: (rows, H+1) as `make_state` gives it.
        x: (rows, 3H) gate inputs.
        recurrent: See `TableDirection`.
        buffers: Scratch for at least so many rows.
    """
    rows, units = len(state), state.shape[1] - 1
    h = state[:, :units]
    y, e, c = buffers.product[:rows], buffers.gate[:rows], buffers.candidate[:rows]
    np.dot(state, recurrent, y)
    np.subtract(y[:, : 2 * units], x[:, : 2 * units], e)
    np.exp(e, e)
    np.add(e, ONE, e)
    np.divide(y[:, 2 * units :], e[:, units:], c)
    np.add(c, x[:, 2 * units :], c)
    np.tanh(c, c)
    np.subtract(h, c, h)
    np.divide(h, e[:, :units], h)
    np.add(h, c, h)


def run(
    gates: GateSource,
    recurrent: Float32Array,
    offsets: IndexArray,
    lengths: Int32Array,
    pooling: Pooling,
    kept: Float32Array | None = None,
) -> Float32Array:
    """Run one direction of one layer over a packed batch.

    Args:
        gates: Returns the gate inputs (stop-start, 3H) of a range of packed steps.
        recurrent: See `TableDirection`.
        offsets: See `Packing`.
        lengths: (B,) of the rows.
        pooling: How the states of a row become one.
        kept: (N, H) that receives every step's state, or None.

    Returns:
        The pooled states (B, H); without meaning where `kept` is given.
    """
    units, batch = recurrent.shape[0] - 1, len(lengths)
    state = make_state(batch, units)
    buffers = StepBuffers(batch, units)
    pooled = np.empty((batch, units), np.float32)
    start = 0
    for stop in offsets[1:].tolist():
        rows = stop - start
        step(state[:rows], gates(start, stop), recurrent, buffers)
        h = state[:rows, :units]
        if kept is not None:
            kept[start:stop] = h
        elif start == 0:
            pooled[:] = h
        elif pooling == "max":
            np.maximum(pooled[:rows], h, out=pooled[:rows])
        elif pooling == "mean":
            np.add(pooled[:rows], h, pooled[:rows])
        start = stop
    if pooling == "last":
        return state[:, :units]
    if pooling == "mean":
        pooled /= lengths[:, None].astype(np.float32)
    return pooled


def pool_batch(
    config: LookupConfig, weights: GruWeights, ids: Int32Array, lengths: Int32Array
) -> Float32Array:
    """Run all layers over a batch of rows sorted longest first.

    Args:
        config: Shape of the model.
        weights: Its weights.
        ids: (B, T) int32.
        lengths: (B,) int32, falling, at least 1.

    Returns:
        The pooled states (B, directions*H).
    """
    packing = make_packing(lengths)
    tokens = ids[packing.rows, packing.steps]  # (N,)
    orders = (tokens, tokens[packing.mirror])
    layer = [
        (_gather(direction.table, order), direction.recurrent)
        for direction, order in zip(weights.first, orders, strict=False)
    ]
    for upper in weights.upper:
        outputs = np.empty((len(tokens), config.pooled_dim), np.float32)
        for number, (gates, recurrent) in enumerate(layer):
            kept = np.empty((len(tokens), config.units), np.float32)
            run(gates, recurrent, packing.offsets, lengths, config.pooling, kept)
            columns = slice(number * config.units, (number + 1) * config.units)
            outputs[:, columns] = kept[packing.mirror] if number == 1 else kept
        layer = []
        for number, dense in enumerate(upper):
            projected = outputs @ dense.kernel  # (N, 3H)
            projected += dense.bias
            if number == 1:
                projected = projected[packing.mirror]
            layer.append((_read(projected), dense.recurrent))
    return np.concatenate(
        [
            run(gates, recurrent, packing.offsets, lengths, config.pooling)
            for gates, recurrent in layer
        ],
        axis=1,
    )


def _gather(table: Float32Array | CompressedTable, order: Int32Array) -> GateSource:
    return lambda start, stop: table.take(order[start:stop], axis=0)


def _read(projected: Float32Array) -> GateSource:
    return lambda start, stop: projected[start:stop]
