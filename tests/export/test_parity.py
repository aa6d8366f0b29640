"""Every model shape x every form x every batch: the trained Keras model is the reference.

Tolerance 1e-5: see `export/difference.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.agreement import PROBE_BATCH_SIZES
from export.difference import TOLERANCE
from export.fold import fold_weights
from export.lookup import LookupConfig, Probe, load_lookup, write_lookup
from export.onnx_graph import build_onnx
from export.runtimes import load_keras_reference, pad_ids
from pipeline.config import ModelConfig
from pipeline.run_folder import Run as PipelineRun
from tests.export.tiny import LABELS, MAX_TOKENS, make_config, make_keras_model, make_weights

pytestmark = pytest.mark.slow

SHAPES = [
    make_config(pooling=pooling, bidirectional=bidirectional, layers=layers, relu=layers == 1)
    for pooling in ("last", "max", "mean")
    for bidirectional in (False, True)
    for layers in (1, 2)
]
Run = Callable[[np.ndarray, np.ndarray], np.ndarray]


def name_shape(config: ModelConfig) -> str:
    return f"{config.pooling}-{config.directions}-{config.layers}"


def make_rows() -> list[list[int]]:
    """Ids: no token, one token, longest, all unknown, and mixed lengths."""
    rng = np.random.default_rng(0)
    mixed = [rng.integers(2, 96, n).tolist() for n in rng.integers(1, MAX_TOKENS, 28)]
    longest = rng.integers(2, 96, MAX_TOKENS).tolist()
    return [[], [5], longest, [1] * 6, *mixed]


def run_saved_model(config: ModelConfig) -> Run:
    import tensorflow as tf

    from export.saved_model import IdsClassifier

    module = IdsClassifier(make_weights(config))
    return lambda ids, lengths: module.serve(tf.constant(ids), tf.constant(lengths))[
        "probabilities"
    ].numpy()


def run_onnxruntime(model: Any) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return lambda ids, lengths: session.run(None, {"tokens": ids, "lengths": lengths})[0]


def run_onnx_reference(model: Any) -> Run:
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(model)
    return lambda ids, lengths: evaluator.run(None, {"tokens": ids, "lengths": lengths})[0]


def run_openvino(model: Any) -> Run:
    import openvino

    # Its default is half precision on CPUs that have it.
    compiled = openvino.Core().compile_model(
        openvino.Core().read_model(model.SerializeToString(), b""),
        "CPU",
        {"INFERENCE_PRECISION_HINT": "f32"},
    )
    return lambda ids, lengths: compiled({"tokens": ids, "lengths": lengths})[0]


def run_lookup(config: ModelConfig, folder: Path, tokenizer: bytes) -> Run:
    shape = {key: value for key, value in config.to_json().items() if "dropout" not in key}
    write_lookup(
        folder,
        config=LookupConfig(**shape),
        arrays=fold_weights(make_weights(config)),
        labels=LABELS,
        tokenizer=tokenizer,
        golden=[Probe("", (1,), (0.2,) * 5)],
        max_tokens=MAX_TOKENS,
    )
    return load_lookup(folder, replay_golden=False).probabilities


def differ(run: Run, rows: Sequence[Sequence[int]], expected: np.ndarray) -> float:
    """Return the largest difference over all batch sizes, with and without extra padding."""
    worst = 0.0
    for size in PROBE_BATCH_SIZES:
        for start in range(0, len(rows), size):
            batch = list(rows[start : start + size])
            for extra in (0, 3):
                ids, lengths = pad_ids(batch, extra=extra or not any(batch))
                found = run(ids, lengths)
                worst = max(worst, float(np.abs(found - expected[start : start + size]).max()))
    return worst


@pytest.mark.parametrize("config", SHAPES, ids=name_shape)
def test_every_form_gives_what_keras_gives(
    config: ModelConfig, tmp_path: Path, tokenizer_model: bytes, record_property: Any
) -> None:
    rows = make_rows()
    reference = load_keras_reference(make_keras_model(config))
    expected = reference(pad_ids([row or [1] for row in rows])[0])[1]
    onnx_model = build_onnx(make_weights(config), {})
    runs = {
        "saved_model": run_saved_model(config),
        "onnxruntime": run_onnxruntime(onnx_model),
        "openvino": run_openvino(onnx_model),
        "lookup": run_lookup(config, tmp_path / "lookup", tokenizer_model),
    }
    found = {name: differ(run, rows, expected) for name, run in runs.items()}
    # Plain Python loops: one batch of all rows will do.
    ids, lengths = pad_ids(rows, extra=2)
    answer = run_onnx_reference(onnx_model)(ids, lengths)
    found["onnx.reference"] = float(np.abs(answer - expected).max())
    record_property("max_abs_probability_diff", found)
    assert max(found.values()) <= TOLERANCE, found
    assert max(found.values()) > 0, "expected rounding differences: were all forms really run?"


def test_a_calibrated_run_is_calibrated_in_every_form(
    published: Path, tiny_run: PipelineRun
) -> None:
    from export.bundle import read_artifact
    from pipeline.evaluation.logits import predict_logits
    from pipeline.evaluation.measures import log_softmax

    rows = [row or [1] for row in make_rows()]
    # The weights of `tiny_run` before its temperature was folded in.
    logits = predict_logits(make_keras_model(tiny_run.model), rows)
    expected = np.exp(log_softmax(logits / tiny_run.calibration["temperature"]))
    ids, lengths = pad_ids(rows)
    import onnx

    forms = {
        "lookup": load_lookup(published / "lookup").probabilities(ids, lengths),
        "onnx": run_onnxruntime(onnx.load(published / "model.onnx"))(ids, lengths),
    }
    for form, found in forms.items():
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE, err_msg=form)
    # The gate of the export has held all the others to the same model.
    parity = read_artifact(published).manifest["parity"]["backends"]
    assert {"saved_model", "saved_model_text", "tf2onnx", "lookup_numpy"} <= set(parity)
    assert max(one["max_abs_probability_diff"] for one in parity.values()) <= TOLERANCE
