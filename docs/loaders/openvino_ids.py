"""Labels of texts by model.onnx in OpenVINO, ids by sentencepiece, all texts in one batch.

    pip install numpy openvino sentencepiece
    python openvino_ids.py ARTIFACT < texts.jsonl

Each line of the input is a JSON object with a "text"; each line of the output, its three labels.
"""

import json
import sys
from pathlib import Path

import numpy as np
import openvino
import sentencepiece

artifact = Path(sys.argv[1])
manifest = json.loads((artifact / "manifest.json").read_text(encoding="utf-8"))
labels = json.loads((artifact / "labels.json").read_text(encoding="utf-8"))
tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(artifact / "tokenizer.model"))
# Without the hint OpenVINO computes in bfloat16 where the processor has it: other probabilities.
precise = {"INFERENCE_PRECISION_HINT": "f32"}
model = openvino.Core().compile_model(artifact / "model.onnx", "CPU", precise)

texts = [json.loads(line)["text"] for line in sys.stdin]
ids = [row[: manifest["max_tokens"]] or [1] for row in tokenizer.encode(texts)]
lengths = np.array([len(row) for row in ids], np.int32)
tokens = np.zeros((len(ids), lengths.max()), np.int32)  # padded on the right, with any id
for row, padded in zip(ids, tokens, strict=True):
    padded[: len(row)] = row
probabilities = model({"tokens": tokens, "lengths": lengths})["probabilities"]
for best in np.argsort(-probabilities, kind="stable")[:, :3]:
    print("\t".join(labels[label_id] for label_id in best))
