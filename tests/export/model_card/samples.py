"""Runs, manifests and what a run keeps of its evaluation and data, written without TensorFlow."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.compression import NAMED_OPTIONS
from pipeline.data_card.fields import (
    ClassCard,
    DataWarning,
    LeakCard,
    RejectReason,
)
from pipeline.evaluation.fields import Mistake, RunEvaluation
from pipeline.evaluation.measures import measure_split
from pipeline.json_file import write_json
from pipeline.run_folder import Run
from tests.export.tiny import LABELS, make_config
from tests.pipeline.cards import make_card

FINGERPRINT = "0123456789abcdef" * 4
SIDES = {"before": {"ece": 0.0543, "nll": 0.7751}, "after": {"ece": 0.0121, "nll": 0.7612}}
CALIBRATION: dict[str, Any] = {"temperature": 0.8, "note": None, "test": SIDES}
ROWS = 400
HOSTILE = ("a|b", "`x` `", "<img src=x onerror=alert(1)>", "two\nlines", "\u202eevil", "**![x](y)")
"""Labels that break out of a table, of code, of a line, of Markdown."""


def make_run(folder: Path, labels: Sequence[str] = LABELS, **changes: Any) -> Run:
    """Return a run of `ROWS` test texts whose folder has no model."""
    folder.mkdir(parents=True)
    run = Run(
        folder=folder,
        name=folder.name,
        **{
            "model": make_config(num_classes=len(labels)),
            "training": {"num_predict": 2, "learning_rate": 0.003, "seed": 1},
            "metrics": {},
            "data": {
                "name": "tiny",
                "fingerprint": FINGERPRINT,
                "train": 4000,
                "validation": 400,
                "test": ROWS,
            },
            "labels": tuple(labels),
            "max_tokens": 16,
            "versions": {"keras": "3.15.1"},
            "seed": 1,
            "accounting": {"examples": 12000, "seconds": {"train": 321.5}},
            "calibration": CALIBRATION,
            **changes,
        },
    )
    lines = (
        json.dumps({"text": f"text {row}", "label": row % len(labels)}) + "\n"
        for row in range(ROWS)
    )
    run.test_split_path.write_text("".join(lines))
    return run


def make_evaluation(run: Run) -> RunEvaluation:
    """Return an evaluation whose answers never name the last class."""
    rng = np.random.default_rng(0)
    labels = np.arange(ROWS) % len(run.labels)
    logits = rng.normal(0, 1.0, (ROWS, len(run.labels)))
    logits[np.arange(ROWS), labels] += 1.5
    logits[:, -1] = -20
    return RunEvaluation(
        run=run.name,
        fingerprint=run.data["fingerprint"],
        splits={"test": measure_split(logits, labels, label_names=run.labels, k=2)},
        calibration=CALIBRATION,
        mistakes=(Mistake(text="a secret", label="cat", answer="dog", probability=0.9),),
    )


def make_data_card(run: Run) -> dict[str, Any]:
    """Return the fields of a `data_card.json` with a warning and near duplicates."""
    card = make_card()
    leak = LeakCard(
        rows={"word_order": 2, "numbers": 1, "one_word": 7},
        share=0.025,
        rows_compared_for_one_word=380,
        examples=[],
    )
    return dataclasses.asdict(
        dataclasses.replace(
            card,
            fingerprint=run.data["fingerprint"],
            rows=dataclasses.replace(
                card.rows, rejected=[RejectReason(reason="empty_text", rows=3, samples=[])]
            ),
            leaks={"validation": leak, "test": leak},
            classes=[
                ClassCard(
                    label=label,
                    rows={"train": 800 + index, "validation": 80, "test": 81},
                    share=0.2,
                    examples=["a secret"],
                )
                for index, label in enumerate(run.labels)
            ],
            warnings=[DataWarning(kind="small_class", text=f"Bring more of {run.labels[0]}.")],
        )
    )


def write_evidence(run: Run) -> None:
    """Write both files into the run's folder."""
    write_json(run.folder / "evaluation.json", make_evaluation(run).to_json())
    write_json(run.folder / "data_card.json", make_data_card(run))


def make_fields(run: Run, **changes: Any) -> dict[str, Any]:
    """Return a manifest's fields that fit `make_evaluation`."""
    accuracy = {"top_1": make_evaluation(run).splits["test"].top_1.value, "top_k": 0.75}
    backend = {"max_abs_probability_diff": 4e-7, "top_k_disagreements": 0, "rows": ROWS}
    option = {
        "array_bytes": 1000,
        "max_abs_logit_diff": 0.0,
        "top_1_changes": 0,
        "top_k_changes": 0,
        **accuracy,
    }
    return {
        "name": "tiny",
        "metrics": {"replayed": {"rows": ROWS, "k": 2, "keras": accuracy, "onnx": accuracy}},
        "parity": {
            "rows": ROWS,
            "k": 2,
            "tolerance": 1e-5,
            "probes": 256,
            "probe_batch_sizes": [1, 2, 3],
            "tokenizer_differences": 0,
            "backends": {"onnx": backend},
        },
        "compression": {
            "table_dtype": "float32",
            "recurrent_dtype": "float32",
            "max_accuracy_loss": 0.002,
            "tolerance": 1e-5,
            "k": 2,
            "options": [{**named._asdict(), **option} for named in NAMED_OPTIONS],
        },
        "word_table": {"refusal": "It has no words.", "words": 0},
        "provenance": {"run_sha256": "5" * 64, "versions": {"tf2onnx": "1.17.0"}},
        **changes,
    }


def make_artifact(folder: Path) -> Path:
    """Return a folder with two files of an artifact."""
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"a graph")
    (folder / "labels.json").write_bytes(b"[]\n")
    return folder
