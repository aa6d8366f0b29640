from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.weights import expected_shapes, read_keras_weights, take_weights
from pipeline.run_folder import load_model
from tests.export.tiny import make_arrays, make_config, make_keras_model


def test_paths_name_every_weight_of_a_unidirectional_model() -> None:
    assert expected_shapes(make_config(bidirectional=False, layers=2)) == {
        "embedding/embeddings": (96, 7),
        "gru_0/gru_cell/kernel": (7, 18),
        "gru_0/gru_cell/recurrent_kernel": (6, 18),
        "gru_0/gru_cell/bias": (2, 18),
        "gru_1/gru_cell/kernel": (6, 18),
        "gru_1/gru_cell/recurrent_kernel": (6, 18),
        "gru_1/gru_cell/bias": (2, 18),
        "head/kernel": (6, 5),
        "head/bias": (5,),
    }


def test_a_second_bidirectional_layer_reads_both_directions() -> None:
    shapes = expected_shapes(make_config(layers=2))
    assert shapes["bigru_1/backward_gru_1/gru_cell/kernel"] == (12, 18)
    assert shapes["head/kernel"] == (12, 5)


def test_padding_row_is_overwritten_by_the_unknown_row() -> None:
    arrays = make_arrays(make_config())
    before = arrays["embedding/embeddings"].copy()
    weights = take_weights(make_config(), arrays)
    np.testing.assert_array_equal(weights.embedding[0], before[1])
    np.testing.assert_array_equal(weights.embedding[1:], before[1:])
    np.testing.assert_array_equal(arrays["embedding/embeddings"], before)  # a copy was changed


def test_directions_are_told_by_name_not_by_position() -> None:
    config = make_config()
    arrays = make_arrays(config)
    weights = take_weights(config, dict(reversed(arrays.items())))
    forward, backward = weights.layers[0]
    np.testing.assert_array_equal(forward.kernel, arrays["bigru_0/forward_gru_0/gru_cell/kernel"])
    np.testing.assert_array_equal(backward.kernel, arrays["bigru_0/backward_gru_0/gru_cell/kernel"])


@pytest.mark.slow
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_model_gives_the_same_paths_built_and_loaded(
    make_run: Any, tmp_path: Path, bidirectional: bool
) -> None:
    config = make_config(layers=2, bidirectional=bidirectional, embedding_dropout=0.2)
    run = make_run(tmp_path / "runs" / "one", config)
    for model in (make_keras_model(config), load_model(run)):
        arrays = read_keras_weights(model)
        assert {path: array.shape for path, array in arrays.items()} == expected_shapes(config)
        for path, array in make_arrays(config).items():
            np.testing.assert_array_equal(arrays[path], array)
