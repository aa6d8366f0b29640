from __future__ import annotations

import dataclasses

import pytest

from pipeline.config import ModelConfig, TrainConfig

pytestmark = pytest.mark.slow  # KerasTuner imports TensorFlow


def test_every_draw_is_a_model_and_a_training_that_train_takes() -> None:
    import keras_tuner

    from pipeline import search_space as space

    hp = keras_tuner.HyperParameters()
    space.declare_space(hp, draws_batch_size=True)
    for seed in range(200):
        values = space.tidy_values({entry.name: entry.random_sample(seed) for entry in hp.space})
        model = space.make_model_config(values, vocab_size=50, num_classes=3)
        training = space.make_train_config(values, TrainConfig(num_epochs=7))
        # Each value ends in one of the two, and nothing else of the training is touched.
        drawn = {**dataclasses.asdict(training), **dataclasses.asdict(model)}
        assert {name: drawn[name] for name in values} == values
        assert (training.num_epochs, training.seed) == (7, TrainConfig().seed)


def test_what_is_not_drawn_yet_has_the_default_of_the_space() -> None:
    from pipeline import search_space as space

    model = space.make_model_config({"units": 32}, vocab_size=50, num_classes=3)
    assert (model.units, model.embed_dim, model.head_dropout) == (32, 128, 0.5)
    training = space.make_train_config({"units": 32, "label_smoothing": 0.05}, TrainConfig())
    assert training == dataclasses.replace(TrainConfig(), label_smoothing=0.05)


def test_what_is_tried_first_is_what_train_takes_and_then_less_and_less_of_it() -> None:
    import keras_tuner

    from pipeline import search_space as space
    from pipeline.config import DEFAULT_SHAPE

    hp = keras_tuner.HyperParameters()
    space.declare_space(hp, draws_batch_size=True)
    first, *others = space.list_first_values(hp)
    default = ModelConfig(vocab_size=50, num_classes=3, **DEFAULT_SHAPE)
    assert space.make_model_config(first, vocab_size=50, num_classes=3) == default
    assert space.make_train_config(first, TrainConfig()) == TrainConfig()
    sizes = [(each["bidirectional"], each["units"]) for each in others]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == (False, min(space.UNITS))


def test_drawn_numbers_can_be_typed_and_tuner_values_are_no_settings() -> None:
    from pipeline import search_space as space

    values = {"head_dropout": 0.15000000000000002, "learning_rate": 0.0034567891, "units": 96}
    assert space.tidy_values(values) == {
        "head_dropout": 0.15,
        "learning_rate": 0.003457,
        "units": 96,
    }
    assert space.drop_tuner_values({"tuner/epochs": 2, "units": 96}) == {"units": 96}


def test_the_smallest_model_is_the_least_of_every_entry() -> None:
    from pipeline import search_space as space

    assert space.smallest_config(vocab_size=50, num_classes=3) == ModelConfig(
        vocab_size=50, num_classes=3, embed_dim=64, units=16, bidirectional=False
    )
