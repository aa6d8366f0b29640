"""Write the model for LiteRT: `python -m serving_compare.peer_litert MODEL_ONNX TARGET`.

The converter is TensorFlow's own, so it runs in a process of its own. One row of any length goes
through a loop in the graph. Steps unrolled for one length take half the time at that length, but a
file for each length of a text is nothing that anybody would deploy; `make bench` times those.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.lookup.native import find_cache
from serving_compare.peer_weights import read_graph_weights

if TYPE_CHECKING:
    from serving_compare.peer_weights import GraphWeights, GruArrays

CONVERT_LIMIT_S = 300


def find_converted(onnx_path: Path) -> Path:
    """Return where the LiteRT file of a model lies once it was converted.

    In the cache beside the kernel's builds, under the hash of `model.onnx` and of this code.
    """
    digest = hashlib.sha256(onnx_path.read_bytes() + Path(__file__).read_bytes()).hexdigest()
    return find_cache().parent / "litert" / f"{digest[:32]}.tflite"


def convert_once(onnx_path: Path) -> Path:
    """Return the LiteRT file of a model, converted if no earlier call did so.

    Raises:
        RuntimeError: The converter failed.
    """
    target = find_converted(onnx_path)
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(f".{os.getpid()}.partial")
    done = subprocess.run(
        [sys.executable, "-m", "serving_compare.peer_litert", str(onnx_path), str(partial)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=CONVERT_LIMIT_S,
        check=False,
    )
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-3:]
        raise RuntimeError(
            f"{onnx_path}: expected TensorFlow's converter to write it for LiteRT, found: "
            f"{' '.join(last)}. Compare without the backend litert."
        )
    partial.replace(target)
    return target


def convert(weights: GraphWeights) -> bytes:
    """Return a LiteRT model from ids (T,) int32 to probabilities (1, C) float32, T at least 1."""
    import tensorflow as tf

    def run_direction(x: Any, arrays: GruArrays, *, is_backward: bool) -> Any:
        """Return the states (T, H) of inputs (T, D), in the order of the text."""
        kernel, recurrent_kernel = arrays.kernel.T, arrays.recurrent_kernel.T
        units = recurrent_kernel.shape[0]
        gates = tf.matmul(x, kernel) + arrays.bias[0]  # (T, 3H)
        if is_backward:
            gates = tf.reverse(gates, [0])

        count = tf.shape(x)[0]

        def step(index: Any, state: Any, states: Any) -> tuple[Any, Any, Any]:
            inner = tf.matmul(state, recurrent_kernel) + arrays.bias[1]
            outer = tf.slice(gates, [index, 0], [1, 3 * units])
            (z, r, candidate), (inner_z, inner_r, inner_candidate) = (
                tf.split(part, 3, axis=1) for part in (outer, inner)
            )
            z = tf.sigmoid(z + inner_z)
            candidate = tf.tanh(candidate + tf.sigmoid(r + inner_r) * inner_candidate)
            state = candidate + z * (state - candidate)
            return index + 1, state, states.write(index, state[0])

        states = tf.TensorArray(tf.float32, size=count, element_shape=(units,))
        _, _, states = tf.while_loop(
            lambda index, state, states: index < count,
            step,
            (tf.constant(0), tf.zeros((1, units)), states),
        )
        states = states.stack()  # (T, H)
        return tf.reverse(states, [0]) if is_backward else states

    def classify(ids: Any) -> Any:
        x = tf.gather(weights.embedding, ids)
        parts: list[Any] = []
        for directions in weights.layers:
            parts = [
                run_direction(x, arrays, is_backward=number == 1)
                for number, arrays in enumerate(directions)
            ]
            x = tf.concat(parts, axis=1)
        if weights.pooling == "max":
            pooled = tf.reduce_max(x, axis=0, keepdims=True)
        elif weights.pooling == "mean":
            pooled = tf.reduce_mean(x, axis=0, keepdims=True)
        else:  # the backward direction has read everything when it stands at the first token
            ends = [part[:1] if number else part[-1:] for number, part in enumerate(parts)]
            pooled = tf.concat(ends, axis=1)
        if weights.relu:
            pooled = tf.nn.relu(pooled)
        return tf.nn.softmax(tf.matmul(pooled, weights.head_kernel) + weights.head_bias)

    graph = tf.function(classify, input_signature=[tf.TensorSpec([None], tf.int32)])
    concrete = graph.get_concrete_function()
    model: bytes = tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert()
    return model


if __name__ == "__main__":
    Path(sys.argv[2]).write_bytes(convert(read_graph_weights(Path(sys.argv[1]))))
