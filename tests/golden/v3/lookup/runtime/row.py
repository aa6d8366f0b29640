"""One row at a time: the recurrence of `gru` with the fewest calls into NumPy.

At H=128 a step is a product and ten element-wise calls, and the price of most calls is the call
itself. So this form saves calls: every buffer and every view of it is made once and used again,
products go through methods bound in advance (a tenth less than `np.dot`), states are written
straight to where pooling and the next step read them, and a bidirectional layer reads from both
ends at once, with two products and one set of element-wise calls over both directions (11 % less
than one direction after the other; a stacked `np.matmul` for the two products loses 30 %).

Layouts, chosen so that element-wise operands are contiguous (a strided one costs more than one
further call), f forward and b backward:

    unidirectional   state [h 1]         product [z r c]              gates [z r]
    bidirectional    state [1 hf hb 1]   product [cf rf zf zb rb cb]  gates [rf zf zb rb]
"""

from __future__ import annotations

import numpy as np

from .arrays import Float32Array, make_aligned
from .config import LookupConfig, Pooling
from .gru import ONE, DenseDirection, GruWeights, Int32Array, TableDirection


class ForwardRow:
    """Scratch memory and recurrence for one row of a unidirectional model. One thread at a time.

    Args:
        config: Shape of the model.
        weights: Its weights.
        capacity: Largest number of steps.
    """

    def __init__(self, config: LookupConfig, weights: GruWeights, capacity: int) -> None:
        units = config.units
        self.capacity = capacity
        self._units = units
        self._table = weights.first[0].table
        self._dense = [layer[0] for layer in weights.upper]
        self._recurrents = [weights.first[0].recurrent, *(dense.recurrent for dense in self._dense)]
        self._gates = np.empty((capacity, 3 * units), np.float32)
        self._states = np.ones((capacity, units + 1), np.float32)
        self._product = np.empty(3 * units, np.float32)
        self._sigmoid = np.empty(2 * units, np.float32)
        self._candidate = np.empty(units, np.float32)
        self._step_views = list(
            zip(
                [state.dot for state in self._states[:-1]],
                self._states[:-1, :units],
                self._states[1:, :units],
                self._gates[1:, : 2 * units],
                self._gates[1:, 2 * units :],
                strict=True,
            )
        )

    def pool(self, tokens: Int32Array, pooling: Pooling) -> Float32Array:
        """Return the pooled state (H,) of tokens (T,), 1 <= T <= capacity."""
        length = len(tokens)
        gates = self._gates[:length]
        outputs = self._states[:length, : self._units]
        self._table.take(tokens, 0, gates, "clip")
        self._run(self._recurrents[0], length)
        for dense, recurrent in zip(self._dense, self._recurrents[1:], strict=True):
            np.matmul(outputs, dense.kernel, gates)
            np.add(gates, dense.bias, gates)
            self._run(recurrent, length)
        return pool_states(outputs, pooling)

    def _run(self, recurrent: Float32Array, length: int) -> None:
        add, subtract, divide = np.add, np.subtract, np.divide
        exp, tanh = np.exp, np.tanh
        units, one = self._units, ONE
        y, e, c = self._product, self._sigmoid, self._candidate
        y_gates, y_candidate = y[: 2 * units], y[2 * units :]
        e_update, e_reset = e[:units], e[units:]
        # The first state is 0, so the product is the candidate bias alone.
        h = self._states[0, :units]
        np.negative(self._gates[0, : 2 * units], e)
        exp(e, e)
        add(e, one, e)
        divide(recurrent[-1, 2 * units :], e_reset, c)
        add(c, self._gates[0, 2 * units :], c)
        tanh(c, c)
        divide(c, e_update, h)
        subtract(c, h, h)
        for dot, h, h_next, x_gates, x_candidate in self._step_views[: length - 1]:
            dot(recurrent, y)
            subtract(y_gates, x_gates, e)
            exp(e, e)
            add(e, one, e)
            divide(y_candidate, e_reset, c)
            add(c, x_candidate, c)
            tanh(c, c)
            subtract(h, c, h_next)
            divide(h_next, e_update, h_next)
            add(h_next, c, h_next)


