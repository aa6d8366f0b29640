from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export.lookup import Probe, load_lookup, native, write_lookup

TOLERANCE = 2e-6
"""float32 rounding through at most 2 layers of 12 steps."""

ROOT = Path(__file__).parents[3]
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


# ---- text, and several streams ----


@pytest.fixture(scope="module", params=["native", "numpy"])
def text_model(request, tmp_path_factory, tokenizer):
    """A model with a word table that its tokenizer agrees with."""
    if request.param == "native" and not native.is_available():
        pytest.skip("the kernel is not built here: no C compiler")
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer)
    words = {word.encode(): processor.encode(word) for word in ("the", "cat", "고양이", "--")}
    raw = request.getfixturevalue("raw_model_session")(vocab_size=48)
    content = request.getfixturevalue("content_session")(raw, tokenizer)
    golden = [Probe("", (1,), tuple(raw.probabilities([1]).tolist()))]
    folder = tmp_path_factory.mktemp("text") / "lookup"
    write_lookup(
        folder, **(content | {"golden": golden, "words": request.getfixturevalue("words")(words)})
    )
    return load_lookup(folder, engine=request.param)


texts = st.lists(
    st.sampled_from(["the", "cat", "고양이", "--", "", "dog", "é", "☃", "sat"]), max_size=25
)


@settings(deadline=None, max_examples=60)
@given(texts, st.randoms())
def test_pushing_words_gives_what_the_text_gives(text_model, words, random):
    stream = text_model.stream()
    rest = list(words)
    while rest:  # in pieces of any number of words
        count = random.randint(1, len(rest))
        stream.push_text(" ".join(rest[:count]))
        del rest[:count]
    ids, lengths = text_model.encode([" ".join(words)])
    expected = text_model.probabilities(ids, lengths)[0]
    np.testing.assert_allclose(stream.probabilities(), expected, rtol=0, atol=TOLERANCE)


def test_probabilities_of_texts_are_those_of_their_ids(text_model):
    all_texts = ["the cat", "", "☃ dog", "고양이 --", "the the the"] * 2
    text_model.predict(["the"])  # proves the table
    for count in (0, 1, 2, 4, 5, 10):
        chosen = all_texts[:count]
        expected = text_model.probabilities(*text_model.encode(chosen))
        found = text_model.predict_proba(chosen)
        assert (found.shape, found.dtype) == ((count, 4), np.float32)
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
        best = [labels[0][0] for labels in text_model.predict(chosen)]
        assert best == [text_model.labels[row] for row in found.argmax(axis=1)]
    for wrong, error, message in (
        ("the", TypeError, r"^texts: expected a list of strings, found one str\. Put it"),
        ([3], TypeError, r"^texts\[0\]: expected a string, found int 3\.$"),
        (["\ud800"], ValueError, r"^texts\[0\]: expected text that UTF-8 can hold, found"),
    ):
        for call in (text_model.predict_proba, text_model.predict):
            with pytest.raises(error, match=message):
                call(wrong)


def test_pushing_text_tells_how_many_tokens_it_had(text_model):
    stream = text_model.stream()
    assert stream.push_text("") == 0
    assert stream.push_text("the cat") == stream.length > 0
    for _ in range(20):
        stream.push_text("the cat")
    assert stream.length == text_model.max_tokens
    assert stream.push_text("cat") == 0


def test_pushing_what_is_no_text_is_refused(text_model):
    stream = text_model.stream()
    with pytest.raises(TypeError, match=r"^text: expected a string, found list \['a'\]\.$"):
        stream.push_text(["a"])
    with pytest.raises(ValueError, match=r"^text: expected text that UTF-8 can hold, found the"):
        stream.push_text("\ud800")


@every_shape
def test_streams_of_a_batch_answer_as_each_would_alone(model):
    batch = model.streams(3)
    batch.push([3, None, 4])
    batch.push([5, 6, None])
    batch.push([None, None, None])
    expected = [whole(model, tokens) for tokens in ([3, 5], [6], [4])]
    assert len(batch) == 3 and batch[0].length == 2
    np.testing.assert_allclose(batch.probabilities(), expected, rtol=0, atol=TOLERANCE)


def test_batches_of_streams_refuse_what_does_not_fit(model):
    with pytest.raises(ValueError, match=r"^count: expected at least 1, found 0\.$"):
        model.streams(0)
    with pytest.raises(ValueError, match=r"^tokens: expected 2, one a stream, found 1\.$"):
        model.streams(2).push([3])


def test_the_typeahead_example_answers_after_every_letter(text_model, tmp_path):
    folder = text_model._encoder._files.folder
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "examples" / "typeahead.py", folder, "the cat"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    lines = done.stdout.splitlines()
    assert [line[0] for line in lines] == list("the cat")
    ids, lengths = text_model.encode(["the cat"])
    best = text_model.labels[int(text_model.probabilities(ids, lengths)[0].argmax())]
    assert f"  {best} " in lines[-1]
