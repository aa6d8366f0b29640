"""Writes every form of a run into one folder and holds them against the trained model.

This is the one place that knows the order of the steps and what each file of an artifact holds.
Importing it imports TensorFlow.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece

from export import bundle
from export.agreement import (
    AgreementResult,
    LabelledTexts,
    check_agreement,
    iterate_batches,
    measure_agreement,
)
from export.fold import fold_weights
from export.golden import choose_probe_texts, encode_texts
from export.lookup import LookupConfig, Probe, format_golden, write_lookup
from export.model_card import format_model_card
from export.onnx_graph import build_onnx, write_onnx
from export.preflight import ExportError, check_exportable
from export.runtimes import Reference, load_keras_reference, load_runtimes, pad_ids
from export.saved_model import IdsClassifier, TextClassifier, write_saved_model
from export.tf2onnx_graph import convert_in_background
from export.weights import ModelWeights, read_keras_weights, take_weights
from pipeline.run_folder import Run, load_model


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


def _write_lookup(run: Run, weights: ModelWeights, partial: Path, probes: list[Probe]) -> None:
    model = run.model
    write_lookup(
        partial / bundle.LOOKUP_FOLDER,
        config=LookupConfig(
            vocab_size=model.vocab_size,
            embed_dim=model.embed_dim,
            units=model.units,
            num_classes=model.num_classes,
            layers=model.layers,
            bidirectional=model.bidirectional,
            pooling=model.pooling,
            relu=model.relu,
        ),
        arrays=fold_weights(weights),
        labels=run.labels,
        tokenizer=run.tokenizer_path.read_bytes(),
        golden=probes,
        max_tokens=run.max_tokens,
    )


def write_forms(
    run: Run,
    partial: Path,
    name: str,
    *,
    max_table_mb: int,
    progress: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """Write every form of `run`, check them against Keras, and describe them.

    Args:
        run: The run.
        partial: Empty folder to write into.
        name: Artifact name.
        max_table_mb: Largest gate tables allowed, in MiB.
        progress: Told what is being done: (what, rows done, rows in all).

    Returns:
        The manifest's fields but for `provenance`, `files` and versions.

    Raises:
        ExportError: The run cannot be exported; every reason is listed.
        AgreementError: A form differs from the trained model.
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
        _write_lookup(run, weights, partial, probes)
        say("waiting for the tf2onnx oracle")
        wait_for_oracle()
    result = _check_forms(run, partial, reference, split, probes, progress)
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
    (partial / bundle.MODEL_CARD_FILE).write_text(
        format_model_card(run, fields, partial), encoding="utf-8"
    )
    return fields


def _check_forms(
    run: Run,
    partial: Path,
    reference: Reference,
    split: LabelledTexts,
    probes: list[Probe],
    progress: Callable[[str, int, int], None],
) -> AgreementResult:
    """Load every form back from disk and hold it against Keras."""
    total = len(split.texts)
    what = "checking agreement on the test split"
    progress(what, 0, total)
    done = 0

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        progress(what, done, total)

    result = measure_agreement(
        reference,
        load_runtimes(partial, run.max_tokens),
        split,
        probes,
        k=min(int(run.training.get("num_predict", 3)), run.model.num_classes),
        advance=advance,
    )
    check_agreement(result.problems)
    return result
