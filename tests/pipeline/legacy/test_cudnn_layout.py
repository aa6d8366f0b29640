"""cuDNN's arrays turned into Keras's: the same answers, or a reason why not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.legacy.cudnn_layout import to_keras_gru


def run_cudnn(
    kernel: np.ndarray, recurrent: np.ndarray, bias: np.ndarray, rows: np.ndarray, length: int
) -> np.ndarray:
    """cuDNN's equations for one row, float64: (T, in) to (T, H), zeros behind its length.

    The three arrays are a legacy layer's: cuDNN sees their memory gate by gate as (H, in).
    """
    units = recurrent.shape[0]
    w = [gate.reshape(units, -1).astype(np.float64) for gate in np.hsplit(kernel, 3)]
    u = [gate.reshape(units, units).astype(np.float64) for gate in np.hsplit(recurrent, 3)]
    b = bias.astype(np.float64).reshape(6, units)  # input z, r, h, then recurrent z, r, h
    state = np.zeros(units)
    outputs = np.zeros((len(rows), units))
    for step in range(length):
        x = rows[step]
        z = 1 / (1 + np.exp(-(w[0] @ x + b[0] + u[0] @ state + b[3])))
        r = 1 / (1 + np.exp(-(w[1] @ x + b[1] + u[1] @ state + b[4])))
        candidate = np.tanh(w[2] @ x + b[2] + r * (u[2] @ state + b[5]))
        state = z * state + (1 - z) * candidate
        outputs[step] = state
    return outputs


def draw(inputs: int, units: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A legacy layer's arrays."""
    random = np.random.default_rng(seed)
    shapes = ((inputs, 3 * units), (units, 3 * units), (6 * units,))
    kernel, recurrent, bias = (random.normal(0, 0.5, s).astype(np.float32) for s in shapes)
    return kernel, recurrent, bias


def test_a_gate_is_reread_and_transposed_not_only_transposed() -> None:
    kernel = np.arange(2 * 9, dtype=np.float32).reshape(2, 9)  # in = 2, H = 3
    turned = to_keras_gru(kernel, np.zeros((3, 9), np.float32), np.zeros(18, np.float32)).kernel
    first_gate = np.array([[0, 1, 2], [9, 10, 11]], np.float32)
    assert turned[:, :3].tolist() == first_gate.reshape(3, 2).T.tolist()
    assert turned[:, :3].tolist() != first_gate.tolist()


def test_weights_of_a_gru_pass_as_they_are() -> None:
    arrays = (np.ones((2, 9), np.float32), np.ones((3, 9), np.float32), np.ones((2, 9), np.float32))
    for found, given in zip(to_keras_gru(*arrays), arrays, strict=True):
        assert found is given


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        (((2, 9), (3, 9), (9,)), "this layer was made with reset_after=False"),
        (((2, 9), (3, 9), (12,)), r"expected a bias \(6H,\) of CuDNNGRU or .* with H = 3, found"),
        (((2, 12), (3, 12), (24,)), r"Four gates would be an LSTM, one a SimpleRNN"),
        (((2, 6), (3, 9), (18,)), r"expected kernels \(in, 3H\) and \(H, 3H\), found \(2, 6\)"),
    ],
)
def test_other_layouts_are_refused_with_the_reason(
    shapes: tuple[tuple[int, ...], ...], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        to_keras_gru(*(np.zeros(shape, np.float32) for shape in shapes))


@pytest.mark.slow
@pytest.mark.parametrize("directions", [1, 2])
def test_keras_answers_as_the_cudnn_equations_on_right_padded_batches(directions: int) -> None:
    from pipeline.run_folder import import_tensorflow

    import_tensorflow()
    import keras

    inputs, units = 7, 5
    legacy = [draw(inputs, units, seed) for seed in range(directions)]
    random = np.random.default_rng(9)
    lengths = [1, 4, 11, 6]
    batch = random.normal(0, 1, (4, 11, inputs)).astype(np.float32)
    mask = np.arange(11)[None] < np.array(lengths)[:, None]
    layer: Any = keras.layers.GRU(units, return_sequences=True)
    if directions == 2:
        layer = keras.layers.Bidirectional(layer)
    layer.build(batch.shape)
    layer.set_weights([array for arrays in legacy for array in to_keras_gru(*arrays)])
    found = np.asarray(layer(batch, mask=mask))
    largest = 0.0
    for row, length in enumerate(lengths):
        text = batch[row, :length].astype(np.float64)
        expected = [run_cudnn(*legacy[0], text, length)]
        if directions == 2:
            expected.append(run_cudnn(*legacy[1], text[::-1], length)[::-1])
        difference = np.abs(found[row, :length] - np.concatenate(expected, axis=1))
        largest = max(largest, float(difference.max()))
    assert largest <= 1e-6, largest
