"""Pretraining: a language model that learns, whose layers a classifier starts from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pipeline.config import ModelConfig, TrainConfig
from pipeline.data_folder import PreparedData

if TYPE_CHECKING:
    import keras

pytestmark = pytest.mark.slow

SHAPE: dict[str, Any] = {"embed_dim": 8, "units": 6, "embedding_dropout": 0.0, "head_dropout": 0.0}
TRAINING = TrainConfig(
    num_epochs=1, batch_size=32, num_predict=2, pretrain_epochs=1, deterministic=True
)


def make_language_model(vocab_size: int, **changes: Any) -> Any:
    import keras

    from pipeline.model import build_model
    from pipeline.pretraining import LanguageModel

    keras.utils.set_random_seed(1)
    config = ModelConfig(vocab_size=vocab_size, num_classes=2, **{**SHAPE, **changes})
    reader = build_model(config)
    name = "bigru_0" if config.bidirectional else "gru_0"
    encoder = keras.Model(reader.inputs, reader.get_layer(name).output)
    model = LanguageModel(encoder, counts=np.ones(vocab_size, np.int64), seed=1)
    model.compile(keras.optimizers.Adam(0.02))
    return model


def count_up(rows: int, vocab_size: int, seed: int = 1) -> np.ndarray:
    """Rows of 2 to 8 ids, each one more than the id before, padded: (B, 8) int32."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 9, rows)
    first = rng.integers(3, vocab_size - 8, rows)
    steps = np.arange(8)
    return np.where(steps < lengths[:, None], first[:, None] + steps, 0).astype(np.int32)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_what_comes_next_is_learnt_and_what_came_before_by_the_other_direction(
    bidirectional: bool,
) -> None:
    model = make_language_model(40, bidirectional=bidirectional, units=32, embed_dim=16)
    ids = count_up(512, 40)
    model.fit(ids, ids[:, 0], epochs=30, batch_size=64, verbose=0)
    unseen = count_up(64, 40, seed=2)
    states = model.predict(unseen, verbose=0)

    def tell(layer: Any, rows: np.ndarray) -> np.ndarray:
        scores = layer(rows).numpy() @ model.pieces.numpy().T + model.piece_bias.numpy()
        return scores.argmax(-1)

    is_told = unseen[:, 1:] != 0
    ahead = tell(model.ahead, states[:, :-1, :32])
    assert (ahead == unseen[:, 1:])[is_told].mean() > 0.95
    if bidirectional:
        behind = tell(model.behind, states[:, 1:, 32:])
        assert (behind == unseen[:, :-1])[is_told].mean() > 0.95


def test_padding_changes_no_loss() -> None:
    model = make_language_model(40)
    ids = count_up(16, 40)
    wider = np.pad(ids, ((0, 0), (0, 3)))
    losses = [float(model.compute_loss(x=each, y_pred=model(each))) for each in (ids, wider)]
    assert losses[0] > 1.0
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)


def test_texts_of_one_piece_have_nothing_to_tell_and_no_loss() -> None:
    model = make_language_model(40)
    ids = np.full((4, 1), 7, np.int32)
    assert float(model.compute_loss(x=ids, y_pred=model(ids))) == 0.0


def classify(prepared: PreparedData, **changes: Any) -> tuple[ModelConfig, keras.Model]:
    import keras

    from pipeline.model import build_model

    keras.utils.set_random_seed(1)
    config = ModelConfig(
        vocab_size=prepared.vocab_size, num_classes=2, **{**SHAPE, "units": 8, **changes}
    )
    return config, build_model(config)


def pretrain_it(
    prepared: PreparedData, config: ModelConfig, model: keras.Model, folder: Path, **changes: Any
) -> None:
    import dataclasses

    from rich.console import Console

    from pipeline.dataset import IN_MEMORY
    from pipeline.pretraining import pretrain

    training = dataclasses.replace(TRAINING, **changes)
    pretrain(
        *(model, config, training, prepared),
        cache=IN_MEMORY,
        folder=folder,
        console=Console(quiet=True),
    )


def test_only_the_embedding_and_the_first_layer_change(
    prepared: PreparedData, tmp_path: Path
) -> None:
    config, model = classify(prepared, layers=2, pooling="last")
    before = {layer.name: layer.get_weights() for layer in model.layers}
    pretrain_it(prepared, config, model, tmp_path)
    changed = {
        layer.name
        for layer in model.layers
        if any(
            (old != new).any()
            for old, new in zip(before[layer.name], layer.get_weights(), strict=True)
        )
    }
    assert changed == {"embedding", "bigru_0"}


def test_a_frozen_embedding_stays_as_it_is(prepared: PreparedData, tmp_path: Path) -> None:
    config, model = classify(prepared)
    before = model.get_layer("embedding").get_weights()[0]
    pretrain_it(prepared, config, model, tmp_path, embedding_trainable=False)
    np.testing.assert_array_equal(model.get_layer("embedding").get_weights()[0], before)


def test_what_was_learnt_is_taken_up_and_not_learnt_again(
    prepared: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline import pretraining

    config, model = classify(prepared)
    pretrain_it(prepared, config, model, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [pretraining.PRETRAINED_FILE]
    monkeypatch.setattr(pretraining, "_fit", None)  # a second time would fail
    config, again = classify(prepared)
    pretrain_it(prepared, config, again, tmp_path)
    for old, new in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_run_counts_its_pretraining_and_repeats_to_the_last_bit(
    prepared: PreparedData, tmp_path: Path
) -> None:
    from pipeline.run_folder import load_model
    from pipeline.train import train

    config, _ = classify(prepared)
    first, second = (
        train(prepared, config, TRAINING, tmp_path / name) for name in ("first", "second")
    )
    assert first is not None
    assert second is not None
    assert first.accounting["seconds"]["pretraining"] > 0
    assert first.training["pretrain_epochs"] == 1
    assert not list(first.folder.glob("*.weights.h5"))
    for one, other in zip(
        load_model(first).get_weights(), load_model(second).get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_pieces_are_counted_over_the_training_split(prepared: PreparedData) -> None:
    from pipeline.pretraining import count_pieces
    from pipeline.tokenizer import encode_texts, load_processor

    counts = count_pieces(prepared)
    texts = list(prepared.train.read_rows()[0])
    rows = encode_texts(load_processor(prepared.tokenizer_path), texts, prepared.max_tokens)
    expected = np.bincount(np.concatenate([np.asarray(row) for row in rows]), minlength=len(counts))
    np.testing.assert_array_equal(counts, expected)
