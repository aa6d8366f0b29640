"""The same classifier converted by tf2onnx: an independent oracle, not a product.

tf2onnx knows nothing of our graph and turns each GRU into a Loop, slow but correct. It is kept
under `oracle/` of an artifact, used to check `model.onnx`, and timed as a row of the comparison.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from export.onnx_graph import IR_VERSION, OPSET


def write_tf2onnx(path: Path, module: Any) -> None:
    """Convert the module of `saved_model.build_module` (ids in) and write it.

    Args:
        path: Target file.
        module: Its `serve` is a `tf.function` with one input signature.
    """
    with warnings.catch_warnings():
        # tf2onnx 1.17 still uses names NumPy and onnx have deprecated.
        warnings.simplefilter("ignore")
        import tf2onnx

        model, _ = tf2onnx.convert.from_function(
            module.serve, input_signature=module.serve.input_signature, opset=OPSET
        )
    model.ir_version = IR_VERSION
    path.write_bytes(model.SerializeToString(deterministic=True))
