"""A legacy model becomes a run: Keras 3 weights, its accuracy measured, published whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import filelock
import keras
import numpy as np

from pipeline.legacy.architecture import LegacyModel
from pipeline.model import build_model
from pipeline.run_folder import Run, RunError, read_versions, write_run
from pipeline.tokenizer import encode_texts, load_processor

_BATCH = 256


def build_keras_model(legacy: LegacyModel) -> keras.Model:
    """Return our Keras 3 model with the legacy model's weights."""
    model = build_model(legacy.config)
    model.get_layer("embedding").set_weights([legacy.embedding])
    prefix = "bigru" if legacy.config.bidirectional else "gru"
    for number, directions in enumerate(legacy.grus):
        arrays = [array for direction in directions for array in direction]
        model.get_layer(f"{prefix}_{number}").set_weights(arrays)
    model.get_layer("head").set_weights([legacy.head_kernel, legacy.head_bias])
    return model


def import_run(
    legacy: LegacyModel,
    *,
    source: str,
    fingerprint: str,
    runs: Path,
    name: str,
    tokenizer_path: Path,
    labels: Sequence[str],
    texts: Sequence[str],
    label_ids: Sequence[int],
    max_tokens: int,
    num_predict: int,
) -> Run:
    """Measure the model on labelled texts and publish it as a run.

    Args:
        legacy: The model.
        source: Name of the weights file.
        fingerprint: sha256 of the weights file.
        runs: Folder of all runs.
        name: The run's.
        tokenizer_path: SentencePiece model whose ids the model was trained on.
        labels: C names in id order.
        texts: N held-out texts.
        label_ids: N ids.
        max_tokens: Longer texts are cut.
        num_predict: k of the top-k accuracy.

    Raises:
        RunError: The name is taken, or somebody imports it now.
    """
    runs.mkdir(parents=True, exist_ok=True)
    partial = runs / f".{name}.partial"
    try:
        with filelock.FileLock(runs / f".{name}.lock", timeout=0):
            if (runs / name).exists():
                raise RunError(f"{runs / name}: the run exists. Choose another --name.")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            (partial / "logs").mkdir()
            model = build_keras_model(legacy)
            rows = encode_texts(load_processor(tokenizer_path), texts, max_tokens)
            metrics = _evaluate(model, rows, np.asarray(label_ids, np.int64), num_predict)
            model.save(partial / "model.keras")
            shutil.copyfile(tokenizer_path, partial / "tokenizer.model")
            with (partial / "test_split.jsonl").open("w", encoding="utf-8") as lines:
                for text, label in zip(texts, label_ids, strict=True):
                    row = {"text": text, "label": int(label)}
                    lines.write(json.dumps(row, ensure_ascii=False) + "\n")
            return write_run(
                partial,
                runs / name,
                model=legacy.config,
                training={"imported_from": source, "num_predict": num_predict},
                metrics={"test": metrics},
                data={"name": name, "fingerprint": fingerprint, "test": len(texts)},
                labels=labels,
                max_tokens=max_tokens,
                versions=read_versions("tensorflow", "keras", "numpy", "sentencepiece", "h5py"),
                seed=0,
                history={},
            )
    except filelock.Timeout as err:
        raise RunError(
            f"{runs / name}: expected nobody else at work on this run, found its lock held. Wait, "
            "or choose another --name."
        ) from err
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _evaluate(
    model: keras.Model, rows: Sequence[Sequence[int]], labels: np.ndarray[Any, Any], k: int
) -> dict[str, float]:
    """Top-1, top-k and cross-entropy; rows sorted by length so that batches are padded little."""
    order = np.argsort([len(row) for row in rows], kind="stable")
    top_1 = top_k = loss = 0.0
    for start in range(0, len(order), _BATCH):
        chosen = order[start : start + _BATCH]
        ids = np.zeros((len(chosen), max(len(rows[int(i)]) for i in chosen)), np.int32)
        for position, index in enumerate(chosen):
            ids[position, : len(rows[int(index)])] = rows[int(index)]
        probabilities = np.asarray(model(ids, training=False))  # (B, C)
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
        wanted = labels[chosen]
        top_1 += float((best[:, 0] == wanted).sum())
        top_k += float((best == wanted[:, None]).any(axis=1).sum())
        picked = probabilities[np.arange(len(chosen)), wanted]
        loss -= float(np.log(np.maximum(picked, 1e-7)).sum())
    count = len(order)
    return {"top_1": top_1 / count, f"top_{k}": top_k / count, "loss": loss / count}
