"""Runs a graph that reads text: `python -m export.text_onnx_run MODEL < texts.json > found.npy`.

In a process of its own, because the tokenizer in onnxruntime-extensions and those of sentencepiece
and tensorflow-text bring the same C++ symbols: loaded into one process, the second ends it.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import onnxruntime
import onnxruntime_extensions


def main() -> None:
    """Write the probabilities, (B, C) float32, of the texts, a JSON list, as npy to stdout."""
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(onnxruntime_extensions.get_library_path())
    session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
    texts = np.array(json.load(sys.stdin), dtype=object)
    (found,) = session.run(["probabilities"], {"text": texts})
    np.save(sys.stdout.buffer, found)


if __name__ == "__main__":
    main()
