"""What is minimised: weights of classes, averages of weights, and a resume that keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config import ModelConfig, TrainConfig

pytestmark = pytest.mark.slow

IDS = np.array([[2, 3, 4, 0], [5, 6, 0, 0], [7, 0, 0, 0], [8, 2, 9, 3]] * 4, "int32")
LABELS = np.array([0, 1, 2, 0] * 4, "int32")


def build(**settings: Any) -> Any:
    import keras

    from pipeline.model import build_model
    from pipeline.objective import compile_model

    keras.utils.set_random_seed(1)
    model = build_model(ModelConfig(vocab_size=10, num_classes=3, embed_dim=4, units=3))
    training = TrainConfig(num_predict=2, learning_rate=0.1, **settings)
    compile_model(model, training, num_classes=3, total_steps=8, class_counts=[6, 3, 3])
    return model


def read(model: Any) -> list[np.ndarray]:
    return [weight.numpy() for weight in model.trainable_variables]


@pytest.mark.parametrize(
    ("kind", "weights"),
    [("balanced", [2 / 3, 4 / 3, 4 / 3]), ("sqrt", [0.8284, 1.1716, 1.1716]), ("none", None)],
)
def test_class_weights_leave_the_mean_weight_of_a_row_at_1(kind: Any, weights: Any) -> None:
    from pipeline.objective import weigh_classes

    found = weigh_classes([6, 3, 3], kind)
    if weights is None:
        assert found is None
    else:
        assert found is not None
        np.testing.assert_allclose(found, weights, atol=1e-4)
        assert found.dtype == np.float32
        assert (found * [6, 3, 3]).sum() / 12 == pytest.approx(1)


def test_a_class_without_a_row_weighs_nothing() -> None:
    from pipeline.objective import weigh_classes

    np.testing.assert_allclose(weigh_classes([5, 0, 5], "balanced"), [1, 0, 1])


def test_class_weights_weigh_the_loss_and_no_metric() -> None:
    plain, weighed = (
        build(class_weights=kind, label_smoothing=0.0).evaluate(
            IDS, LABELS, batch_size=16, return_dict=True, verbose=0
        )
        for kind in ("none", "balanced")
    )
    assert weighed["cross_entropy"] == pytest.approx(plain["cross_entropy"])
    assert weighed["top_1"] == plain["top_1"]
    probabilities = build().predict(IDS, verbose=0)[np.arange(16), LABELS]
    weights = np.array([2 / 3, 4 / 3, 4 / 3])[LABELS]
    assert weighed["loss"] == pytest.approx(-(np.log(probabilities) * weights).mean(), rel=1e-5)
    assert weighed["loss"] != pytest.approx(plain["loss"], rel=1e-5)


def test_class_weights_need_the_counts() -> None:
    from pipeline.model import build_model
    from pipeline.objective import compile_model

    model = build_model(ModelConfig(vocab_size=10, num_classes=3, embed_dim=4, units=3))
    with pytest.raises(ValueError, match="class_counts: expected the rows of each class for class"):
        compile_model(model, TrainConfig(class_weights="sqrt"), num_classes=3, total_steps=8)


def test_a_frozen_embedding_stays_as_it_is() -> None:
    model = build(embedding_trainable=False)
    before = model.get_layer("embedding").embeddings.numpy()
    head = model.get_layer("head").kernel.numpy()
    model.fit(IDS, LABELS, batch_size=4, verbose=0)
    np.testing.assert_array_equal(model.get_layer("embedding").embeddings.numpy(), before)
    assert not np.array_equal(model.get_layer("head").kernel.numpy(), head)


def test_averages_are_validated_and_the_trained_weights_come_back() -> None:
    import keras

    from pipeline.objective import AverageValidator, use_averaged_weights

    model = build(weight_averaging=0.5)
    steps: list[list[np.ndarray]] = []

    class Recorder(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            steps.append(read(self.model))

        def on_test_begin(self, logs: Any = None) -> None:
            self.validated = read(self.model)

    recorder = Recorder()
    logs = model.fit(
        IDS,
        LABELS,
        batch_size=4,
        shuffle=False,
        validation_data=(IDS, LABELS),
        callbacks=[AverageValidator(), recorder],
        verbose=0,
    ).history
    average = steps[0]  # the first step begins the average
    for values in steps[1:]:
        average = [0.5 * old + 0.5 * new for old, new in zip(average, values, strict=True)]
    for found, wanted in zip(recorder.validated, average, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
    # Behind the validation, and behind `fit`, they are the trained ones again, bit by bit.
    for found, wanted in zip(read(model), steps[-1], strict=True):
        np.testing.assert_array_equal(found, wanted)
    use_averaged_weights(model)
    for found, wanted in zip(read(model), recorder.validated, strict=True):
        np.testing.assert_array_equal(found, wanted)
    values = model.evaluate(IDS, LABELS, return_dict=True, verbose=0)
    assert values["cross_entropy"] == pytest.approx(logs["val_cross_entropy"][0], rel=1e-5)


def test_without_averaging_nothing_is_put_in() -> None:
    from pipeline.objective import use_averaged_weights

    model = build()
    model.fit(IDS, LABELS, batch_size=4, verbose=0)
    before = read(model)
    use_averaged_weights(model)
    for found, wanted in zip(read(model), before, strict=True):
        np.testing.assert_array_equal(found, wanted)


class _KilledError(Exception):
    pass


def test_a_training_with_every_option_goes_on_as_if_unbroken(
    prepared: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.checkpoint import Checkpoint
    from pipeline.run_folder import load_model
    from pipeline.train import train

    model = ModelConfig(
        vocab_size=prepared.vocab_size,
        num_classes=2,
        embed_dim=8,
        units=4,
        embedding_dropout=0.1,
        embedding_dropout_kind="element",
        bidirectional=False,
        gru_dropout=0.1,
        recurrent_dropout=0.1,
    )
    training = TrainConfig(
        num_epochs=2,
        batch_size=64,
        num_predict=1,
        deterministic=True,
        weight_averaging=0.9,
        class_weights="balanced",
        embedding_init="skip_gram",
        monitor="cross_entropy",
    )
    whole = train(prepared, model, training, tmp_path / "whole")
    save, saved = Checkpoint._save, []

    def die_behind_the_third_state(self: Checkpoint) -> None:
        save(self)
        saved.append(self.steps_done)
        if len(saved) == 3:
            raise _KilledError

    with monkeypatch.context() as patch, pytest.raises(_KilledError):
        patch.setattr(Checkpoint, "_save", die_behind_the_third_state)
        train(prepared, model, training, tmp_path / "broken", save_every_s=0)
    assert saved[-1] == 3  # in the middle of the first epoch
    resumed = train(prepared, model, training, tmp_path / "broken", save_every_s=0)
    for found, wanted in zip(load_model(resumed).weights, load_model(whole).weights, strict=True):
        np.testing.assert_array_equal(found.numpy(), wanted.numpy(), err_msg=wanted.path)
    assert resumed.metrics == whole.metrics
    assert resumed.calibration == whole.calibration
