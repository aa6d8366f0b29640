"""Labels of texts by saved_model/ in a bare TensorFlow, ids by sentencepiece, in one batch.

    pip install tensorflow sentencepiece
    python saved_model_ids.py ARTIFACT < texts.jsonl

Each line of the input is a JSON object with a "text"; each line of the output, its three labels.
"""

import json
import sys
from pathlib import Path

import sentencepiece
import tensorflow as tf

artifact = Path(sys.argv[1])
manifest = json.loads((artifact / "manifest.json").read_text(encoding="utf-8"))
labels = json.loads((artifact / "labels.json").read_text(encoding="utf-8"))
tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(artifact / "tokenizer.model"))
model = tf.saved_model.load(str(artifact / "saved_model"))  # keep it: the function alone dies
serve = model.signatures["serving_default"]

texts = [json.loads(line)["text"] for line in sys.stdin]
ids = tf.ragged.constant(
    [row[: manifest["max_tokens"]] or [1] for row in tokenizer.encode(texts)], tf.int32
)
lengths = tf.cast(ids.row_lengths(), tf.int32)
probabilities = serve(tokens=ids.to_tensor(), lengths=lengths)["probabilities"]
for best in tf.math.top_k(probabilities, 3).indices.numpy():
    print("\t".join(labels[label_id] for label_id in best))
