from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from export.lookup import numpy_engine
from export.lookup.model import softmax
from export.lookup.numpy_engine import NumpyEngine

TOLERANCE = 2e-6
"""float32 rounding through at most 2 layers of 12 steps, against float64."""
LONGEST = 12

SHAPES = [
    pytest.param(
        {"bidirectional": bidirectional, "layers": layers, "pooling": pooling, "relu": relu},
        id=f"{'bi' if bidirectional else 'uni'}-{layers}-{pooling}{'-relu' if relu else ''}",
    )
    for bidirectional, layers, pooling, relu in itertools.product(
        (False, True), (1, 2), ("last", "max", "mean"), (False, True)
    )
]


def make_batch(batch: int, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows in turn: one token, longest, all unknown, others; two columns of extra padding."""
    rng = np.random.default_rng(batch)
    lengths = rng.integers(1, LONGEST + 1, batch).astype(np.int32)
    ids = rng.integers(0, vocab_size, (batch, LONGEST + 2)).astype(np.int32)
    lengths[:3] = (1, LONGEST, 5)[:batch]
    ids[2:3] = 1
    return ids, lengths


@pytest.mark.parametrize("changes", SHAPES)
def test_engine_equals_the_equations(raw_model, changes, record_property):
    model = raw_model(**changes)
    engine = NumpyEngine(model.config, model.fold())
    largest = 0.0
    for batch in (1, 2, 3, 8, 32):
        ids, lengths = make_batch(batch, model.config.vocab_size)
        found = softmax(engine.logits(ids, lengths))
        expected = [
            model.probabilities(row[:length])
            for row, length in zip(ids.tolist(), lengths.tolist(), strict=True)
        ]
        largest = max(largest, np.abs(found - expected).max())
    record_property("largest_difference", float(largest))
    print(f"largest difference {largest:.1e}")  # noqa: T201
    assert largest <= TOLERANCE


@pytest.mark.parametrize("changes", SHAPES)
def test_every_way_through_the_engine_gives_the_same(raw_model, changes, monkeypatch):
    model = raw_model(**changes)
    engine = NumpyEngine(model.config, model.fold())
    ids, lengths = make_batch(20, model.config.vocab_size)
    expected = engine.logits(ids, lengths)
    monkeypatch.setattr(numpy_engine, "SLICE_ROWS", 3)
    np.testing.assert_allclose(engine.logits(ids, lengths), expected, rtol=0, atol=TOLERANCE)
    monkeypatch.setattr(numpy_engine, "SLICE_TOKENS", 20)
    np.testing.assert_allclose(engine.logits(ids, lengths), expected, rtol=0, atol=TOLERANCE)
    monkeypatch.setattr(numpy_engine, "FEW_ROWS", 20)
    np.testing.assert_allclose(engine.logits(ids, lengths), expected, rtol=0, atol=TOLERANCE)
    monkeypatch.setattr(numpy_engine, "ROW_FLOATS", 1)
    small = NumpyEngine(model.config, model.fold())
    np.testing.assert_allclose(small.logits(ids, lengths), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("table_dtype", ["float32", "float16", "int16", "int8"])
@pytest.mark.parametrize("recurrent_dtype", ["float32", "int16", "int8"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_compressed_arrays_give_what_their_values_give(
    raw_model, compressed, table_dtype, recurrent_dtype, bidirectional
):
    model = raw_model(layers=2 - bidirectional, bidirectional=bidirectional, vocab_size=30)
    parts = compressed(model, table_dtype, recurrent_dtype)
    engine = NumpyEngine(**parts)
    values = {}
    for name in model.fold():
        array = parts["arrays"][name].astype(np.float32)
        for kind, shape in (("gate_table", (-1, 1)), ("recurrent_kernel", (1, -1))):
            scale = parts["arrays"].get(name.replace(kind, f"{kind}_scale"))
            if kind in name and scale is not None and scale is not parts["arrays"][name]:
                array = array * scale.reshape(shape)
        values[name] = array
    exact = NumpyEngine(model.config, values)
    for batch in (1, 3, 20):
        ids, lengths = make_batch(batch, model.config.vocab_size)
        expected = exact.logits(ids, lengths)
        np.testing.assert_allclose(engine.logits(ids, lengths), expected, rtol=0, atol=TOLERANCE)
        stream = engine.start_stream()
        for token in ids[0, : lengths[0]].tolist():
            stream.push(token)
        np.testing.assert_allclose(stream.logits(), expected[0], rtol=0, atol=TOLERANCE)


def test_no_rows_give_no_logits(raw_model):
    model = raw_model()
    engine = NumpyEngine(model.config, model.fold())
    logits = engine.logits(np.zeros((0, 1), np.int32), np.zeros(0, np.int32))
    assert (logits.shape, logits.dtype) == ((0, 4), np.float32)


def test_scratch_grows_with_the_longest_row_and_is_used_again(raw_model):
    model = raw_model()
    engine = NumpyEngine(model.config, model.fold())
    rng = np.random.default_rng(0)
    for length in (3, 200, 5, 100):
        ids = rng.integers(0, 30, (1, length)).astype(np.int32)
        found = softmax(engine.logits(ids, np.array([length], np.int32)))[0]
        expected = model.probabilities(ids[0].tolist())
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
    assert [row.capacity for row in engine._idle_rows] == [400]


def test_answers_of_earlier_calls_stay(raw_model):
    model = raw_model(pooling="last", relu=False)
    engine = NumpyEngine(model.config, model.fold())
    one = np.array([1], np.int32)
    first = engine.logits(np.array([[3]], np.int32), one)
    kept = first.copy()
    engine.logits(np.array([[4]], np.int32), one)
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_sixteen_threads_get_what_one_gets(raw_model, bidirectional):
    model = raw_model(units=32, layers=2, bidirectional=bidirectional)
    engine = NumpyEngine(model.config, model.fold())
    batches = [make_batch(1 + index % 9, model.config.vocab_size) for index in range(160)]
    expected = [engine.logits(*batch) for batch in batches]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda batch: engine.logits(*batch), batches))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert 1 <= len(engine._idle_rows) <= 17
