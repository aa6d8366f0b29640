"""Labels of texts with NumPy alone: the lookup folder and the runtime inside it.

    pip install numpy sentencepiece
    python lookup.py ARTIFACT < texts.jsonl

Each line of the input is a JSON object with a "text"; each line of the output, its three labels.
sentencepiece is imported only for words that training never saw.
"""

import json
import sys

artifact = sys.argv[1]
sys.path.insert(0, f"{artifact}/lookup")
from runtime import load_lookup  # noqa: E402  (the artifact brings it)

model = load_lookup(f"{artifact}/lookup")
texts = [json.loads(line)["text"] for line in sys.stdin]
for best in model.predict(texts, k=3):
    print("\t".join(label for label, _ in best))
