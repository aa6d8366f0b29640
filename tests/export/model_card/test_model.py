from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.compress import compress_arrays
from export.fold import fold_weights
from export.lookup import LookupConfig
from export.model_card.model import count_cost, count_parameters, format_cost, format_model
from pipeline.config import ModelConfig
from tests.export.model_card.samples import make_fields, make_run
from tests.export.tiny import make_arrays, make_config, make_weights

SHAPES = [
    make_config(),
    make_config(bidirectional=False),
    make_config(layers=3),
    make_config(layers=2, bidirectional=False, pooling="last"),
]


@pytest.mark.parametrize("model", SHAPES)
def test_the_parameters_are_those_of_the_arrays(model: ModelConfig) -> None:
    counts = count_parameters(model)
    arrays = make_arrays(model)
    assert sum(counts.values()) == sum(array.size for array in arrays.values())
    assert counts["head"] == sum(a.size for name, a in arrays.items() if name.startswith("head"))


@pytest.mark.parametrize("model", SHAPES)
@pytest.mark.parametrize(
    ("table", "recurrent"), [("float32", "float32"), ("float16", "int16"), ("int8", "int8")]
)
def test_the_bytes_are_those_of_the_stored_arrays(
    model: ModelConfig, table: str, recurrent: str
) -> None:
    config = LookupConfig(
        vocab_size=model.vocab_size,
        embed_dim=model.embed_dim,
        units=model.units,
        num_classes=model.num_classes,
        layers=model.layers,
        bidirectional=model.bidirectional,
        pooling=model.pooling,
        relu=model.relu,
        table_dtype=table,  # type: ignore[arg-type]
        recurrent_dtype=recurrent,  # type: ignore[arg-type]
    )
    arrays = compress_arrays(fold_weights(make_weights(model), np.float64), config)
    cost = count_cost(model, table_dtype=table, recurrent_dtype=recurrent)
    tables = sum(array.nbytes for name, array in arrays.items() if "gate_table" in name)
    kernels = sum(array.nbytes for name, array in arrays.items() if "recurrent_kernel" in name)
    assert cost.table_bytes * model.vocab_size == tables
    assert cost.recurrent_bytes == kernels


@pytest.mark.parametrize("model", SHAPES)
def test_the_operations_are_two_for_each_weight_that_a_token_meets(model: ModelConfig) -> None:
    cost = count_cost(model, table_dtype="float32", recurrent_dtype="float32")
    kernels = {
        name: array.size for name, array in make_arrays(model).items() if name.endswith("kernel")
    }
    first = {name: size for name, size in kernels.items() if "gru_0" in name}
    inputs = sum(size for name, size in first.items() if not name.endswith("recurrent_kernel"))
    head = kernels.pop("head/kernel")
    assert cost.graph_token_flops == 2 * sum(kernels.values())
    assert cost.lookup_token_flops == 2 * (sum(kernels.values()) - inputs)
    assert cost.text_flops == 2 * head


def test_the_cost_is_told_without_a_time(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    text = format_cost(run.model, make_fields(run)["compression"])
    assert "| operations a token, lookup tables | 432 |" in text
    assert "| bytes of table read for a token | 144 |" in text
    assert "`make compare` measures" in " ".join(text.split())


def test_the_model_is_told_with_its_settings_and_libraries(tmp_path: Path) -> None:
    training = {
        "learning_rate": 0.003,
        "seed": 1,
        "pretrained_embeddings": "/home/someone/a|b.txt",
        "patience": None,
    }
    run = make_run(tmp_path / "run", training=training, model=make_config(gru_dropout=0.2))
    text = format_model(run, make_fields(run)["provenance"])
    assert "1 bidirectional GRU layer of 6 units, max pooling, ReLU, softmax over 5 classes" in text
    assert "| examples seen | 12,000 |" in text
    assert "| trained with | keras 3.15.1 |" in text
    assert "| exported with | tf2onnx 1.17.0 |" in text
    assert "| `learning_rate` | `0.003` |" in text
    assert "| `gru_dropout` | `0.2` |" in text
    assert "| `pretrained_embeddings` | <code>a&#124;b.txt</code> |" in text
    assert "someone" not in text and "321" not in text
    assert "| `patience`" not in text and "| `seed`" not in text


def test_an_older_run_has_no_number_of_examples(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", accounting={}, versions={})
    text = format_model(run, make_fields(run)["provenance"])
    assert "examples seen" not in text
    assert "| trained with | not recorded |" in text
