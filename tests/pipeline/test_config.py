"""Configs refuse what is out of range and survive JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import FilterConfig, ModelConfig, PrepareConfig, TrainConfig

MODEL: dict[str, Any] = {"vocab_size": 100, "num_classes": 4}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vocab_size": 2}, "vocab_size: expected a value from 3 to 1000000, found 2"),
        ({"num_classes": 1}, "num_classes: expected a value from 2 to 100000, found 1"),
        ({"embed_dim": 0}, "embed_dim: expected a value from 1 to 4096, found 0"),
        ({"units": 5000}, "units: expected a value from 1 to 4096, found 5000"),
        ({"layers": 9}, "layers: expected a value from 1 to 8, found 9"),
        ({"embedding_dropout": 1.0}, "embedding_dropout: expected a value from 0.0 to 0.95"),
        ({"head_dropout": -0.1}, "head_dropout: expected a value from 0.0 to 0.95, found -0.1"),
        ({"units": "abc"}, "units: expected an integer from 1 to 4096, found 'abc'"),
        ({"units": 4.5}, "units: expected an integer from 1 to 4096, found 4.5"),
        ({"layers": True}, "layers: expected an integer from 1 to 8, found True"),
        ({"head_dropout": None}, "head_dropout: expected a number from 0.0 to 0.95, found None"),
        ({"relu": 1}, "relu: expected true or false, found 1"),
        ({"bidirectional": "yes"}, "bidirectional: expected true or false, found 'yes'"),
        ({"pooling": "sum"}, "pooling: expected one of last, max, mean, found 'sum'"),
        ({"gru_dropout": 1.0}, "gru_dropout: expected a value from 0.0 to 0.95, found 1.0"),
        ({"recurrent_dropout": -1}, "recurrent_dropout: expected a value from 0.0 to 0.95"),
        ({"embedding_dropout_kind": "row"}, "embedding_dropout_kind: expected one of spatial, el"),
    ],
)
def test_a_model_config_names_the_field_out_of_range(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig(**{**MODEL, **fields})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_epochs": 0}, "num_epochs: expected a value from 1 to 10000, found 0"),
        ({"batch_size": 0}, "batch_size: expected a value from 1 to 65536, found 0"),
        ({"learning_rate": 0.0}, "learning_rate: expected a value from 1e-08 to 10.0, found 0.0"),
        ({"weight_decay": 2.0}, "weight_decay: expected a value from 0.0 to 1.0, found 2.0"),
        ({"label_smoothing": 1.0}, "label_smoothing: expected a value from 0.0 to 0.9, found 1.0"),
        ({"word_dropout": 1.0}, "word_dropout: expected a value from 0.0 to 0.9, found 1.0"),
        ({"deterministic": 1}, "deterministic: expected true or false, found 1"),
        ({"jit_compile": None}, "jit_compile: expected one of auto, on, off, found None"),
        ({"patience": 0}, "patience: expected a value from 1 to 10000, found 0"),
        ({"num_predict": 0}, "num_predict: expected a value from 1 to 100, found 0"),
        ({"seed": -1}, "seed: expected a value from 0 to 2147483647, found -1"),
        ({"learning_rate": float("nan")}, "learning_rate: .* found nan"),
        ({"monitor": "f1"}, "monitor: expected one of top_1, top_k, cross_entropy, found 'f1'"),
        ({"weight_averaging": 1.0}, "weight_averaging: expected a value from 0.0 to 0.99999, fou"),
        ({"class_weights": "all"}, "class_weights: expected one of none, balanced, sqrt, found"),
        ({"embedding_init": "elmo"}, "embedding_init: expected one of random, skip_gram, file, f"),
        ({"embedding_trainable": 0}, "embedding_trainable: expected true or false, found 0"),
        ({"pretrain_epochs": -1}, "pretrain_epochs: expected a value from 0 to 1000, found -1."),
        ({"calibrate": "yes"}, "calibrate: expected true or false, found 'yes'"),
    ],
)
def test_a_train_config_names_the_field_out_of_range(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text_column": ""}, "text_column and label_column: expected names, found an empty one"),
        ({"label_column": "title"}, "expected two columns, found 'title' for both"),
        ({"vocab_size": 15}, "vocab_size: expected a value from 16 to 1000000, found 15"),
        ({"max_tokens": 0}, "max_tokens: expected a value from 1 to 65536, found 0"),
        ({"shards": 0}, "shards: expected a value from 1 to 1024, found 0"),
    ],
)
def test_a_prepare_config_names_the_field_out_of_range(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        PrepareConfig(**fields)


@given(
    units=st.integers(1, 4096),
    layers=st.integers(1, 8),
    bidirectional=st.booleans(),
    pooling=st.sampled_from(["last", "max", "mean"]),
)
def test_a_model_config_survives_json(
    units: int, layers: int, bidirectional: bool, pooling: Any
) -> None:
    config = ModelConfig(
        **MODEL, units=units, layers=layers, bidirectional=bidirectional, pooling=pooling
    )
    assert ModelConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert config.pooled_dim == units * (2 if bidirectional else 1)


def test_a_model_config_refuses_fields_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="model config: .*unexpected keyword argument 'heads'"):
        ModelConfig.from_json({**MODEL, "heads": 8})


def test_sampling_subwords_is_refused_where_every_run_must_be_the_same() -> None:
    with pytest.raises(
        ValueError, match=r"deterministic: expected subword_sampling 0, found 0\.1: the tokenizer's"
    ):
        TrainConfig(deterministic=True, subword_sampling=0.1)


# What named the first runs; a field that is none of these may not change their names.
FIRST_TRAIN_FIELDS = {
    *("num_epochs", "batch_size", "learning_rate", "weight_decay", "label_smoothing"),
    *("word_dropout", "patience", "num_predict", "seed", "deterministic", "jit_compile"),
}
FIRST_MODEL_FIELDS = {
    *("vocab_size", "num_classes", "embed_dim", "units", "layers", "bidirectional", "pooling"),
    *("relu", "embedding_dropout", "head_dropout"),
}


def test_fields_younger_than_the_first_runs_name_a_run_only_where_they_have_an_effect() -> None:
    assert set(TrainConfig().key_fields()) == FIRST_TRAIN_FIELDS
    for changes in (
        {"subword_sampling": 0.1},
        {"cell": "cell"},
        {"monitor": "top_k"},
        {"weight_averaging": 0.99},
        {"class_weights": "sqrt"},
        {"embedding_init": "skip_gram"},
        {"embedding_trainable": False},
        {"pretrain_epochs": 2},
        {"calibrate": False},
    ):
        fields = TrainConfig(**changes).key_fields()
        assert fields == {**TrainConfig().key_fields(), **changes}


def test_a_file_of_embeddings_names_a_run_by_its_content() -> None:
    keys = [
        TrainConfig(
            embedding_init="file", pretrained_embeddings=path, pretrained_sha256="ab"
        ).key_fields()
        for path in ("here.txt", "elsewhere.txt")
    ]
    assert keys[0] == keys[1]
    assert keys[0]["pretrained_sha256"] == "ab"


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"embedding_init": "file"}, "None with 'file'"),
        ({"pretrained_embeddings": "a.txt"}, "'a.txt' with 'random'"),
    ],
)
def test_a_file_of_embeddings_and_the_wish_for_one_come_together(
    fields: dict[str, Any], found: str
) -> None:
    with pytest.raises(ValueError, match=f"pretrained_embeddings: expected a path .* {found}"):
        TrainConfig(**fields)


def test_the_monitored_metric_has_the_name_that_keras_logs() -> None:
    assert TrainConfig().monitored == "val_top_1"
    assert TrainConfig(monitor="top_k", num_predict=5).monitored == "val_top_5"
    assert TrainConfig(monitor="cross_entropy").monitored == "val_cross_entropy"


def test_dropouts_younger_than_the_first_runs_are_written_only_where_they_have_an_effect() -> None:
    config = ModelConfig(**MODEL)
    assert set(config.to_json()) == FIRST_MODEL_FIELDS
    for changes in (
        {"gru_dropout": 0.1},
        {"recurrent_dropout": 0.1},
        {"embedding_dropout_kind": "element"},
    ):
        changed = ModelConfig(**MODEL, **changes)
        assert changed.to_json() == {**config.to_json(), **changes}
        assert ModelConfig.from_json(changed.to_json()) == changed


def test_a_recurrence_of_another_kind_is_refused() -> None:
    message = "cell: expected one of auto, layer, cell, hoisted, found 'lstm'"
    with pytest.raises(ValueError, match=message):
        TrainConfig(cell="lstm")  # type: ignore[arg-type]


def test_how_fast_a_run_trains_does_not_name_it() -> None:
    key = TrainConfig().key_fields()
    assert key["jit_compile"] is False
    for same in ("layer", "hoisted", "auto"):
        assert TrainConfig(cell=same).key_fields() == key
    assert TrainConfig(jit_compile="off").key_fields() == key
    assert TrainConfig(cell="cell").key_fields() == {**key, "cell": "cell"}


def test_what_runs_kept_of_xla_before_it_could_be_measured_is_read() -> None:
    assert TrainConfig(jit_compile=False).jit_compile == "off"  # type: ignore[arg-type]
    assert TrainConfig(jit_compile=True).jit_compile == "on"  # type: ignore[arg-type]
    assert TrainConfig(jit_compile="on").key_fields()["jit_compile"] is True


def test_settings_of_older_data_folders_are_written_as_they_were() -> None:
    assert PrepareConfig().to_json() == {
        "text_column": "title",
        "label_column": "category",
        "vocab_size": 15_000,
        "max_tokens": 256,
        "shards": 16,
    }
    changed = PrepareConfig(delimiter=";", filters=FilterConfig(text_must_match="x"))
    assert set(changed.to_json()) - set(PrepareConfig().to_json()) == {"delimiter", "filters"}


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"format": "xml"}, r"format: expected one of csv, tsv, jsonl, parquet, fasttext, found"),
        ({"delimiter": ""}, r"delimiter: expected one ASCII character that is no letter.* ''\."),
        ({"delimiter": '"'}, r"delimiter: expected one ASCII character that is no letter.* '\"'"),
        ({"label_prefix": "a b"}, r"label_prefix: expected no blanks, found 'a b'\."),
        ({"label_map": {"a": "b"}}, r"labels: expected pairs of labels, found \{'a': 'b'\}\."),
        ({"label_map": (("a", "b "),)}, r"labels: expected labels without blanks .* 'b '\."),
        ({"label_map": (("a", "b"), ("a", "c"))}, r"labels: expected each label once, found one"),
    ],
)
def test_layout_and_label_map_are_checked(fields: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        PrepareConfig(**fields)
