from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving_compare.agreement import AgreementError
from serving_compare.bench import probe
from serving_compare.bench.forms import FormFiles
from serving_compare.bench.models import ModelShape
from serving_compare.bench.probe import check_answers, prepare_models
from serving_compare.bench.profile import QUICK

from .conftest import CLASSES, UNITS, VOCAB

REFERENCE = np.log(np.array([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]]))


def test_the_largest_difference_of_a_logarithm_is_told():
    answers = {"onnx": np.exp(REFERENCE).astype(np.float32), "null": np.full((2, 3), 1 / 3)}
    differences = check_answers(answers, REFERENCE, units=8)
    assert list(differences) == ["onnx"]
    assert differences["onnx"] < 1e-7


@pytest.mark.parametrize("factor", [1.0001, np.nan, 0.0])
def test_a_wrong_answer_ends_the_benchmark(factor: float):
    answers = {"onnx": (np.exp(REFERENCE) * factor).astype(np.float32)}
    with pytest.raises(
        AgreementError,
        match=r"(?s)^The forms of the model with 8 units do not agree, so nothing was timed\.\n"
        r"    onnx: expected log-probabilities within 1e-05 of float64, found a difference of ",
    ):
        check_answers(answers, REFERENCE, units=8)


def test_rounded_weights_may_differ_more_but_not_arbitrarily():
    answers = {"lookup native int8": (np.exp(REFERENCE) * 1.001).astype(np.float32)}
    assert check_answers(answers, REFERENCE, units=8)["lookup native int8"] > 1e-4
    with pytest.raises(AgreementError, match="lookup native int8: expected .* within 0.03 of"):
        check_answers({"lookup native int8": np.exp(REFERENCE) * 1.1}, REFERENCE, units=8)


@pytest.fixture
def prepared(untrained: FormFiles, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The tiny model in place of an exported one; only forms that need no TensorFlow."""
    seen: dict[str, Any] = {"programs": []}

    def stand_in(programs: Any, **_: Any) -> None:
        for program in programs:
            seen["programs"].append(program.name)
            Path(program.arguments[0]).symlink_to(untrained.folder)

    def shape(units: int) -> ModelShape:
        return ModelShape(units=UNITS, vocab_size=VOCAB, embed_dim=5, num_classes=CLASSES)

    own = {name: probe.OWN_FORMS[name] for name in ("lookup numpy", "onnx", "null")}
    monkeypatch.setattr(probe, "run_programs", stand_in)
    monkeypatch.setattr(probe, "ModelShape", shape)
    monkeypatch.setattr(probe, "OWN_FORMS", own)
    monkeypatch.setattr(probe, "COMPANIONS", ("onnx",))
    return seen


def test_forms_that_run_are_known_and_the_others_have_reasons(
    prepared: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(probe, "is_installed", lambda name: name.startswith("openvino"))
    steps: list[str] = []
    (model,) = prepare_models(
        replace(QUICK, units=(UNITS,), lengths=(1, 3)),
        tmp_path,
        seed=1,
        progress=lambda step, share: steps.append(step),
    )
    assert prepared["programs"] == ["Export of the untrained model with 8 units"]
    assert model.forms[:3] == ("lookup numpy", "onnx", "null")
    assert "openvino f32" in model.forms
    assert {model.unavailable[name] for name in ("litert", "torch eager")} == {"not installed"}
    assert set(model.forms) | set(model.unavailable) == {
        "lookup numpy", "onnx", "null", *probe.PEER_FORMS,
    }  # fmt: skip
    assert model.differences["openvino f32"] < 1e-6
    assert steps == ["exporting models", "agreement, H=8"]


def test_a_peer_that_breaks_is_left_out_with_its_last_words(
    prepared: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # LiteRT's files were not written, so that it breaks, whether it is installed or not.
    monkeypatch.setattr(probe, "PEER_FORMS", {"litert": probe.PEER_FORMS["litert"]})
    monkeypatch.setattr(probe, "is_installed", lambda name: True)
    monkeypatch.setattr(probe, "litert_program", lambda *_: None)
    monkeypatch.setattr(probe, "run_programs", keep_exports(probe.run_programs))
    (model,) = prepare_models(
        replace(QUICK, units=(UNITS,), lengths=(1,)),
        tmp_path,
        seed=1,
        progress=lambda step, share: None,
    )
    assert model.forms == ("lookup numpy", "onnx", "null")
    assert model.unavailable["litert"].startswith("failed: ")


def keep_exports(run: Any) -> Any:
    def run_programs(programs: Any, **options: Any) -> None:
        run([program for program in programs if program is not None], **options)

    return run_programs
