"""Every form of an untrained model: written, and the same model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from export.lookup import load_lookup
from export.runtimes import load_onnx, load_saved_model
from export.untrained import draw_arrays, main
from export.weights import expected_shapes
from pipeline.run_folder import ModelConfig

pytestmark = pytest.mark.slow


def test_weights_are_drawn_as_keras_draws_them():
    config = ModelConfig(vocab_size=500, num_classes=5, embed_dim=30, units=40)
    arrays = draw_arrays(config, seed=1)
    assert {path: array.shape for path, array in arrays.items()} == expected_shapes(config)
    assert np.abs(arrays["embedding/embeddings"]).max() <= 0.05
    recurrent = arrays["bigru_0/forward_gru_0/gru_cell/recurrent_kernel"]
    assert recurrent @ recurrent.T == pytest.approx(np.eye(40), abs=1e-5)  # orthogonal
    assert not arrays["bigru_0/backward_gru_0/gru_cell/bias"].any()
    kernels = [arrays[f"bigru_0/{side}_gru_0/gru_cell/kernel"] for side in ("forward", "backward")]
    assert not np.array_equal(*kernels)
    again, other = draw_arrays(config, seed=1), draw_arrays(config, seed=2)
    assert np.array_equal(again["head/kernel"], arrays["head/kernel"])
    assert not np.array_equal(other["head/kernel"], arrays["head/kernel"])


def test_every_form_is_written_and_answers_alike(tmp_path: Path):
    folder = tmp_path / "untrained"
    arguments = ["--units", "6", "--vocab-size", "50", "--embed-dim", "4", "--num-classes", "3"]
    done = CliRunner().invoke(main, [str(folder), *arguments])
    assert done.exit_code == 0, done.output
    ids, lengths = np.array([[4, 5, 6], [7, 0, 0]], np.int32), np.array([3, 1], np.int32)
    expected = load_lookup(folder / "lookup", engine="numpy").probabilities(ids, lengths)
    for runtime in (
        load_saved_model(folder / "saved_model"),
        load_onnx(folder / "model.onnx"),
        load_onnx(folder / "oracle" / "model_tf2onnx.onnx"),
    ):
        assert np.abs(runtime.predict([], ids, lengths) - expected).max() < 1e-6
    for name, tolerance in (("lookup_int16", 1e-4), ("lookup_int8", 1e-2)):
        found = load_lookup(folder / name, engine="numpy").probabilities(ids, lengths)
        assert 0 < np.abs(found - expected).max() < tolerance
    assert (folder / "weights.npz").is_file()


def test_a_folder_that_exists_is_refused(tmp_path: Path):
    done = CliRunner().invoke(main, [str(tmp_path)])
    assert done.exit_code == 2
    assert "expected a new folder, found an existing one." in done.output
