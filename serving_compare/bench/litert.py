"""Write the model for LiteRT, one file a length: `python -m serving_compare.bench.litert`.

The converter is TensorFlow's own, so this runs in a process of its own. The steps are unrolled:
at 20 tokens and 128 units that took 154 µs, a loop in the graph 338 µs, and Keras's layer, whose
lists the converter turns into a loop as well, 297 µs. Converting the SavedModel itself fails,
because its sequence length is not fixed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving_compare.bench.models import read_weights

if TYPE_CHECKING:
    from serving_compare.bench.models import Weights


def convert_lengths(weights: Weights, folder: Path, lengths: Sequence[int]) -> None:
    """Write `<folder>/<T>.tflite` for single rows of each length.

    Args:
        weights: See `read_weights`.
        folder: Existing folder.
        lengths: Numbers of tokens.
    """
    import tensorflow as tf

    def classify(ids: Any) -> Any:
        x = tf.matmul(tf.gather(weights["embedding"], ids[0]), weights["kernel"])
        x += weights["bias"][0]  # (T, 3H)
        h = tf.zeros((1, weights["recurrent_kernel"].shape[0]))
        for step in tf.split(x, ids.shape[1]):
            inner = tf.matmul(h, weights["recurrent_kernel"]) + weights["bias"][1]
            (z, r, candidate), (inner_z, inner_r, inner_candidate) = (
                tf.split(gates, 3, axis=1) for gates in (step, inner)
            )
            z = tf.sigmoid(z + inner_z)
            candidate = tf.tanh(candidate + tf.sigmoid(r + inner_r) * inner_candidate)
            h = candidate + z * (h - candidate)
        return tf.nn.softmax(tf.matmul(h, weights["head_kernel"]) + weights["head_bias"])

    for tokens in lengths:
        graph = tf.function(classify, input_signature=[tf.TensorSpec([1, tokens], tf.int32)])
        converter = tf.lite.TFLiteConverter.from_concrete_functions([graph.get_concrete_function()])
        (folder / f"{tokens}.tflite").write_bytes(converter.convert())


if __name__ == "__main__":
    convert_lengths(
        read_weights(Path(sys.argv[1])), Path(sys.argv[2]), list(map(int, sys.argv[3:]))
    )
