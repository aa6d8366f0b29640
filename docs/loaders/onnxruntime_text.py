"""Labels of texts by one ONNX file that holds the tokenizer too.

    pip install numpy onnxruntime onnxruntime-extensions
    python -m export text-onnx ARTIFACT model_text.onnx       # in the repository, once
    python onnxruntime_text.py model_text.onnx ARTIFACT/labels.json < texts.jsonl

Each line of the input is a JSON object with a "text"; each line of the output, its three labels.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import onnxruntime_extensions

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1  # a second thread costs more than it gives at this size
options.register_custom_ops_library(onnxruntime_extensions.get_library_path())
session = onnxruntime.InferenceSession(sys.argv[1], options)
labels = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))

for line in sys.stdin:
    text = np.array([json.loads(line)["text"]])
    (probabilities,) = session.run(["probabilities"], {"text": text})
    print("\t".join(labels[best] for best in np.argsort(-probabilities[0], kind="stable")[:3]))
