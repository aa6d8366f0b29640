"""The card's section on loading: one short program a runtime. Tests run each of them."""

from __future__ import annotations

import string

from export.model_card.markdown import format_literal
from pipeline.run_folder import Run

_TEMPLATE = string.Template(
    """\
`ids` below are (B, T) int32, padded on the right with 0; `lengths` are (B,) int32. Run the
snippets in this folder. Whole programs for each runtime, a page for browsers, layouts for Triton
and TensorFlow Serving and an HTTP server (Open Inference Protocol v2) are in gatetable's
`docs/loading.md`.

### Lookup tables

With NumPy alone (and sentencepiece for words that are not in the word table):

```python
import sys

sys.path.insert(0, "lookup")
from runtime import load_lookup

model = load_lookup("lookup")  # verifies, memory-maps
print(model.predict($example_texts, k=$k))
ids, lengths = model.encode($example_texts)
print(model.probabilities(ids, lengths))
```

The same, one token at a time:

```python
import sys

sys.path.insert(0, "lookup")
from runtime import load_lookup

model = load_lookup("lookup")
stream = model.stream()
ids, lengths = model.encode($example_texts)
for token in ids[0, : lengths[0]].tolist():
    stream.push(token)
print(stream.probabilities())
```

In C, with no library but C's own:

```c
#include "gatetable.h"
#include <stdio.h>

int main(void) {
    gt_model *model;
    char message[GT_MESSAGE_BYTES];
    if (gt_open("lookup", &model, message) != GT_OK) {
        fprintf(stderr, "%s\\n", message);
        return 1;
    }
    const int32_t ids[] = {1, 1};
    int32_t best;
    float probability;
    if (gt_predict(model, ids, 2, 1, &best, &probability) == GT_OK)
        printf("%s %.6f\\n", gt_label(model, best), (double)probability);
    gt_close(model);
    return 0;
}
```

```sh
cc -O3 -I lookup/runtime/kernel predict.c lookup/runtime/kernel/gatetable.c -o predict -lm
```

### ONNX

onnxruntime:

```python
import numpy as np
import onnxruntime
import sentencepiece

tokenizer = sentencepiece.SentencePieceProcessor(model_file="tokenizer.model")
ids = [tokenizer.encode($example_text)[:$max_tokens] or [1]]
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
inputs = {"tokens": np.array(ids, np.int32), "lengths": np.array([len(ids[0])], np.int32)}
print(session.run(["probabilities"], inputs)[0])
```

OpenVINO. Without the hint it computes in bfloat16 where the processor has it: other probabilities.

```python
import numpy as np
import openvino
import sentencepiece

tokenizer = sentencepiece.SentencePieceProcessor(model_file="tokenizer.model")
ids = [tokenizer.encode($example_text)[:$max_tokens] or [1]]
core, precise = openvino.Core(), {"INFERENCE_PRECISION_HINT": "f32"}
model = core.compile_model("model.onnx", "CPU", precise)
inputs = {"tokens": np.array(ids, np.int32), "lengths": np.array([len(ids[0])], np.int32)}
print(model(inputs)["probabilities"])
```

Node, with `npm install onnxruntime-node @sctg/sentencepiece-js`; a browser takes `onnxruntime-web`:

```js
import { SentencePieceProcessor } from "@sctg/sentencepiece-js";
import ort from "onnxruntime-node";

const tokenizer = new SentencePieceProcessor();
await tokenizer.load("tokenizer.model");
let ids = tokenizer.encodeIds($js_text).slice(0, $max_tokens);
if (ids.length === 0) ids = [1];
const session = await ort.InferenceSession.create("model.onnx");
const { probabilities } = await session.run({
  tokens: new ort.Tensor("int32", Int32Array.from(ids), [1, ids.length]),
  lengths: new ort.Tensor("int32", Int32Array.of(ids.length), [1]),
});
console.log(probabilities.data);
```

### TensorFlow

Ids in (no other package):

```python
import tensorflow as tf

model = tf.saved_model.load("saved_model")
serve = model.signatures["serving_default"]
print(serve(tokens=tf.constant([[1, 2, 0]]), lengths=tf.constant([2]))["probabilities"])
```

Raw text in. The import of tensorflow_text is needed though its name is not used: it registers the
tokenizer's operator.

```python
import tensorflow as tf
import tensorflow_text  # noqa: F401

model = tf.saved_model.load("saved_model_text")
serve = model.signatures["serving_default"]
print(serve(text=tf.constant($example_texts))["probabilities"])
```

A SavedModel is a program: load only one you trust. The lookup folder and the ONNX file hold
numbers and a graph."""
)


def format_usage(run: Run, text: str, k: int) -> str:
    """Return the section on loading.

    Args:
        run: Of the model.
        text: What the snippets classify.
        k: How many labels they ask for.
    """
    literal = format_literal(text)
    return _TEMPLATE.substitute(
        example_text=literal,
        example_texts=f"[{literal}]",
        # Another language's escapes are other ones.
        js_text=literal if text.isprintable() else format_literal("some text"),
        k=k,
        max_tokens=run.max_tokens,
    )
