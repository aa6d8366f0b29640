"""Writes every form of a run into one folder and holds them against the trained model.

This is the one place that knows the order of the steps and what each file of an artifact holds.
Importing it imports TensorFlow.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece

from export import bundle
from export.agreement import (
    LabelledTexts,
    check_agreement,
    iterate_batches,
    measure_agreement,
)
from export.compress import compress_arrays
from export.compression import EXACT_OPTION, CompressionResult, Option, check_accuracy_loss
from export.fold import fold_weights
from export.golden import choose_probe_texts, encode_texts
from export.lookup import LookupConfig, Probe, WordArrays, format_golden, write_lookup
from export.onnx_graph import build_onnx, write_onnx
from export.option_cost import load_option, measure_options
from export.preflight import ExportError, check_exportable
from export.runtimes import (
    Reference,
    Runtime,
    load_keras_reference,
    load_runtimes,
    pad_ids,
)
from export.saved_model import IdsClassifier, TextClassifier, write_saved_model
from export.tf2onnx_graph import convert_in_background
from export.weights import ModelWeights, read_keras_weights, take_weights
from export.word_table import build_word_table
from pipeline.run_folder import Run, load_model

Progress = Callable[[str, int, int], None]
"""(what is being done, rows done, rows in all); both 0 for a step that is not counted."""


@dataclass(frozen=True, kw_only=True)
class WrittenForms:
    """What `write_forms` leaves beside the files.

    Attributes:
        fields: The manifest's fields but for `provenance`, `files` and versions.
        latency_us: Microseconds a text of each compressed option, on this machine and now.
    """

    fields: Mapping[str, Any]
    latency_us: Mapping[Option, float]


def _count_rows(progress: Progress, what: str, total: int) -> Callable[[int], None]:
    """Return a function that adds rows to a counted step."""
    done = 0
    progress(what, done, total)

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        progress(what, done, total)

    return advance


def _read_split(run: Run) -> LabelledTexts:
    """Read and tokenise the test split.

    Raises:
        ExportError: It is empty, or a label is out of range.
    """
    rows = list(run.read_test_split())
    bad = [label for _, label in rows if not 0 <= label < run.model.num_classes]
    if not rows or bad:
        found = f"labels {sorted(set(bad))[:5]}" if rows else "no text"
        raise ExportError(
            f"Run {run.name} in {run.folder}",
            [
                f"test_split.jsonl: expected texts with labels 0 to {run.model.num_classes - 1}, "
                f"found {found}."
            ],
        )
    texts = [text for text, _ in rows]
    processor = sentencepiece.SentencePieceProcessor(model_file=str(run.tokenizer_path))
    return LabelledTexts(
        texts=texts,
        ids=encode_texts(processor, texts, run.max_tokens),
        labels=[label for _, label in rows],
    )


def _make_probes(run: Run, texts: list[str], reference: Reference) -> list[Probe]:
    """Choose the golden probes and let the Keras model answer them."""
    processor = sentencepiece.SentencePieceProcessor(model_file=str(run.tokenizer_path))
    chosen = choose_probe_texts(texts, run.max_tokens)
    ids = encode_texts(processor, chosen, run.max_tokens)
    probabilities = np.empty((len(chosen), run.model.num_classes), np.float32)
    for batch in iterate_batches(ids):
        padded, _ = pad_ids([ids[row] for row in batch])
        probabilities[batch] = reference(padded)[1]
    return [
        Probe(text, tuple(row), tuple(values.tolist()))
        for text, row, values in zip(chosen, ids, probabilities, strict=True)
    ]


def _write_saved_models(run: Run, weights: ModelWeights, partial: Path) -> None:
    """Write both SavedModels.

    Must come before anything that depends on the data, because TensorFlow numbers functions by
    what the process did so far: see `write_saved_model`.
    """
    write_saved_model(partial / bundle.SAVED_MODEL_FOLDER, IdsClassifier(weights))
    write_saved_model(
        partial / bundle.SAVED_MODEL_TEXT_FOLDER,
        TextClassifier(weights, run.tokenizer_path.read_bytes(), run.max_tokens),
    )


@dataclass(frozen=True, kw_only=True)
class _Lookup:
    """The lookup folder as written: what its options cost, and an oracle if it is compressed."""

    costs: CompressionResult
    exact: Runtime | None


def _write_lookup(
    run: Run,
    weights: ModelWeights,
    partial: Path,
    split: LabelledTexts,
    probes: list[Probe],
    words: WordArrays | None,
    option: Option,
    max_accuracy_loss: float,
    progress: Progress,
) -> _Lookup:
    """Measure every compressed option, then write the folder with the chosen one.

    Raises:
        AccuracyLossError: It costs too much accuracy.
    """
    model = run.model
    config = LookupConfig(
        vocab_size=model.vocab_size,
        embed_dim=model.embed_dim,
        units=model.units,
        num_classes=model.num_classes,
        layers=model.layers,
        bidirectional=model.bidirectional,
        pooling=model.pooling,
        relu=model.relu,
    )
    arrays = fold_weights(weights, np.float64)
    costs = measure_options(
        arrays,
        config,
        option,
        split,
        probes,
        k=_count_predictions(run),
        advance=_count_rows(progress, "measuring compressed options", len(split.texts)),
    )
    check_accuracy_loss(costs, option, max_accuracy_loss)
    stored = dataclasses.replace(config, **option._asdict())
    write_lookup(
        partial / bundle.LOOKUP_FOLDER,
        config=stored,
        arrays=compress_arrays(arrays, stored),
        labels=run.labels,
        tokenizer=run.tokenizer_path.read_bytes(),
        golden=probes,
        max_tokens=run.max_tokens,
        tolerance=costs.find(option).bounds.probability,
        words=words,
    )
    if option == EXACT_OPTION:
        return _Lookup(costs=costs, exact=None)
    # The bound of a compressed form is wide enough to hide a wrong table, so the exact arrays it
    # was made from stand the strict test beside it.
    exact = load_option(arrays, config, EXACT_OPTION)
    return _Lookup(
        costs=costs,
        exact=Runtime(
            name="lookup_float32",
            predict=lambda _, ids, lengths: exact.probabilities(ids, lengths),
            logits=exact.logits,
        ),
    )


def _count_predictions(run: Run) -> int:
    """Return how many first classes are compared and counted."""
    return min(int(run.training.get("num_predict", 3)), run.model.num_classes)


def write_forms(
    run: Run,
    partial: Path,
    name: str,
    *,
    max_table_mb: int,
    option: Option,
    max_accuracy_loss: float,
    progress: Progress,
) -> WrittenForms:
    """Write every form of `run`, check them against Keras, and describe them; the card is left out.

    Args:
        run: The run.
        partial: Empty folder to write into.
        name: Artifact name.
        max_table_mb: Largest gate tables allowed, in MiB.
        option: How the lookup folder stores its numbers.
        max_accuracy_loss: Largest fall of accuracy on the test split that `option` may cost.
        progress: Told what is being done.

    Returns:
        The manifest's fields, and what depends on the moment.

    Raises:
        ExportError: The run cannot be exported; every reason is listed.
        RunError: A file of the run is damaged.
        AgreementError: A form differs from the trained model.
        AccuracyLossError: `option` costs too much accuracy.
    """

    def say(what: str) -> None:
        progress(what, 0, 0)

    say("loading the model")
    model = load_model(run)
    arrays = read_keras_weights(model)
    check_exportable(run, model, arrays, max_table_mb=max_table_mb)
    split = _read_split(run)
    weights = take_weights(run.model, arrays)

    (partial / bundle.LABELS_FILE).write_text(
        json.dumps(list(run.labels), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    tokenizer = run.tokenizer_path.read_bytes()
    (partial / bundle.TOKENIZER_FILE).write_bytes(tokenizer)
    fields: dict[str, Any] = {
        "name": name,
        "model": run.model.to_json(),
        "axes": {
            "V": run.model.vocab_size,
            "E": run.model.embed_dim,
            "H": run.model.units,
            "C": run.model.num_classes,
        },
        "pooling": run.model.pooling,
        "max_tokens": run.max_tokens,
        "labels_sha256": bundle.hash_file(partial / bundle.LABELS_FILE),
        "tokenizer_sha256": hashlib.sha256(tokenizer).hexdigest(),
    }
    metadata = {
        "format_version": str(bundle.FORMAT_VERSION),
        "labels_sha256": fields["labels_sha256"],
        "max_tokens": str(run.max_tokens),
        "name": name,
        "padding": "on the right; ids at and behind a row's length are ignored",
        "shape": "B and T at least 1",
        "tokenizer_sha256": fields["tokenizer_sha256"],
        "vocab_size": str(run.model.vocab_size),
    }
    say("writing saved_model")
    _write_saved_models(run, weights, partial)
    (partial / bundle.ORACLE_FILE).parent.mkdir()
    with convert_in_background(
        partial, bundle.SAVED_MODEL_FOLDER, bundle.ORACLE_FILE
    ) as wait_for_oracle:
        say("writing onnx")
        write_onnx(partial / bundle.ONNX_FILE, build_onnx(weights, metadata))
        say("writing lookup")
        reference = load_keras_reference(model)
        probes = _make_probes(run, list(split.texts), reference)
        (partial / bundle.GOLDEN_FILE).write_text(format_golden(probes), encoding="utf-8")
        word_table = build_word_table(
            tokenizer,
            run.read_words(),
            test_texts=split.texts,
            probe_texts=[probe.text for probe in probes],
        )
        lookup = _write_lookup(
            run,
            weights,
            partial,
            split,
            probes,
            word_table.words,
            option,
            max_accuracy_loss,
            progress,
        )
        say("waiting for the tf2onnx oracle")
        wait_for_oracle()
    runtimes = load_runtimes(partial, run.max_tokens, lookup.costs.find(option).bounds.logit)
    if lookup.exact is not None:
        runtimes.append(lookup.exact)
    result = measure_agreement(
        reference,
        runtimes,
        split,
        probes,
        k=_count_predictions(run),
        advance=_count_rows(progress, "checking agreement on the test split", len(split.texts)),
    )
    check_agreement(result.problems)
    fields["compression"] = lookup.costs.to_json(option, max_accuracy_loss)
    fields["word_table"] = word_table.to_json()
    fields["parity"] = result.to_json()
    fields["metrics"] = {
        **{part: dict(values) for part, values in run.metrics.items()},
        "replayed": {
            "rows": result.rows,
            "k": result.k,
            **{
                form: {"top_1": accuracy.top_1, "top_k": accuracy.top_k}
                for form, accuracy in result.accuracy.items()
            },
        },
    }
    return WrittenForms(
        fields=fields,
        latency_us={cost.option: cost.latency_us for cost in lookup.costs.costs},
    )
