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

    model = build_model(
        ModelConfig(**dataclasses.asdict(config), embedding_dropout=0.4, head_dropout=0.5)
    )
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


def make_batches(vocab_size):
    """Yield (ids, lengths): 1 to 32 rows, with one token, longest, all-unknown, extra padding."""
    rng = np.random.default_rng(1)
    for batch in (1, 2, 3, 8, 32):
        lengths = rng.integers(1, LONGEST + 1, batch).astype(np.int32)
        lengths[:3] = (LONGEST, 1, 5)[:batch]
        ids = rng.integers(1, vocab_size, (batch, LONGEST + batch % 3)).astype(np.int32)
        ids[2:3] = 1
        ids[np.arange(ids.shape[1]) >= lengths[:, None]] = 0
        yield ids, lengths


@pytest.mark.parametrize(
    ("bidirectional", "layers", "pooling", "relu"),
    list(itertools.product((False, True), (1, 2), ("last", "max", "mean"), (False, True))),
)
def test_lookup_equals_keras(tmp_path, raw_model, content, bidirectional, layers, pooling, relu):
    raw = raw_model(bidirectional=bidirectional, layers=layers, pooling=pooling, relu=relu)
    keras_model = make_keras_model(raw.config)
    write_lookup(tmp_path / "lookup", **content(take_weights(raw, keras_model)))
    model: LookupModel = load_lookup(tmp_path / "lookup")
    largest = 0.0
    for ids, lengths in make_batches(raw.config.vocab_size):
        expected = keras_model(ids, training=False).numpy()
        found = model.probabilities(ids, lengths)
        largest = max(largest, float(np.abs(found - expected).max()))
    empty = model.probabilities(np.zeros((1, 0), np.int32), [0])
    expected = keras_model(np.array([[1]], np.int32), training=False).numpy()
    largest = max(largest, float(np.abs(empty - expected).max()))
    print(f"largest difference {largest:.1e}")  # noqa: T201
    assert largest <= TOLERANCE
