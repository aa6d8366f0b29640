from __future__ import annotations

import os
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export.lookup import (
    GoldenError,
    LookupModel,
    Probe,
    load_lookup,
    native,
    read_lookup,
    write_lookup,
)
from export.lookup.model import softmax

TOLERANCE = 2e-6
"""float32 rounding through at most 2 layers of 12 steps."""

rows = st.lists(st.lists(st.integers(0, 29), max_size=12), min_size=1, max_size=9)
# The fixtures are read only, so one of them may serve all examples.
with_fixtures = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30
)


@pytest.fixture(params=["native", "numpy"])
def engine(request) -> str:
    if request.param == "native" and not native.is_available():
        pytest.skip("the kernel is not built here: no C compiler")
    return request.param


@pytest.fixture
def model(folder, engine) -> LookupModel:
    return load_lookup(folder, engine=engine)


def pad(tokens, extra=0, fill=0):
    """Return ids and lengths of ragged rows."""
    lengths = np.array([len(row) for row in tokens], np.int32)
    ids = np.full((len(tokens), max(lengths) + extra), fill, np.int32)
    for row, values in zip(ids, tokens, strict=True):
        row[: len(values)] = values
    return ids, lengths


def test_probabilities_are_the_equations(model, raw_model):
    raw = raw_model(layers=2)
    tokens = [[], [3], [1] * 5, list(range(12)), [7, 0, 2]]
    found = model.probabilities(*pad(tokens))
    expected = [raw.probabilities([token or 1 for token in row]) for row in tokens]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_probabilities_are_the_softmax_of_the_logits(model):
    batch = pad([[3, 4], [5]])
    expected = softmax(model.logits(*batch))
    np.testing.assert_allclose(model.probabilities(*batch), expected, rtol=1e-6, atol=0)


@with_fixtures
@given(rows, st.randoms())
def test_the_order_of_rows_changes_nothing(model, tokens, random):
    order = list(range(len(tokens)))
    random.shuffle(order)
    expected = model.probabilities(*pad(tokens))[order]
    found = model.probabilities(*pad([tokens[index] for index in order]))
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


@with_fixtures
@given(rows, st.integers(0, 5), st.integers(0, 29))
def test_padding_changes_nothing_whatever_it_holds(model, tokens, extra, fill):
    expected = model.probabilities(*pad(tokens))
    found = model.probabilities(*pad(tokens, extra, fill))
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


@with_fixtures
@given(rows)
def test_a_batch_gives_what_its_rows_give_alone(model, tokens):
    found = model.probabilities(*pad(tokens))
    alone = [model.probabilities(*pad([row]))[0] for row in tokens]
    np.testing.assert_allclose(found, alone, rtol=0, atol=TOLERANCE)


def test_empty_rows_count_as_one_unknown_token(model):
    expected = model.probabilities([[1]], [1])
    for ids in (np.zeros((1, 0), np.int32), [[0]], [[7, 8]]):
        np.testing.assert_array_equal(model.probabilities(ids, [0]), expected)


def test_the_callers_arrays_stay_as_they_were(model):
    ids, lengths = np.array([[7, 8], [3, 4]], np.int32), np.array([0, 2], np.int32)
    model.probabilities(ids, lengths)
    np.testing.assert_array_equal(ids, [[7, 8], [3, 4]])
    np.testing.assert_array_equal(lengths, [0, 2])


def test_padding_inside_a_row_counts_as_unknown(model):
    np.testing.assert_array_equal(
        model.probabilities([[3, 0, 4]], [3]), model.probabilities([[3, 1, 4]], [3])
    )


@pytest.mark.parametrize("width", [0, 1, 5])
def test_no_rows_give_no_probabilities(model, width):
    found = model.probabilities(np.zeros((0, width), np.int32), np.zeros(0, np.int32))
    assert (found.shape, found.dtype) == ((0, 4), np.float32)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.uint64])
def test_any_integer_type_is_taken(model, dtype):
    found = model.probabilities(np.array([[3, 4]], dtype), np.array([2], dtype))
    np.testing.assert_array_equal(found, model.probabilities([[3, 4]], [2]))


def test_strided_ids_are_taken(model):
    ids = np.arange(24, dtype=np.int32).reshape(4, 6)
    np.testing.assert_array_equal(
        model.probabilities(ids[::2, ::-2], [3, 2]),
        model.probabilities(np.ascontiguousarray(ids[::2, ::-2]), [3, 2]),
    )


@pytest.mark.parametrize(
    ("ids", "lengths", "message"),
    [
        ([1, 2], [2], "ids: expected integers of shape (B, T), found int64 (2,)."),
        ([[1.0]], [1], "ids: expected integers of shape (B, T), found float64 (1, 1)."),
        ([[True]], [1], "ids: expected integers of shape (B, T), found bool (1, 1)."),
        (["a"], [1], "ids: expected integers of shape (B, T), found <U1 (1,)."),
        ([[1]], 1, "lengths: expected integers of shape (1,), one a row of ids, found int64 ()."),
        ([[1]], [1, 1], "lengths: expected integers of shape (1,), one a row of ids, found int"),
        ([[1]], [1.0], "lengths: expected integers of shape (1,), one a row of ids, found float"),
        ([[1, 2], [3, -1]], [2, 1], "ids[1, 1]: expected 0 to 29, found -1."),
        ([[1, 30], [99, 1]], [1, 2], "ids[0, 1]: expected 0 to 29, found 30."),
        (np.full((9, 9), 2**63, np.uint64), [9] * 9, "ids[0, 0]: expected 0 to 29, found 92233"),
        ([[1, 2], [1, 2]], [2, 3], "lengths[1]: expected 0 to 2, the width of ids, found 3."),
        ([[1, 2]], [-1], "lengths[0]: expected 0 to 2, the width of ids, found -1."),
        ([[]], [0], "ids: expected integers of shape (B, T), found float64 (1, 0)."),
    ],
)
def test_wrong_arguments_are_refused_and_named(model, ids, lengths, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        model.probabilities(ids, lengths)
    with pytest.raises(ValueError, match=re.escape(message)):
        model.logits(ids, lengths)


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=8))
def test_softmax_never_overflows(values):
    found = softmax(np.array(values, np.float32))
    assert found.dtype == np.float32
    assert found.sum() == pytest.approx(1, abs=1e-6)
    assert found[np.argmax(np.float32(values))] == found.max()


