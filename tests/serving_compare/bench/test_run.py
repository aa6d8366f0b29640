from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from export.bundle import Artifact
from serving_compare.agreement import AgreementError
from serving_compare.bench import run
from serving_compare.bench.forms import FormFiles
from serving_compare.bench.interleave import BlockLimits
from serving_compare.bench.models import ModelShape
from serving_compare.bench.probe import ProbedModel
from serving_compare.bench.profile import QUICK
from serving_compare.bench.run import Subject, run_bench

from .conftest import CLASSES, UNITS, VOCAB

SHORT = BlockLimits(blocks=1, warm_up_s=0.0, min_passes=1, duration_s=0.0)
PROFILE = replace(
    QUICK,
    processes=2,
    units=(UNITS,),
    lengths=(1, 20),
    cold_samples=2,
    limits=SHORT,
    batch_sizes=(32,),
    bulk_limits=SHORT,
    starts=("null",),
)


@pytest.fixture
def prepared(untrained: FormFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny model in place of exported ones; only forms that need no TensorFlow."""
    model = ProbedModel(
        shape=ModelShape(units=UNITS, vocab_size=VOCAB, embed_dim=5, num_classes=CLASSES),
        files=untrained,
        forms=("lookup numpy", "onnx", "null"),
        unavailable={"litert": "not installed"},
        differences={"lookup numpy": 1e-7, "onnx": 1e-7},
    )
    monkeypatch.setattr(run, "prepare_models", lambda *_, **__: [model])
    monkeypatch.setattr(run, "TEXT_FORMS", ("lookup native", "lookup numpy"))


def test_every_round_runs_each_kind_of_process_once(
    prepared: None, artifact: Artifact, texts: list[str], tmp_path: Path
):
    subject = Subject(
        artifact=artifact,
        texts=texts[:20],
        ids=[4, 5],
        source="a test",
        has_word_table=False,
        tolerance=1e-5,
    )
    steps: list[tuple[str, float]] = []
    parts = run_bench(
        PROFILE,
        subject,
        name="made",
        seed=1,
        scratch=tmp_path,
        progress=lambda step, share: steps.append((step, share)),
    )
    assert list(parts) == [f"model-{UNITS}", "text", "cold-ids", "cold-text"]
    model, text, cold = parts[f"model-{UNITS}"], parts["text"], parts["cold-text"]
    assert len(model.processes_of("onnx")) == 2
    assert model.samples[1, "onnx", "warm_20"].min() > 0
    assert model.artifact["unavailable"] == {"litert": "not installed"}
    assert text.backends == ["lookup numpy"]  # no native form ran, so none is asked
    assert len(text.samples[0, "lookup numpy", "text"]) == 20
    assert cold.backends == ["null"]
    assert {process["round"] for process in cold.processes} == {0, 1}
    assert len(steps) == 2 * 4
    assert steps[-1][1] == 1.0
    orders = [[step for step, _ in steps[i : i + 4]] for i in (0, 4)]
    assert sorted(orders[0]) == sorted(orders[1])


def test_no_round_is_begun_that_would_end_too_late(prepared: None, tmp_path: Path):
    parts = run_bench(
        replace(PROFILE, max_duration_s=0.0), None, name="made", seed=1, scratch=tmp_path
    )
    assert list(parts) == [f"model-{UNITS}"]  # and no artifact, so neither texts nor starts
    assert {process["round"] for process in parts[f"model-{UNITS}"].processes} == {0}


def test_forms_that_answer_texts_differently_are_an_error(
    prepared: None,
    artifact: Artifact,
    texts: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    def stand_in(jobs: Any, **_: Any) -> None:
        (job,) = jobs
        job.output.with_suffix(".json").write_text(
            json.dumps({"disagreements": {"lookup numpy": 0, "onnx": 3}, "cells": {}})
        )

    monkeypatch.setattr(run, "run_children", stand_in)
    monkeypatch.setattr(run, "_model_turn", lambda *_: run._Turn(part="none", module="", fields={}))
    subject = Subject(
        artifact=artifact, texts=texts, ids=[4], source="", has_word_table=False, tolerance=1e-5
    )
    turns = [turn for turn in run._subject_turns(PROFILE, subject, False) if turn.part == "text"]
    monkeypatch.setattr(run, "_subject_turns", lambda *_: turns)
    with pytest.raises(
        AgreementError,
        match=r"^The forms do not agree on 120 texts, so nothing is reported: expected the answers "
        r"of lookup numpy, found others to 3 of them by onnx\. Check the artifact with "
        r"`make verify`\.$",
    ):
        run._run_rounds(PROFILE, turns, {"text": None}, 1, tmp_path, lambda *_: None, 0.0)  # type: ignore[dict-item]
