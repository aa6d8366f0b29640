"""A Keras model and its graph on the same random inputs: batches, lengths, padding of every kind.

The shapes are 1 x 1, 1 x 20, 3 x 7 and 5 x 2, where the model leaves batch and time open. Rows are
padded on the right, on the left, in the middle or everywhere: with id 0, or with the value that a
Masking layer masks.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import tensorflow as tf

from export.rewrite.errors import ParityError
from export.rewrite.signature import find_inputs, make_signature, run_flat

SHAPES = ((1, 1), (1, 20), (3, 7), (5, 2))
TOLERANCE = 1e-5
"""Of an output's largest absolute value, or of 1 where that is smaller: float32 rounding."""


@dataclass(frozen=True)
class Parity:
    """What was compared: batches run, the largest difference, and of which output it was."""

    batches: int
    max_difference: float
    output: str


def _pad(rng: np.random.Generator, values: Any, padding: float) -> None:
    """Overwrite part of some rows of `values`, (B, T, ...), by padding."""
    steps = values.shape[1]
    for number, row in enumerate(values):
        kind = int(rng.integers(5)) if values.shape[0] > 1 else number % 2
        cut = int(rng.integers(steps + 1))
        if kind == 1:
            row[cut:] = padding
        elif kind == 2:
            row[:cut] = padding
        elif kind == 3:
            row[rng.random(steps) < 0.5] = padding


def make_inputs(
    model: Any, batch: int, steps: int, rng: np.random.Generator, *, padded: bool = True
) -> dict[str, np.ndarray[Any, Any]]:
    """Make one array for each input, open axes filled by `batch` and `steps`."""
    layers = model._flatten_layers()
    sizes = [layer.input_dim for layer in layers if isinstance(layer, keras.layers.Embedding)]
    masked = [layer.mask_value for layer in layers if isinstance(layer, keras.layers.Masking)]
    arrays = {}
    for tensor in keras.tree.flatten(find_inputs(model)):
        open_sizes = [batch] + [steps] * (len(tensor.shape) - 1)
        shape = [size or open_ for size, open_ in zip(tensor.shape, open_sizes, strict=True)]
        dtype = np.dtype(keras.backend.standardize_dtype(tensor.dtype))
        padding = 0.0
        values: Any
        if dtype.kind == "b":
            values = rng.random(shape) < 0.7
        elif dtype.kind in "iu":
            values = rng.integers(1, max(2, min(sizes, default=2)), shape)
        else:
            values = rng.normal(size=shape)
            padding = masked[0] if masked else 0.0
        values = values.astype(dtype)
        if padded and values.ndim > 1:
            _pad(rng, values, padding)
        arrays[tensor.name.split(":")[0]] = values
    return arrays


def _compare(
    model: Any, session: Any, names: list[str], seed: int
) -> Iterator[tuple[float, float, str]]:
    """Yield difference, bound and name of every output of every batch that Keras accepts."""
    rng = np.random.default_rng(seed)
    # Traced once for all shapes: Keras's loop is slow when each of its operators runs by itself.
    run = tf.function(
        lambda *inputs: run_flat(model, inputs), make_signature(model), autograph=False
    )
    for batch, steps in SHAPES:
        arrays = make_inputs(model, batch, steps, rng)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a softmax over one step is our shape's doing
                outputs = run(*(tf.constant(values) for values in arrays.values()))
            expected = [np.asarray(output) for output in outputs]
        except (ValueError, tf.errors.InvalidArgumentError):
            continue  # such as one step for a convolution over three: the model's own limit
        found = session.run(names, arrays)
        for name, one, other in zip(names, expected, found, strict=True):
            if one.shape != other.shape:
                raise ParityError(
                    f"Output {name!r}: expected shape {one.shape} as from Keras, found "
                    f"{other.shape}. Please report the model's configuration."
                )
            same = (one == other) | (np.isnan(one) & np.isnan(other))  # Keras may answer NaN
            gap = np.where(same, 0.0, np.abs(one.astype(np.float64) - other))
            finite = np.abs(one, where=np.isfinite(one), out=np.zeros_like(one))
            bound = TOLERANCE * max(1.0, float(finite.max(initial=0.0)))
            yield (float(gap.max(initial=0.0)) if np.isfinite(gap).all() else np.inf), bound, name


def check_parity(model: Any, proto: onnx.ModelProto, *, seed: int = 1) -> Parity:
    """Run both on random inputs and compare every output.

    Raises:
        ParityError: A difference above `TOLERANCE`, another shape, a graph that onnxruntime cannot
            run, or a model that accepts no input of ours.
    """
    try:
        session = onnxruntime.InferenceSession(
            proto.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        names = [output.name for output in session.get_outputs()]
        results = list(_compare(model, session, names, seed))
    except ParityError:
        raise
    except Exception as err:
        # onnxruntime's errors share no base but Exception.
        if not type(err).__module__.startswith("onnxruntime"):
            raise
        raise ParityError(
            f"onnxruntime: expected to run the graph, found: {str(err).splitlines()[0]}"
        ) from err
    if not results:
        shapes = ", ".join(f"{batch} x {steps}" for batch, steps in SHAPES)
        raise ParityError(
            f"Model {model.name!r}: expected it to accept a batch of {shapes}, found none that it "
            "does. Convert with check=False and compare on inputs of your own."
        )
    largest, bound, name = max(results, key=lambda result: result[0] / result[1])
    if largest > bound:
        raise ParityError(
            f"Output {name!r}: expected Keras's answers within {bound:.1e}, found a difference of "
            f"{largest:.1e}. Nothing was written."
        )
    return Parity(len(results) // len(names), largest, name)