def test_the_model_tells_what_it_is(model, engine):
    assert model.labels == ("label 0", "label 1", "label 2", "label 3")
    assert (model.vocab_size, model.num_classes, model.max_tokens) == (30, 4, 16)
    assert model.engine.name == engine


def test_loading_takes_a_path_as_text(folder):
    assert load_lookup(os.fspath(folder), engine="numpy").num_classes == 4


def test_loading_refuses_an_unknown_engine(folder):
    with pytest.raises(
        ValueError, match=r"^engine: expected one of auto, native, numpy, found 'gpu'\.$"
    ):
        load_lookup(folder, engine="gpu")


@pytest.fixture
def other_weights(tmp_path, raw_model, content):
    """A sound folder whose golden probes are of another model."""
    written = content(raw_model(seed=1)) | {"golden": content(raw_model())["golden"]}
    write_lookup(tmp_path / "other", **written)
    return tmp_path / "other"


def test_loading_replays_the_golden_probes(other_weights):
    with pytest.raises(
        GoldenError,
        match=r"golden\.jsonl line \d: expected the trained model's probabilities within 1e-05, "
        r"found a difference of 0\.\d+ with engine '(native|numpy)'\. Export the run again\.",
    ):
        load_lookup(other_weights)
    load_lookup(other_weights, replay_golden=False)


def test_loading_keeps_the_tolerance_the_folder_states(tmp_path, raw_model, content, compressed):
    raw = raw_model()
    parts = compressed(raw, "int8", "int8")
    write_lookup(tmp_path / "wide", **(content(raw) | parts | {"tolerance": 0.5}))
    load_lookup(tmp_path / "wide")
    write_lookup(tmp_path / "narrow", **(content(raw) | parts | {"tolerance": 2e-5}))
    with pytest.raises(GoldenError, match=r"probabilities within 2e-05, found a difference of 0"):
        load_lookup(tmp_path / "narrow")


def test_a_model_can_be_made_of_files_read_before(folder):
    found = LookupModel(read_lookup(folder)).probabilities([[3]], [1])
    np.testing.assert_array_equal(found, load_lookup(folder).probabilities([[3]], [1]))


# ---- raw text


@pytest.fixture
def text_model(tmp_path, raw_model, content, tokenizer) -> LookupModel:
    raw = raw_model(vocab_size=48, num_classes=5)
    write_lookup(tmp_path / "text", **(content(raw, tokenizer) | {"golden": [make_probe(raw)]}))
    return load_lookup(tmp_path / "text")


def make_probe(raw):
    return Probe("", (1,), tuple(raw.probabilities([1]).tolist()))


def test_encoding_pads_on_the_right(text_model):
    ids, lengths = text_model.encode(["cat", "", "the cat sat"])
    assert (ids.dtype, lengths.dtype) == (np.int32, np.int32)
    assert ids.shape == (3, max(lengths))
    assert ids[1].tolist() == [1] + [0] * (ids.shape[1] - 1)
    for row, length in zip(ids, lengths, strict=True):
        assert (row[:length] > 0).all()
        assert (row[length:] == 0).all()


def test_encoding_no_texts_gives_no_rows(text_model):
    ids, lengths = text_model.encode([])
    assert (ids.shape, lengths.shape) == ((0, 1), (0,))
    assert text_model.predict([]) == []


def test_predictions_are_the_most_probable_labels_first(text_model):
    texts = ["the cat", "", "a dog ate the mat"]
    probabilities = text_model.probabilities(*text_model.encode(texts))
    for row, best in zip(probabilities, text_model.predict(texts, k=2), strict=True):
        order = sorted(range(5), key=lambda label: -row[label])[:2]
        assert best == [(text_model.labels[label], float(row[label])) for label in order]


def test_k_is_cut_to_the_number_of_classes(text_model):
    assert [len(best) for best in text_model.predict(["cat"], k=99)] == [5]


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_refused(text_model, k):
    with pytest.raises(ValueError, match=rf"k: expected at least 1, found {k}\."):
        text_model.predict(["cat"], k=k)


def test_equal_probabilities_stand_in_the_order_of_label_ids(
    tmp_path, raw_model, content, tokenizer
):
    raw = raw_model(vocab_size=48)
    raw.head_kernel[:] = 0
    raw.head_bias[:] = [0, 1, 0, 1]
    write_lookup(tmp_path / "ties", **(content(raw, tokenizer) | {"golden": [make_probe(raw)]}))
    (best,) = load_lookup(tmp_path / "ties").predict(["cat"], k=4)
    assert [label for label, _ in best] == ["label 1", "label 3", "label 0", "label 2"]


def test_one_string_instead_of_a_list_is_refused(text_model):
    message = re.escape("texts: expected a list of strings, found one str. Put it into a list")
    with pytest.raises(TypeError, match=message):
        text_model.predict("cat")
