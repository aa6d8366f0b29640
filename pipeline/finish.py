"""Makes a finished run of a trained model: calibrates, evaluates, writes what exports need.

The run appears whole: everything is written in the partial folder, which is then renamed.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from pipeline.accounting import Account
from pipeline.compute_plan import PLAN_FILE
from pipeline.config import ModelConfig, TrainConfig
from pipeline.data_card.card import CARD_JSON
from pipeline.data_folder import PreparedData
from pipeline.evaluation.evaluate import (
    calibrate,
    evaluate_splits,
    make_predictions,
    score_splits,
)
from pipeline.evaluation.fields import RunEvaluation
from pipeline.evaluation.files import write_evaluation
from pipeline.evaluation.predictions import Predictions
from pipeline.model import build_model, choose_cell
from pipeline.run_folder import Run, read_versions, remove_run, write_run
from pipeline.shards import read_shard
from pipeline.whole_file import write_whole
from pipeline.word_list import rank_words, write_words


def finish_run(
    model: keras.Model,
    data: PreparedData,
    model_config: ModelConfig,
    training: TrainConfig,
    partial: Path,
    target: Path,
    *,
    history: Mapping[str, list[float]],
    account: Account,
    compute: Mapping[str, Any],
) -> Run:
    """Evaluate a trained model and publish its run folder.

    Args:
        model: Trained, with the weights that are to be saved.
        data: What it was trained on.
        model_config: Its shape.
        training: How it was fitted.
        partial: The partial run folder; becomes `target`.
        target: The run folder; a finished run there is replaced.
        history: Curves, a value an epoch.
        account: What the training has cost so far.
        compute: What was decided about XLA.
    """
    # A fresh, uncompiled model: optimiser state is three times the weights and nobody's business.
    final = build_model(model_config)
    final.set_weights(model.get_weights())
    evaluation, predictions = _evaluate(final, data, training, run=target.name)
    write_evaluation(partial, evaluation, predictions)
    account.end_lap("evaluation")
    final.save(partial / "model.keras")
    shutil.copyfile(data.tokenizer_path, partial / "tokenizer.model")
    _write_test_split(data, partial / "test_split.jsonl")
    write_words(partial / "words.txt", _rank_train_words(data))
    _keep_data_card(data, partial)
    for path in (*partial.glob("*.weights.h5"), partial / "checkpoint.json"):
        path.unlink()
    (partial / PLAN_FILE).unlink(missing_ok=True)
    if target.exists():
        remove_run(target)
    account.end_lap("write")
    examples = len(history["loss"]) * data.train.count
    return write_run(
        partial,
        target,
        model=model_config,
        training=dataclasses.asdict(training),
        metrics={
            name: {
                "top_1": split.top_1.value,
                f"top_{training.num_predict}": split.top_k.value,
                "loss": split.nll,
            }
            for name, split in evaluation.splits.items()
        },
        calibration=evaluation.calibration,
        data={
            "name": data.name,
            "fingerprint": data.fingerprint,
            "train": data.train.count,
            "validation": data.validation.count,
            "test": data.test.count,
        },
        labels=data.labels,
        max_tokens=data.max_tokens,
        versions=read_versions("tensorflow", "tensorflow-text", "keras", "numpy", "sentencepiece"),
        seed=training.seed,
        history=history,
        accounting={
            **account.to_json(),
            "examples": examples,
            "examples_per_s": examples / account.seconds["train"],
            "cell": choose_cell(training.cell),
            "compute": dict(compute),
        },
    )


def complete_run(run: Run, data: PreparedData) -> None:
    """Give a run of an earlier version the words and the data card that runs keep by now."""
    if not run.words_path.is_file():
        write_words(run.words_path, _rank_train_words(data))
    if not (run.folder / CARD_JSON).is_file():
        _keep_data_card(data, run.folder)


def _evaluate(
    model: keras.Model, data: PreparedData, training: TrainConfig, *, run: str
) -> tuple[RunEvaluation, Predictions]:
    """Calibrate a trained model, if the settings say so, and measure it as it is then."""
    scored = score_splits(
        model,
        {"validation": data.validation.read_rows(), "test": data.test.read_rows()},
        tokenizer_path=data.tokenizer_path,
        max_tokens=data.max_tokens,
    )
    calibration: dict[str, Any] = {}
    if training.calibrate:
        calibration, scored = calibrate(model, scored)
    evaluation = evaluate_splits(
        scored,
        run=run,
        fingerprint=data.fingerprint,
        label_names=data.labels,
        k=training.num_predict,
        calibration=calibration,
    )
    return evaluation, make_predictions(scored["test"], evaluation)


def _keep_data_card(data: PreparedData, folder: Path) -> None:
    """Copy the data's card into a run, for the model card; older data has none."""
    if (data.folder / CARD_JSON).is_file():
        write_whole(folder / CARD_JSON, (data.folder / CARD_JSON).read_bytes())


def _write_test_split(data: PreparedData, path: Path) -> None:
    with path.open("w", encoding="utf-8") as lines:
        for text, label in zip(*data.test.read_rows(), strict=True):
            lines.write(json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n")


def _rank_train_words(data: PreparedData) -> list[str]:
    """Rank the words of the training split, one shard in memory at a time."""
    return rank_words(text for shard in data.train.shards for text in read_shard(shard)[0])
