from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export.lookup import load_lookup, native, write_lookup

TOLERANCE = 2e-6
"""float32 rounding through at most 2 layers of 12 steps."""

SHAPES = list(itertools.product((False, True), (1, 2), ("last", "max", "mean")))


@pytest.fixture(scope="module", params=["native", "numpy"])
def models(tmp_path_factory, request):
    """One model of every shape that streams tell apart."""
    if request.param == "native" and not native.is_available():
        pytest.skip("the kernel is not built here: no C compiler")
    from_conftest = {}

    def make(raw_model, content):
        if not from_conftest:
            for shape in SHAPES:
                fields = dict(zip(("bidirectional", "layers", "pooling"), shape, strict=True))
                folder = tmp_path_factory.mktemp("stream") / "lookup"
                write_lookup(folder, **content(raw_model(**fields)))
                from_conftest[shape] = load_lookup(folder, engine=request.param)
        return from_conftest

    return make


@pytest.fixture
def model(models, raw_model, content, request):
    return models(raw_model, content)[getattr(request, "param", SHAPES[0])]


every_shape = pytest.mark.parametrize("model", SHAPES, indirect=True, ids=str)


def whole(model, tokens):
    return model.probabilities(np.array([tokens], np.int32).reshape(1, -1), [len(tokens)])[0]


@every_shape
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=8
)
@given(tokens=st.lists(st.integers(0, 29), max_size=12))
def test_a_stream_equals_the_whole_sequence_at_every_prefix(model, tokens):
    stream = model.stream()
    np.testing.assert_allclose(stream.probabilities(), whole(model, []), rtol=0, atol=TOLERANCE)
    for length, token in enumerate(tokens, start=1):
        stream.push(token)
        assert stream.length == length
        np.testing.assert_allclose(
            stream.probabilities(), whole(model, tokens[:length]), rtol=0, atol=TOLERANCE
        )


@every_shape
def test_asking_changes_nothing(model):
    asked, silent = model.stream(), model.stream()
    for token in (3, 9, 27):
        asked.push(token)
        asked.probabilities()
        silent.push(token)
    np.testing.assert_array_equal(asked.probabilities(), asked.probabilities())
    np.testing.assert_array_equal(asked.probabilities(), silent.probabilities())


@every_shape
def test_a_fork_goes_its_own_way(model):
    stream = model.stream()
    stream.push(3)
    stream.push(4)
    twin = stream.fork()
    before = stream.probabilities()
    np.testing.assert_array_equal(twin.probabilities(), before)
    twin.push(5)
    assert (stream.length, twin.length) == (2, 3)
    np.testing.assert_array_equal(stream.probabilities(), before)
    stream.push(6)
    np.testing.assert_allclose(
        twin.probabilities(), whole(model, [3, 4, 5]), rtol=0, atol=TOLERANCE
    )
    np.testing.assert_allclose(
        stream.probabilities(), whole(model, [3, 4, 6]), rtol=0, atol=TOLERANCE
    )


@every_shape
def test_reset_forgets_everything(model):
    stream = model.stream()
    stream.push(7)
    stream.reset()
    assert stream.length == 0
    np.testing.assert_array_equal(stream.probabilities(), model.stream().probabilities())
    stream.push(8)
    np.testing.assert_allclose(stream.probabilities(), whole(model, [8]), rtol=0, atol=TOLERANCE)


def test_tokens_may_be_numpy_integers(model):
    one, other = model.stream(), model.stream()
    one.push(np.int32(5))
    other.push(5)
    np.testing.assert_array_equal(one.probabilities(), other.probabilities())


@pytest.mark.parametrize("token", [-1, 30, 2**40])
def test_tokens_outside_the_vocabulary_are_refused(model, token):
    stream = model.stream()
    with pytest.raises(ValueError, match=re.escape(f"token: expected 0 to 29, found {token}.")):
        stream.push(token)
    assert stream.length == 0


@pytest.mark.parametrize("token", ["a", 1.0, None])
def test_tokens_that_are_no_integers_are_refused(model, token):
    with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
        model.stream().push(token)
