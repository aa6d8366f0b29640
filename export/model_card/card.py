"""The order of the model card's sections, and what stands in it whatever the model is.

The card holds no time, no machine and no version number, so that exporting a run twice writes it
twice alike.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from export import bundle
from export.model_card.data import format_data, is_wordnet
from export.model_card.evidence import Evidence
from export.model_card.forms import (
    describe_word_table,
    format_agreement,
    format_compression,
    format_files,
    format_promise,
    wrap,
)
from export.model_card.licences import format_licences
from export.model_card.model import format_cost, format_model
from export.model_card.results import check_same_model, format_calibration, format_results
from export.model_card.usage import format_usage
from pipeline.run_folder import Run

_TEMPLATE = string.Template(
    """\
# $name

Classifies a short text into one of $classes labels. $promise

## Model

$model

## Intended use

- Made to sort short texts of the kind it was trained on into these $classes labels: routing,
  search, statistics, suggestions that a person sees.
- $reading
- Not made for decisions about people, such as work, credit, health or law. Nothing here says how
  it treats groups of people: the data names none, so accuracy by group was not measured.
- Before another use, measure it on texts of that use. Afterwards, go on measuring: texts change.

## Limits

- Texts are cut to $max_tokens tokens. A text without any known token reads as one unknown token.
- It always answers: a text that belongs to none of the labels gets one of them all the same, and
  its probability says nothing about that.
- It knows the words, the language and the mistakes of its training data, and no others.
- This folder holds data: `golden.jsonl` has $probes probes, most of them texts of the test split;
  `tokenizer.model` and the word table of `lookup/` have words of the training texts. Nobody
  searched them for names or secrets. Do not give the folder to those who may not see the texts.
- Whoever knows how it works can choose words that change its answer.
- Ids run from 0 to $last_id; check them before a call, because runtimes wrap negative ids around
  in silence. Rows are padded on the right. `model.onnx` needs at least one row and one column.

## Data

$data

## Results on the test split ($rows texts)

$results

### Every form beside Keras

$agreement

## What the probabilities mean

$calibration

## Cost of an answer

$cost

## Compressed lookup tables

$compression

## Word table

$word_table

## Licences

$licences

## Use

$usage

## Files

$files
"""
)
_ENGLISH = (
    "It reads English, in the style of a dictionary; other languages are unknown words to it."
)
_UNKNOWN_LANGUAGE = (
    "It reads the languages of its training texts, which are not recorded; others are unknown "
    "words\n  to it."
)
MAX_EXAMPLE_CHARS = 80


def format_model_card(run: Run, fields: Mapping[str, Any], folder: Path, evidence: Evidence) -> str:
    """Return the model card of an artifact that is complete but for card and manifest.

    Args:
        run: Where it comes from.
        fields: The manifest's fields, `metrics`, `parity`, `compression`, `word_table` and
            `provenance` among them.
        folder: The artifact's folder.
        evidence: What the run keeps of its evaluation and its data.

    Returns:
        Markdown.

    Raises:
        RunError: The evaluation is of another model.
    """
    parity, compression = fields["parity"], fields["compression"]
    if evidence.evaluation is not None:
        check_same_model(run, evidence.evaluation, fields["metrics"]["replayed"])
    split = list(run.read_test_split())
    example = next((text for text, _ in split if text.strip()), "some text")[:MAX_EXAMPLE_CHARS]
    return _TEMPLATE.substitute(
        name=fields["name"],
        classes=f"{run.model.num_classes:,}",
        promise=format_promise(parity, compression),
        model=format_model(run, fields["provenance"]),
        reading=_ENGLISH if is_wordnet(run) else _UNKNOWN_LANGUAGE,
        max_tokens=f"{run.max_tokens:,}",
        probes=f"{parity['probes']:,}",
        last_id=run.model.vocab_size - 1,
        data=format_data(run, evidence.data, [label for _, label in split]),
        rows=f"{parity['rows']:,}",
        results=format_results(run, evidence.evaluation),
        agreement=format_agreement(fields, folder),
        calibration=format_calibration(run, evidence.evaluation),
        cost=format_cost(run.model, compression),
        compression=format_compression(compression),
        word_table=wrap(describe_word_table(fields["word_table"])),
        licences=format_licences(run),
        usage=format_usage(run, example, parity["k"]),
        files=format_files(folder),
    )


def write_model_card(run: Run, fields: Mapping[str, Any], folder: Path, evidence: Evidence) -> None:
    """Write the card into its folder; see `format_model_card`."""
    text = format_model_card(run, fields, folder, evidence)
    (folder / bundle.MODEL_CARD_FILE).write_text(text, encoding="utf-8", newline="\n")
