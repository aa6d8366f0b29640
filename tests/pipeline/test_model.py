"""The Keras family: names the exporters rely on, and answers that ignore padding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config import ModelConfig

pytestmark = pytest.mark.slow

SHAPES = [
    {"bidirectional": bidirectional, "layers": layers, "pooling": pooling}
    for bidirectional in (False, True)
    for layers in (1, 2)
    for pooling in ("last", "max", "mean")
]


def build(**fields: Any) -> Any:
    from pipeline.model import build_model

    return build_model(ModelConfig(vocab_size=30, num_classes=5, embed_dim=6, units=4, **fields))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_padding_on_the_right_changes_nothing(shape: dict[str, Any]) -> None:
    model = build(**shape)
    rng = np.random.default_rng(0)
    for weight in model.weights:  # biases start at zero and would hide a padded step
        weight.assign(rng.normal(size=weight.shape).astype("float32"))
    tokens = np.array([[5, 6, 7], [8, 0, 0]], "int32")
    padded = np.pad(tokens, ((0, 0), (0, 6)))
    np.testing.assert_allclose(model(padded).numpy(), model(tokens).numpy(), rtol=0, atol=1e-6)


def test_weights_have_the_names_that_the_exporters_ask_for() -> None:
    paths = {weight.path for weight in build(bidirectional=True, layers=2).weights}
    cell = "gru_cell/recurrent_kernel"
    assert {
        "embedding/embeddings",
        f"bigru_0/forward_gru_0/{cell}",
        f"bigru_1/backward_gru_1/{cell}",
        "head/kernel",
        "head/bias",
    } <= paths
    assert f"gru_0/{cell}" in {weight.path for weight in build(bidirectional=False).weights}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cells_have_the_layers_weights_in_order_and_its_answers(shape: dict[str, Any]) -> None:
    from pipeline.model import build_model

    config = ModelConfig(vocab_size=30, num_classes=5, embed_dim=6, units=4, **shape)
    layers, cells = build_model(config), build_model(config, cell="cell")
    cells.set_weights(layers.get_weights())
    tokens = np.array([[5, 6, 7, 9], [8, 0, 0, 0]], "int32")
    np.testing.assert_allclose(cells(tokens).numpy(), layers(tokens).numpy(), rtol=0, atol=1e-6)


def test_dropouts_are_where_the_config_wants_them_and_change_no_answer() -> None:
    from pipeline.model import build_model, list_recurrent_layers

    plain = build(layers=2)
    dropped = build(
        layers=2,
        embedding_dropout=0.2,
        embedding_dropout_kind="element",
        gru_dropout=0.1,
        recurrent_dropout=0.3,
    )
    assert type(dropped.get_layer("embedding_dropout")).__name__ == "Dropout"
    spatial = build(embedding_dropout=0.2).get_layer("embedding_dropout")
    assert type(spatial).__name__ == "SpatialDropout1D"
    settings = [layer.get_config() for layer in list_recurrent_layers(dropped)]
    assert len(settings) == 4
    assert {(one["dropout"], one["recurrent_dropout"]) for one in settings} == {(0.1, 0.3)}
    dropped.set_weights(plain.get_weights())
    tokens = np.array([[5, 6, 7, 9], [8, 0, 0, 0]], "int32")
    np.testing.assert_array_equal(dropped(tokens).numpy(), plain(tokens).numpy())
    draws = [dropped(tokens, training=True).numpy() for _ in range(2)]
    assert not np.array_equal(*draws)
    cells = build_model(
        ModelConfig(vocab_size=9, num_classes=2, gru_dropout=0.1, recurrent_dropout=0.3),
        cell="cell",
    )
    inner = list_recurrent_layers(cells)[0].cell
    assert (inner.dropout, inner.recurrent_dropout) == (0.1, 0.3)


def test_recurrent_layers_are_listed_one_by_one() -> None:
    from pipeline.model import build_model, list_recurrent_layers

    config = ModelConfig(vocab_size=30, num_classes=5, layers=2)
    names = [layer.name for layer in list_recurrent_layers(build_model(config))]
    assert names == ["forward_gru_0", "backward_gru_0", "forward_gru_1", "backward_gru_1"]
    config = ModelConfig(vocab_size=30, num_classes=5, bidirectional=False)
    assert [type(layer).__name__ for layer in list_recurrent_layers(build_model(config))] == ["GRU"]
    cells = list_recurrent_layers(build_model(config, cell="cell"))
    assert [type(layer).__name__ for layer in cells] == ["RNN"]


def test_a_saved_model_is_loaded_with_our_pooling(tmp_path: Path) -> None:
    import keras

    model = build(pooling="max")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    tokens = np.array([[5, 6, 7, 0]], "int32")
    np.testing.assert_array_equal(loaded(tokens).numpy(), model(tokens).numpy())


def test_masked_pooling_refuses_other_modes() -> None:
    from pipeline.model import MaskedPooling

    with pytest.raises(ValueError, match="mode: expected 'max' or 'mean', found 'sum'"):
        MaskedPooling("sum")


def test_masked_pooling_pools_all_steps_where_there_is_no_mask() -> None:
    from pipeline.model import MaskedPooling

    outputs = np.array([[[1.0], [3.0], [-4.0]]], "float32")
    assert MaskedPooling("max")(outputs).numpy().item() == 3.0
    assert MaskedPooling("mean")(outputs).numpy().item() == 0.0
