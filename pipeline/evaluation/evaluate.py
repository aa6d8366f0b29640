"""From a trained model and texts to its temperature, its measures and its predictions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pipeline.evaluation.fields import MAX_TEXT_CHARS, Mistake, RunEvaluation
from pipeline.evaluation.logits import predict_logits
from pipeline.evaluation.measures import (
    Floats,
    Labels,
    log_softmax,
    measure_calibration,
    measure_split,
    rank_classes,
)
from pipeline.evaluation.predictions import KEPT, Predictions
from pipeline.evaluation.temperature import MIN_ROWS, fit_temperature, fold_temperature
from pipeline.tokenizer import encode_texts, load_processor

NUM_MISTAKES = 20
Rows = tuple[Sequence[str], Sequence[int]]
"""Texts and their label ids."""


@dataclass(frozen=True, kw_only=True)
class ScoredSplit:
    """Texts, their (N,) int64 labels, and a model's (N, C) float64 logits for them."""

    texts: Sequence[str]
    labels: Labels
    logits: Floats


def score_splits(
    model: keras.Model, splits: Mapping[str, Rows], *, tokenizer_path: Path, max_tokens: int
) -> dict[str, ScoredSplit]:
    """Score every text of some splits, in their order."""
    processor = load_processor(tokenizer_path)
    return {
        name: ScoredSplit(
            texts=texts,
            labels=np.asarray(labels, np.int64),
            logits=predict_logits(model, encode_texts(processor, texts, max_tokens)),
        )
        for name, (texts, labels) in splits.items()
    }


def calibrate(
    model: keras.Model, scored: Mapping[str, ScoredSplit]
) -> tuple[dict[str, Any], dict[str, ScoredSplit]]:
    """Fit a temperature on the split `validation` and fold it into the model's head.

    Args:
        model: Changed in place.
        scored: By that model; `validation` among them.

    Returns:
        The `calibration` of `run.json`: `temperature`, `note`, and for each split `ece` and `nll`
        `before` and `after`. And the splits as the model scores them now.
    """
    validation = scored["validation"]
    temperature = fit_temperature(validation.logits, validation.labels)
    fold_temperature(model, temperature)
    now = {
        name: dataclasses.replace(split, logits=split.logits / temperature)
        for name, split in scored.items()
    }
    note = None
    if len(validation.labels) < MIN_ROWS:
        note = f"Not fitted: {len(validation.labels)} validation rows, fewer than {MIN_ROWS}."
    calibration: dict[str, Any] = {"temperature": temperature, "note": note}
    for name in scored:
        before, after = (
            measure_calibration(splits[name].logits, splits[name].labels)
            for splits in (scored, now)
        )
        calibration[name] = {"before": before, "after": after}
    return calibration, now


def evaluate_splits(
    scored: Mapping[str, ScoredSplit],
    *,
    run: str,
    fingerprint: str,
    label_names: tuple[str, ...],
    k: int,
    calibration: Mapping[str, Any],
) -> RunEvaluation:
    """Measure what a model scored; the split `test` is among it."""
    return RunEvaluation(
        run=run,
        fingerprint=fingerprint,
        splits={
            name: measure_split(split.logits, split.labels, label_names=label_names, k=k)
            for name, split in scored.items()
        },
        calibration=calibration,
        mistakes=_find_mistakes(scored["test"], label_names),
    )


def make_predictions(test: ScoredSplit, evaluation: RunEvaluation) -> Predictions:
    """Keep the first answers to the test split, as many as its top-k accuracy needs or more."""
    top_ids = rank_classes(test.logits, max(KEPT, evaluation.splits["test"].k))
    probabilities = np.exp(np.take_along_axis(log_softmax(test.logits), top_ids, axis=1))
    return Predictions(
        top_ids=top_ids,
        fingerprint=evaluation.fingerprint,
        probabilities=probabilities.astype(np.float32),
    )


def _find_mistakes(split: ScoredSplit, label_names: tuple[str, ...]) -> tuple[Mistake, ...]:
    answers = split.logits.argmax(axis=1)
    wrong = np.flatnonzero(answers != split.labels)
    sureness = log_softmax(split.logits).max(axis=1)[wrong]
    surest = wrong[np.argsort(-sureness, kind="stable")[:NUM_MISTAKES]]
    return tuple(
        Mistake(
            text=split.texts[index][:MAX_TEXT_CHARS],
            label=label_names[split.labels[index]],
            answer=label_names[answers[index]],
            probability=float(np.exp(log_softmax(split.logits[index][None]).max())),
        )
        for index in surest
    )
