"""What goes into a Keras model and comes out of it, in one order for every way of running it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from export.rewrite.errors import RewriteError


def find_inputs(model: Any) -> Any:
    """Return a model's symbolic inputs in the structure in which it wants them.

    Raises:
        RewriteError: It has none, such as a subclassed model.
    """
    try:
        if isinstance(model, keras.Sequential):  # it has no `input`; this one raises unless built
            (inputs,) = model.inputs
            return inputs
        inputs = model.input
    except (AttributeError, TypeError, ValueError):
        inputs = None
    if inputs is None:
        raise RewriteError(
            f"Model {model.name!r}: expected a functional or Sequential model with known inputs, "
            f"found {type(model).__name__} without. Wrap it: x = keras.Input(...); "
            "model = keras.Model(x, model(x))."
        )
    return inputs


def make_signature(model: Any) -> list[Any]:
    """Return a TensorSpec for each input, under Keras's name of it."""
    return [
        tf.TensorSpec(tensor.shape, tensor.dtype, name=tensor.name.split(":")[0])
        for tensor in keras.tree.flatten(find_inputs(model))
    ]


def run_flat(model: Any, inputs: Sequence[Any]) -> list[Any]:
    """Call a model in inference on its inputs in a row, and return its outputs in a row."""
    packed = keras.tree.pack_sequence_as(find_inputs(model), list(inputs))
    return keras.tree.flatten(model(packed, training=False))


def name_outputs(model: Any, count: int) -> list[str]:
    """Name the outputs: a dictionary's keys, or Keras's names where they differ from each other."""
    outputs = None if isinstance(model, keras.Sequential) else model.output
    if isinstance(outputs, dict) and len(outputs) == count:
        return sorted(outputs)  # the order in which keras.tree walks a dictionary
    names = list(getattr(model, "output_names", None) or [model.layers[-1].name])
    taken = {spec.name for spec in make_signature(model)}
    if len(set(names)) == count and not taken & set(names):
        return names
    return [f"output_{number}" for number in range(count)]
