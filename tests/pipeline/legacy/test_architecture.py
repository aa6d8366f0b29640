"""What a legacy file means: a model of ours, or every reason why not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.legacy.architecture import interpret_weights
from pipeline.legacy.weights_file import LegacyLayer, LegacyWeights, LegacyWeightsError

V, E, H, C = 9, 4, 3, 2


def gru(inputs: int = E, sides: tuple[str, ...] = ("",), units: int = H) -> dict[str, Any]:
    arrays = {}
    for side in sides:
        prefix = f"{side}_gru/" if side else ""
        arrays[f"{prefix}kernel"] = np.ones((inputs, 3 * units), np.float32)
        arrays[f"{prefix}recurrent_kernel"] = np.ones((units, 3 * units), np.float32)
        arrays[f"{prefix}bias"] = np.ones(6 * units, np.float32)
    return arrays


def dense(inputs: int = H) -> dict[str, Any]:
    return {"kernel": np.ones((inputs, C), np.float32), "bias": np.ones(C, np.float32)}


EMBEDDING = {"embeddings": np.ones((V, E), np.float32)}
BOTH = ("forward", "backward")


def weights(*layers: dict[str, Any], configs: Any = None, names: Any = None) -> LegacyWeights:
    named = [LegacyLayer(name=f"layer_{i}", arrays=arrays) for i, arrays in enumerate(layers)]
    return LegacyWeights(
        layers=named,
        layer_names=names or [layer.name for layer in named],
        layer_configs=configs,
        keras_version="2.11.0",
    )


def describe(*kinds: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"class_name": kind, "config": settings} for kind, settings in kinds]


def test_one_direction_and_its_assumptions() -> None:
    model = interpret_weights(weights(EMBEDDING, gru(), dense()))
    config = model.config
    assert (config.vocab_size, config.embed_dim, config.units, config.num_classes) == (V, E, H, C)
    assert (config.layers, config.bidirectional, config.pooling, config.relu) == (
        *(1, False),
        *("last", False),
    )
    assert model.grus[0][0].bias.shape == (2, 3 * H)
    assert model.assumptions[0].startswith("pooling last and no ReLU before the head, going by")


def test_two_directions_in_two_layers_forward_first() -> None:
    second = gru(2 * H, BOTH)
    second["forward_gru/bias"] *= 7
    model = interpret_weights(weights(EMBEDDING, gru(E, BOTH), second, dense(2 * H)))
    assert (model.config.layers, model.config.bidirectional) == (2, True)
    assert model.grus[1][0].bias.max() == 7
    assert model.grus[1][1].bias.max() == 1


def test_names_of_layers_without_weights_tell_pooling_and_relu() -> None:
    names = ["input_1", "embedding", "gru", "global_average_pooling1d", "re_lu", "dense"]
    config = interpret_weights(weights(EMBEDDING, gru(), dense(), names=names)).config
    assert (config.pooling, config.relu) == ("mean", True)


def test_options_beat_names_and_leave_nothing_assumed() -> None:
    model = interpret_weights(weights(EMBEDDING, gru(), dense()), pooling="max", relu=True)
    assert (model.config.pooling, model.config.relu, model.assumptions) == ("max", True, [])


SOFTMAX = ("Dense", {"activation": "softmax"})


def test_a_description_is_believed() -> None:
    configs = describe(
        *(("Embedding", {}), ("Dropout", {}), ("GRU", {"return_sequences": True})),
        *(("GlobalMaxPooling1D", {}), ("Activation", {"activation": "relu"}), SOFTMAX),
    )
    model = interpret_weights(weights(EMBEDDING, gru(), dense(), configs=configs))
    assert (model.config.pooling, model.config.relu, model.assumptions) == ("max", True, [])


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((gru(), dense()), "expected an Embedding"),
        ((EMBEDDING, dense(E)), "expected GRU layers and a Dense behind them"),
        ((EMBEDDING, gru(), dense(), dense(C)), "then one Dense with a bias, found weights bias"),
        ((EMBEDDING, {"gamma": np.ones(3)}, gru(), dense()), "found weights gamma there"),
        ((EMBEDDING, gru(7), dense()), "GRU layer 0: expected a kernel for 4 inputs, found 7"),
        ((EMBEDDING, gru(), dense(5)), r"Dense: expected a kernel \(3, C\) and a bias"),
        ((EMBEDDING, gru(), gru(H, BOTH), dense(6)), "expected every GRU layer alike"),
        ((EMBEDDING, gru(E, ("forward",)), dense()), "one direction, or forward and backward"),
    ],
)
def test_other_stacks_are_refused(layers: tuple[Any, ...], message: str) -> None:
    with pytest.raises(LegacyWeightsError, match=message) as caught:
        interpret_weights(weights(*layers))
    assert "\nSupported: Embedding -> GRU, CuDNNGRU or Bidirectional" in str(caught.value)


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ([("GRU", {"recurrent_activation": "hard_sigmoid"}), SOFTMAX], "found 'hard_sigmoid'"),
        ([("GRU", {"go_backwards": True}), SOFTMAX], "expected go_backwards False, found True"),
        ([("GRU", {}), ("Dense", {"activation": "sigmoid"})], "expected activation 'softmax'"),
        ([("GRU", {}), ("Dense", {"activation": "linear"})], "expected a softmax behind the Dense"),
        ([("GRU", {}), ("Lambda", {"name": "x"}), SOFTMAX], "layer x: expected none of its kind"),
        ([("GRU", {"return_sequences": True}), SOFTMAX], r"expected return_sequences \[False\]"),
        (
            [
                (
                    "Bidirectional",
                    {"merge_mode": "sum", "layer": {"class_name": "GRU", "config": {}}},
                ),
                SOFTMAX,
            ],
            "expected merge_mode 'concat', found 'sum'",
        ),
    ],
)
def test_other_arithmetic_is_refused(kinds: list[tuple[str, Any]], message: str) -> None:
    with pytest.raises(LegacyWeightsError, match=message):
        interpret_weights(weights(EMBEDDING, gru(), dense(), configs=describe(*kinds)))


def test_an_option_against_the_description_is_refused() -> None:
    configs = describe(("GRU", {}), SOFTMAX)
    with pytest.raises(
        LegacyWeightsError, match="--pooling: expected 'last' as in the file, found"
    ):
        interpret_weights(weights(EMBEDDING, gru(), dense(), configs=configs), pooling="max")


def test_every_reason_is_told_at_once() -> None:
    with pytest.raises(LegacyWeightsError) as caught:
        interpret_weights(weights(EMBEDDING, {"gamma": np.ones(3)}, {"beta": np.ones(3)}, gru()))
    assert str(caught.value).count("\n  - layer") == 2
