"""The second reference: the lookup engine against Keras itself, on tiny random models."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from export.lookup import LookupModel, load_lookup, write_lookup

pytestmark = pytest.mark.slow

TOLERANCE = 2e-6
"""float32 on both sides, through at most 2 layers of 12 steps."""
LONGEST = 12


def make_keras_model(config):
    """Build the pipeline's model of this shape with random weights, biases included."""
    from pipeline.config import ModelConfig
    from pipeline.model import build_model

    fields = dataclasses.asdict(config)
    for name in ("table_dtype", "recurrent_dtype"):
        del fields[name]  # how a folder stores the weights is not the pipeline's
    model = build_model(ModelConfig(**fields, embedding_dropout=0.4, head_dropout=0.5))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.dtype == "float32":
            weight.assign(rng.normal(0, 0.7, weight.shape).astype(np.float32))
    return model


def take_weights(raw, model):
    """Return `raw` with the Keras model's weights, by path; embedding row 1 over row 0."""
    weights = {weight.path: weight.numpy() for weight in model.weights}
    embedding = weights["embedding/embeddings"]
    embedding[0] = embedding[1]
    layers = []
    for index in range(raw.config.layers):
        paths = [f"gru_{index}/gru_cell"]
        if raw.config.bidirectional:
            paths = [f"bigru_{index}/{way}_gru_{index}/gru_cell" for way in ("forward", "backward")]
        layers.append(
            [
                {name: weights[f"{path}/{name}"] for name in ("kernel", "recurrent_kernel", "bias")}
                for path in paths
            ]
        )
    return dataclasses.replace(
        raw,
        embedding=embedding,
        layers=layers,
        head_kernel=weights["head/kernel"],
        head_bias=weights["head/bias"],
    )


def make_rows(vocab_size):
    """Return ids and lengths: empty, longest, one token, all unknown, 28 others; extra padding."""
    rng = np.random.default_rng(1)
    lengths = rng.integers(1, LONGEST + 1, 32).astype(np.int32)
    lengths[:4] = (0, LONGEST, 1, 5)
    ids = rng.integers(1, vocab_size, (32, LONGEST + 2)).astype(np.int32)
    ids[3] = 1
    ids[np.arange(LONGEST + 2) >= lengths[:, None]] = 0
    return ids, lengths


@pytest.mark.parametrize(
    ("bidirectional", "layers", "pooling", "relu"),
    list(itertools.product((False, True), (1, 2), ("last", "max", "mean"), (False, True))),
)
def test_lookup_equals_keras(tmp_path, raw_model, content, bidirectional, layers, pooling, relu):
    raw = raw_model(bidirectional=bidirectional, layers=layers, pooling=pooling, relu=relu)
    keras_model = make_keras_model(raw.config)
    write_lookup(tmp_path / "lookup", **content(take_weights(raw, keras_model)))
    model: LookupModel = load_lookup(tmp_path / "lookup")
    ids, lengths = make_rows(raw.config.vocab_size)
    keras_ids = ids.copy()
    keras_ids[0, 0] = 1  # what an empty text becomes before it reaches Keras
    expected = keras_model(keras_ids, training=False).numpy()
    largest = 0.0
    for batch in (1, 2, 3, 8, 32):
        for start in range(0, 32, batch):
            rows = slice(start, start + batch)
            found = model.probabilities(ids[rows], lengths[rows])
            largest = max(largest, float(np.abs(found - expected[rows]).max()))
    print(f"largest difference {largest:.1e}")  # noqa: T201
    assert largest <= TOLERANCE
