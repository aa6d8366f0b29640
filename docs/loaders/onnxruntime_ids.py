"""Labels of texts by model.onnx in onnxruntime, ids by sentencepiece.

    pip install numpy onnxruntime sentencepiece
    python onnxruntime_ids.py ARTIFACT < texts.jsonl

Each line of the input is a JSON object with a "text"; each line of the output, its three labels.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import sentencepiece

artifact = Path(sys.argv[1])
manifest = json.loads((artifact / "manifest.json").read_text(encoding="utf-8"))
labels = json.loads((artifact / "labels.json").read_text(encoding="utf-8"))
tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(artifact / "tokenizer.model"))
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1  # a second thread costs more than it gives at this size
session = onnxruntime.InferenceSession(artifact / "model.onnx", options)

for line in sys.stdin:
    ids = tokenizer.encode(json.loads(line)["text"])[: manifest["max_tokens"]] or [1]
    feeds = {"tokens": np.array([ids], np.int32), "lengths": np.array([len(ids)], np.int32)}
    (probabilities,) = session.run(["probabilities"], feeds)
    print("\t".join(labels[best] for best in np.argsort(-probabilities[0], kind="stable")[:3]))
