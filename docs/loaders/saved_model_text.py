"""Labels of texts by saved_model_text/: TensorFlow reads the text itself.

    pip install tensorflow tensorflow-text
    python saved_model_text.py ARTIFACT < texts.jsonl

Each line of the input is a JSON object with a "text"; each line of the output, its three labels.
"""

import json
import sys
from pathlib import Path

import tensorflow as tf
import tensorflow_text  # noqa: F401  (the graph holds its operators)

artifact = Path(sys.argv[1])
labels = json.loads((artifact / "labels.json").read_text(encoding="utf-8"))
model = tf.saved_model.load(str(artifact / "saved_model_text"))
texts = tf.constant([json.loads(line)["text"] for line in sys.stdin])
probabilities = model.signatures["serving_default"](text=texts)["probabilities"]
for best in tf.math.top_k(probabilities, 3).indices.numpy():
    print("\t".join(labels[label_id] for label_id in best))
