from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving_compare.bench import worker
from serving_compare.bench.forms import FormFiles
from serving_compare.bench.worker import run_job

from .conftest import UNITS, VOCAB

LIMITS = {"blocks": 1, "warm_up_s": 0.0, "min_passes": 1, "duration_s": 0.0}


def run(tmp_path: Path, **job: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    output = tmp_path / "out"
    run_job({"core": None, "timeout_s": 60, "output": str(output), **job})
    with np.load(output.with_suffix(".npz"), allow_pickle=False) as arrays:
        return dict(arrays), json.loads(output.with_suffix(".json").read_text())


@pytest.fixture(autouse=True)
def no_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker ends with its alarm; the tests' own process must not."""
    monkeypatch.setattr(signal, "alarm", lambda seconds: None)


def test_a_probe_answers_or_says_why_not(
    tmp_path: Path, untrained: FormFiles, monkeypatch: pytest.MonkeyPatch
):
    def refuse(files: FormFiles) -> Any:
        raise worker.UnavailableError("no such hardware")

    monkeypatch.setitem(worker.FORMS, "litert", refuse)
    arrays, facts = run(
        tmp_path,
        mode="probe",
        files=untrained._asdict(),
        forms=["lookup numpy", "litert"],
        vocab_size=VOCAB,
        lengths=[1, 3],
        data_seed=1,
    )
    assert {name: array.shape for name, array in arrays.items()} == {"lookup numpy": (16, 3)}
    assert facts == {"unavailable": {"litert": "no such hardware"}}


def test_a_model_is_timed_by_length_and_in_bulk(tmp_path: Path, untrained: FormFiles):
    arrays, facts = run(
        tmp_path,
        mode="model",
        files=untrained._asdict(),
        forms=["lookup numpy", "onnx"],
        vocab_size=VOCAB,
        units=UNITS,
        lengths=[1],
        cold_lengths=[1],
        cold_samples=2,
        limits=LIMITS,
        batch_sizes=[32],
        bulk_limits=LIMITS,
        data_seed=1,
        order_seed=1,
    )
    expected = {
        "lookup numpy": {"warm_1", "cold_1", "bulk_32"},
        "onnx": {"warm_1", "cold_1"},
        **{f"onnx {way}": {"bulk_32"} for way in ("whole", "sorted 8", "sorted 32")},
    }
    assert {form: set(cells) for form, cells in facts["cells"].items()} == expected
    assert set(arrays) == {f"{form}/{cell}" for form, cells in expected.items() for cell in cells}
    assert facts["cells"]["onnx"]["warm_1"]["inner_loops"] == 8
    assert facts["timer_cost_ns"] > 0


def test_texts_are_asked_and_held_against_the_first_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    answers = {"x": [("a", 0.5), ("b", 0.2)], "y": [("b", 0.5), ("a", 0.2)]}
    monkeypatch.setattr(worker, "load_text_form", lambda name, files: lambda text: answers[name])
    files = dict.fromkeys(worker.ArtifactFiles._fields, "")
    arrays, facts = run(
        tmp_path,
        mode="text",
        files=files,
        forms=["x", "y"],
        texts=["t", "u"],
        order_seed=1,
        tolerance=1e-5,
    )
    assert facts["disagreements"] == {"x": 0, "y": 2}
    assert {name: len(array) for name, array in arrays.items()} == {"x/text": 2, "y/text": 2}
