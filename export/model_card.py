"""The model card: what an artifact is, how good it is, and how to load each of its forms.

Generated, never edited; a test runs every snippet in it. It holds no time, no machine and no
version number, so that exporting a run twice writes it twice alike.
"""

from __future__ import annotations

import json
import string
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from export import bundle
from export.compression import EXACT_OPTION, Option, list_options
from export.sizes import format_bytes
from pipeline.run_folder import Run, describe_calibration

_TEMPLATE = string.Template(
    """\
# $name

Classifies a short text into one of $classes labels. $promise

## Model

$model

## Data

$data

Labels ($classes): $labels

## Results on the test split ($rows texts)

| form | top-1 | top-$k | largest difference of a probability | size |
|---|---|---|---|---|
$results

The accuracy of each form was counted on the same pass that compared it with Keras. Speed depends
on the machine: measure it on yours with `make compare`.

$calibration

## Compressed lookup tables

`lookup/` of this artifact is stored as: **$option**.
Smaller is an option of the export (`--lookup-table`, `--lookup-recurrent`), never the default.
What each would cost, against the exact arrays, on the same test split:

$options

Kernel: the recurrent kernels. Δlogit: the largest difference of a logit over the test split and
the probes. Changed: texts with another first label / another set of first $k. This export
refused to publish what loses more than $max_accuracy_loss (a fraction) of top-1 or top-$k accuracy.

## Word table

$word_table

## Limits

- Texts are cut to $max_tokens tokens. A text without any known token reads as one unknown token.
- It always answers: a text that belongs to none of the labels gets one of them all the same, and
  its probability says nothing about that.
- It knows the words, the language and the mistakes of its training data, and no others.
- Ids run from 0 to $last_id; check them before a call, because runtimes wrap negative ids around
  in silence. Rows are padded on the right. `model.onnx` needs at least one row and one column.

## Use

`ids` below are (B, T) int32, padded on the right with 0; `lengths` are (B,) int32. Run the
snippets in this folder.

Lookup tables, with NumPy alone (and sentencepiece for words that are not in the word table):

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

ONNX:

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

TensorFlow, ids in (no other package):

```python
import tensorflow as tf

model = tf.saved_model.load("saved_model")
serve = model.signatures["serving_default"]
print(serve(tokens=tf.constant([[1, 2, 0]]), lengths=tf.constant([2]))["probabilities"])
```

TensorFlow, raw text in. The import of tensorflow_text is needed though its name is not used: it
registers the tokenizer's operator.

```python
import tensorflow as tf
import tensorflow_text  # noqa: F401

model = tf.saved_model.load("saved_model_text")
serve = model.signatures["serving_default"]
print(serve(text=tf.constant($example_texts))["probabilities"])
```

A SavedModel is a program: load only one you trust. The lookup folder and the ONNX file hold
numbers and a graph.

## Files

| file | bytes | sha256 |
|---|---|---|
$files

The folder's `manifest.json` lists every file. `$oracle` is the same model converted by tf2onnx,
kept as an independent check; it may be deleted.
"""
)


def _size(folder: Path, name: str) -> int:
    """Return the bytes of a file, or of everything in a folder."""
    path = folder / name
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


FORM_PATHS = {
    "saved_model": bundle.SAVED_MODEL_FOLDER,
    "saved_model_text": bundle.SAVED_MODEL_TEXT_FOLDER,
    "onnx": bundle.ONNX_FILE,
    "tf2onnx": bundle.ORACLE_FILE,
    "lookup": bundle.LOOKUP_FOLDER,
    "lookup_numpy": bundle.LOOKUP_FOLDER,  # the same folder by its other engine
}
"""Form -> its file or folder in an artifact."""


def _format_results(fields: Mapping[str, Any], folder: Path) -> str:
    replayed, parity = fields["metrics"]["replayed"], fields["parity"]["backends"]
    keras = replayed["keras"]
    rows = [f"| Keras, as trained | {keras['top_1']:.2%} | {keras['top_k']:.2%} | | |"]
    rows += [
        f"| {form} | {replayed[form]['top_1']:.2%} | {replayed[form]['top_k']:.2%} "
        f"| {parity[form]['max_abs_probability_diff']:.1e} "
        f"| {format_bytes(_size(folder, path))} |"
        for form, path in FORM_PATHS.items()
        if form in parity
    ]
    return "\n".join(rows)


