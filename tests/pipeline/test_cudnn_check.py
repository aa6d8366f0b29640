"""Which settings keep a GRU on cuDNN: as Keras decides it, and told in words."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.cudnn_check import CONDITIONS, list_obstacles


def test_the_default_layer_has_no_obstacle() -> None:
    assert list_obstacles({}) == []
    assert list_obstacles({condition.setting: condition.wanted for condition in CONDITIONS}) == []


@pytest.mark.parametrize(
    ("settings", "obstacle"),
    [
        ({"activation": "relu"}, "activation: expected 'tanh', found 'relu'; cuDNN computes no"),
        ({"recurrent_activation": "hard_sigmoid"}, "expected 'sigmoid', found 'hard_sigmoid'"),
        ({"use_bias": False}, "use_bias: expected True, found False; cuDNN's layer always has"),
        ({"reset_after": False}, "reset_after: expected True, found False"),
        ({"recurrent_dropout": 0.2}, "recurrent_dropout: expected 0.0, found 0.2"),
        ({"unroll": True}, "unroll: expected False, found True"),
    ],
)
def test_each_other_setting_is_an_obstacle(settings: dict[str, Any], obstacle: str) -> None:
    (found,) = list_obstacles(settings)
    assert obstacle in found


def test_dropout_of_inputs_is_none_and_cells_are_one() -> None:
    assert list_obstacles({"dropout": 0.3}) == []
    assert list_obstacles({}, kind="cell") == [
        "RNN(GRUCell) runs step by step; only keras.layers.GRU is one cuDNN kernel"
    ]


@pytest.mark.slow
def test_keras_decides_alike_for_every_combination(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.run_folder import import_tensorflow

    import_tensorflow()
    import keras

    # Without a GPU Keras says no to all; asked here is what it looks at before that.
    backend = sys.modules["keras.src.backend.tensorflow.rnn"]  # `rnn` is a function there, too
    monkeypatch.setattr(backend, "_is_gpu_available", lambda: True)
    values: dict[str, tuple[Any, Any]] = {
        "activation": ("tanh", "relu"),
        "recurrent_activation": ("sigmoid", "hard_sigmoid"),
        "use_bias": (True, False),
        "reset_after": (True, False),
        "unroll": (False, True),
    }
    for chosen in itertools.product(*values.values()):
        settings = dict(zip(values, chosen, strict=True))
        functions = {
            name: keras.activations.get(value)
            for name, value in settings.items()
            if name.endswith("activation")
        }
        decided = backend.cudnn_ok(**{**settings, **functions})
        assert decided == (list_obstacles(settings) == []), settings


@pytest.mark.slow
def test_the_command_looks_at_the_layers_and_ends_with_1_where_one_would_not() -> None:
    from pipeline.__main__ import cli

    done = CliRunner().invoke(cli, ["cudnn-check", "--unidirectional"])
    assert done.exit_code == 0
    assert "gru_0: would run on cuDNN" in done.output
    done = CliRunner().invoke(cli, ["cudnn-check", "--gru-dropout", "0.1"])
    assert done.exit_code == 0
    done = CliRunner().invoke(cli, ["cudnn-check", "--recurrent-dropout", "0.1"])
    assert done.exit_code == 1
    assert "backward_gru_0: would not run on cuDNN:" in done.output
    assert "recurrent_dropout: expected 0.0, found 0.1" in done.output
    done = CliRunner().invoke(cli, ["cudnn-check", "--cell", "cell", "--jit-compile"])
    assert done.exit_code == 1
    assert "backward_gru_0: would not run on cuDNN:" in done.output
    assert "RNN(GRUCell) runs step by step" in done.output
    assert "jit_compile: expected no XLA, found it on" in done.output