class TwoWayRow:
    """Scratch memory and recurrence for one row of a bidirectional model. One thread at a time.

    Args:
        config: Shape of the model.
        weights: Its weights.
        capacity: Largest number of steps.
    """

    def __init__(self, config: LookupConfig, weights: GruWeights, capacity: int) -> None:
        units = config.units
        self.capacity = capacity
        self._units = units
        self._tables = [direction.table for direction in weights.first]
        layers: list[tuple[TableDirection | DenseDirection, ...]] = [weights.first, *weights.upper]
        self._recurrents = [
            (_reverse_layout(forward.recurrent, units), backward.recurrent)
            for forward, backward in layers
        ]
        self._dense = weights.upper
        self._gates = np.empty((capacity, 4 * units), np.float32)
        self._candidates = np.empty((capacity, 2 * units), np.float32)
        self._states = np.ones((capacity, 2 * units + 2), np.float32)
        self._product = np.empty(6 * units, np.float32)
        self._sigmoid = np.empty(4 * units, np.float32)
        self._candidate = np.empty(2 * units, np.float32)
        self._step_views = list(
            zip(
                [state.dot for state in self._states[:-1, : units + 1]],
                [state.dot for state in self._states[:-1, units + 1 :]],
                self._states[:-1, 1:-1],
                self._states[1:, 1:-1],
                self._gates[1:],
                self._candidates[1:],
                strict=True,
            )
        )

    def pool(self, tokens: Int32Array, pooling: Pooling) -> Float32Array:
        """Return the pooled state (2H,) of tokens (T,), 1 <= T <= capacity."""
        length = len(tokens)
        forward, backward = self._tables
        # The ids are checked; "clip" spares `take` a second look and a buffer.
        self._load(
            forward.take(tokens, 0, None, "clip"),
            backward.take(tokens[::-1], 0, None, "clip"),
            length,
        )
        self._run(*self._recurrents[0], length)
        for dense, recurrents in zip(self._dense, self._recurrents[1:], strict=True):
            units = self._units
            states = self._states[:length]
            outputs = np.concatenate(
                (states[:, 1 : units + 1], states[::-1, units + 1 : -1]), axis=1
            )  # (T, 2H), both in the order of the text
            x_forward, x_backward = (outputs @ d.kernel + d.bias for d in dense)
            self._load(x_forward, x_backward[::-1], length)
            self._run(*recurrents, length)
        return pool_states(self._states[:length, 1:-1], pooling)

    def _load(self, forward: Float32Array, backward: Float32Array, length: int) -> None:
        """Lay out gate inputs (T, 3H) of both directions, each in its own reading order."""
        units = self._units
        # Two calls: one assignment a part took twice as long at ten tokens.
        np.concatenate(
            (forward[:, units : 2 * units], forward[:, :units], backward[:, : 2 * units]),
            1,
            self._gates[:length],
        )
        np.concatenate(
            (forward[:, 2 * units :], backward[:, 2 * units :]), 1, self._candidates[:length]
        )

    def _run(self, forward: Float32Array, backward: Float32Array, length: int) -> None:
        add, subtract, divide = np.add, np.subtract, np.divide
        exp, tanh = np.exp, np.tanh
        units, one = self._units, ONE
        y, e, c = self._product, self._sigmoid, self._candidate
        y_forward, y_backward = y[: 3 * units], y[3 * units :]
        y_gates = y[units : 5 * units]
        y_candidate_forward, y_candidate_backward = y[:units], y[5 * units :]
        e_update = e[units : 3 * units]
        e_reset_forward, e_reset_backward = e[:units], e[3 * units :]
        c_forward, c_backward = c[:units], c[units:]
        # The first state is 0, so the product is the candidate bias alone.
        h = self._states[0, 1:-1]
        np.negative(self._gates[0], e)
        exp(e, e)
        add(e, one, e)
        divide(forward[0, :units], e_reset_forward, c_forward)
        divide(backward[-1, 2 * units :], e_reset_backward, c_backward)
        add(c, self._candidates[0], c)
        tanh(c, c)
        divide(c, e_update, h)
        subtract(c, h, h)
        for dot_f, dot_b, h, h_next, x_gates, x_candidate in self._step_views[: length - 1]:
            dot_f(forward, y_forward)
            dot_b(backward, y_backward)
            subtract(y_gates, x_gates, e)
            exp(e, e)
            add(e, one, e)
            divide(y_candidate_forward, e_reset_forward, c_forward)
            divide(y_candidate_backward, e_reset_backward, c_backward)
            add(c, x_candidate, c)
            tanh(c, c)
            subtract(h, c, h_next)
            divide(h_next, e_update, h_next)
            add(h_next, c, h_next)


def _reverse_layout(recurrent: Float32Array, units: int) -> Float32Array:
    """Return (H+1, 3H) with columns c, r, z and the bias row first."""
    by_gate = recurrent.reshape(units + 1, 3, units)[:, ::-1].reshape(units + 1, 3 * units)
    reversed_layout = make_aligned(recurrent.shape)
    reversed_layout[0] = by_gate[-1]
    reversed_layout[1:] = by_gate[:-1]
    return reversed_layout


def pool_states(states: Float32Array, pooling: Pooling) -> Float32Array:
    """Return the pooled state (D,) of states (T, D), T at least 1; may be a view."""
    pooled: Float32Array
    if pooling == "last":
        pooled = states[-1]
    elif pooling == "max":
        pooled = np.maximum.reduce(states, 0)
    else:
        pooled = np.add.reduce(states, 0)
        pooled /= np.float32(len(states))
    return pooled