def _format_promise(parity: Mapping[str, Any], compression: Mapping[str, Any]) -> str:
    label = Option(compression["table_dtype"], compression["recurrent_dtype"]).label
    answers = (
        f"answers: probabilities within {parity['tolerance']:g} of the trained Keras model on all "
        f"{parity['rows']} texts of its test split, and the same first {parity['k']} labels."
    )
    if label == EXACT_OPTION.label:
        return f"Every form in this folder gives the same\n{answers}"
    return (
        f"Every form in this folder but `lookup/` gives the same\n{answers}\n\n`lookup/` is "
        f"compressed ({label}): its probabilities lie within {compression['tolerance']:g} of the "
        f"trained model's,\nand its first {parity['k']} labels differ on "
        f"{parity['backends']['lookup']['top_k_disagreements']} of those texts."
    )


def _format_options(compression: Mapping[str, Any]) -> str:
    header, *rows = list_options(compression)
    lines = [f"| {' | '.join(line)} |" for line in (header, *rows)]
    return "\n".join([lines[0], "|---" * len(header) + "|", *lines[1:]])


def describe_word_table(entry: Mapping[str, Any]) -> str:
    """Return what a manifest's `word_table` entry says, whole sentences for people."""
    if entry["refusal"] is not None:
        return f"The lookup folder has no word table. {entry['refusal']}"
    return (
        f"The lookup folder holds the ids of {entry['words']} words of the training texts, among "
        f"them {entry['test_word_share']:.1%} of the words of the test split and all words of "
        f"{entry['test_text_share']:.1%} of its texts. Ids by the table were compared with the "
        f"tokenizer's own on {entry['checked_texts']} texts."
    )


def _format_model(run: Run) -> str:
    model = run.model
    direction = "bidirectional GRU" if model.bidirectional else "GRU"
    return (
        f"Embedding ({model.vocab_size} x {model.embed_dim}), {model.layers} {direction} layer(s) "
        f"of {model.units} units, {model.pooling} pooling, {'ReLU, ' if model.relu else ''}"
        f"softmax over {model.num_classes} classes. Trained with Keras "
        f"{run.versions.get('keras', '(version not recorded)')}, seed {run.seed}."
    )


def _format_data(run: Run) -> str:
    name = run.data.get("name", "not named")
    lines = [f"Dataset `{name}`, fingerprint `{run.data.get('fingerprint', 'not recorded')}`."]
    counts = run.data.get("counts")
    if isinstance(counts, Mapping):
        lines += ["", "| rows | count |", "|---|---|"]
        lines += [f"| {key} | {value} |" for key, value in counts.items()]
    return "\n".join(lines)


def _escape(label: str) -> str:
    """Return a label as inline code that cannot end early."""
    return "`" + label.replace("`", "'").replace("\n", " ") + "`"


def format_model_card(run: Run, fields: Mapping[str, Any], folder: Path) -> str:
    """Return the model card of an artifact that is complete but for card and manifest.

    Args:
        run: Where it comes from.
        fields: The manifest's fields, `metrics`, `parity`, `compression` and `word_table` among
            them.
        folder: The artifact's folder.

    Returns:
        Markdown.
    """
    parity, compression = fields["parity"], fields["compression"]
    text = next((text for text, _ in run.read_test_split() if text.strip()), "some text")[:80]
    files = [
        bundle.LABELS_FILE,
        bundle.TOKENIZER_FILE,
        bundle.GOLDEN_FILE,
        bundle.ONNX_FILE,
        f"{bundle.SAVED_MODEL_FOLDER}/saved_model.pb",
        f"{bundle.SAVED_MODEL_TEXT_FOLDER}/saved_model.pb",
        f"{bundle.LOOKUP_FOLDER}/{bundle.MANIFEST_FILE}",
        bundle.ORACLE_FILE,
    ]
    return _TEMPLATE.substitute(
        name=fields["name"],
        classes=run.model.num_classes,
        promise=_format_promise(parity, compression),
        option=Option(compression["table_dtype"], compression["recurrent_dtype"]).label,
        options=_format_options(compression),
        max_accuracy_loss=f"{compression['max_accuracy_loss']:g}",
        word_table=textwrap.fill(
            describe_word_table(fields["word_table"]), 100, break_on_hyphens=False
        ),
        calibration=textwrap.fill(
            describe_calibration(run.calibration), 100, break_on_hyphens=False
        ),
        rows=parity["rows"],
        k=parity["k"],
        model=_format_model(run),
        data=_format_data(run),
        labels=", ".join(_escape(label) for label in run.labels),
        results=_format_results(fields, folder),
        max_tokens=run.max_tokens,
        last_id=run.model.vocab_size - 1,
        # JSON's escapes are Python's, and letters stay readable.
        example_text=json.dumps(text, ensure_ascii=False),
        example_texts=json.dumps([text], ensure_ascii=False),
        files="\n".join(
            f"| `{name}` | {_size(folder, name)} | `{bundle.hash_file(folder / name)}` |"
            for name in files
            if (folder / name).is_file()
        ),
        oracle=bundle.ORACLE_FILE,
    )
