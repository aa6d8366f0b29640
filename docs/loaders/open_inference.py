"""Labels of texts from a server that speaks the Open Inference Protocol, version 2.

    python -m serving_compare serve        # in the repository, or Triton, see docs/loading.md
    python open_inference.py http://127.0.0.1:8000 wordnet31 [K] < texts.jsonl

Each line of the input is a JSON object with a "text"; each line of the output, its K labels, 3
unless told otherwise.
Only Python's own library is needed.
"""

import json
import sys
import urllib.request

server, model, k = (*sys.argv[1:], "3")[:3]
k = int(k)
texts = [json.loads(line)["text"] for line in sys.stdin]
for start in range(0, len(texts), 64):
    batch = texts[start : start + 64]
    request = {
        "inputs": [{"name": "text", "shape": [len(batch)], "datatype": "BYTES", "data": batch}],
        "outputs": [{"name": "labels"}],
        "parameters": {"k": k},
    }
    call = urllib.request.Request(
        f"{server}/v2/models/{model}/infer",
        json.dumps(request).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(call, timeout=30) as answer:
        (labels,) = json.load(answer)["outputs"]
    for row in range(len(batch)):
        print("\t".join(labels["data"][k * row : k * row + k]))
