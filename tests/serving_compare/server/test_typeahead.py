"""The typeahead says of every text what the model says of it, whatever was typed before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.lookup import LookupConfig, LookupModel, Probe, array_specs, load_lookup, write_lookup
from serving_compare.server.typeahead import Typeahead

MAX_TOKENS = 12
SHAPES = [(1, False), (2, False), (1, True), (2, True)]
"""Layers, and whether they read in both directions."""
EDITS = st.lists(
    st.tuples(
        st.integers(0, 40),
        st.integers(0, 10),
        st.text(alphabet="abcdeghilmnorstuvw  \t'é한🙂\u200d0", max_size=12),
    ),
    min_size=1,
    max_size=12,
)
"""Where to cut the text so far, how much to take out, what to put there."""


@pytest.fixture(scope="session")
def models(
    tmp_path_factory: pytest.TempPathFactory, tokenizer_model: Path
) -> dict[tuple[int, bool], LookupModel]:
    """An untrained model of each shape, with the tokenizer of the tiny artifact."""
    folder = tmp_path_factory.mktemp("models")
    random = np.random.default_rng(0)
    loaded = {}
    for layers, bidirectional in SHAPES:
        config = LookupConfig(
            vocab_size=64,
            embed_dim=4,
            units=8,
            num_classes=3,
            layers=layers,
            bidirectional=bidirectional,
        )
        arrays = {
            name: random.normal(0, 0.7, spec.shape).astype(np.float32)
            for name, spec in array_specs(config).items()
        }
        for name in arrays:
            if name.startswith("gate_table"):
                arrays[name][0] = arrays[name][1]
        write_lookup(
            folder / f"{layers}{bidirectional}",
            config=config,
            arrays=arrays,
            labels=["a", "b", "c"],
            tokenizer=tokenizer_model.read_bytes(),
            golden=[Probe("", (1,), (1 / 3, 1 / 3, 1 / 3))],
            max_tokens=MAX_TOKENS,
        )
        loaded[layers, bidirectional] = load_lookup(
            folder / f"{layers}{bidirectional}", replay_golden=False
        )
    return loaded


@pytest.mark.parametrize(("layers", "bidirectional"), SHAPES)
@given(edits=EDITS)
@settings(max_examples=40, deadline=None)
def test_every_edit_is_answered_as_the_whole_text_is(
    models: dict[tuple[int, bool], LookupModel],
    layers: int,
    bidirectional: bool,
    edits: list[tuple[int, int, str]],
) -> None:
    model = models[layers, bidirectional]
    typeahead = Typeahead(model, layers=layers, bidirectional=bidirectional)
    text = ""
    for place, removed, inserted in edits:
        text = text[:place] + inserted + text[place + removed :]
        answer = typeahead.answer(text)
        ids, _ = model.encode([text])
        assert answer.ids == ids[0].tolist()
        np.testing.assert_allclose(answer.probabilities, model.predict_proba([text])[0], atol=2e-6)


def count(model: LookupModel, text: str) -> int:
    return int(model.encode([text])[1][0])


def test_a_word_more_reads_its_tokens_and_a_word_less_reads_none_anew(
    models: dict[tuple[int, bool], LookupModel],
) -> None:
    model = models[1, False]
    two, three = count(model, "red cat"), count(model, "red cat old")
    assert two < three
    typeahead = Typeahead(model, layers=1, bidirectional=False)
    assert typeahead.answer("red cat")[2:] == (0, two, 0)
    assert typeahead.answer("red cat old")[2:] == (two, three - two, two)
    assert typeahead.answer("red cat")[2:] == (two, 0, two)
    assert typeahead.answer("red cat")[2:] == (two, 0, two)


@pytest.mark.parametrize(("layers", "bidirectional"), SHAPES)
def test_steps_count_every_layer_and_direction(
    models: dict[tuple[int, bool], LookupModel], layers: int, bidirectional: bool
) -> None:
    model = models[layers, bidirectional]
    two, three = count(model, "red cat"), count(model, "red cat old")
    typeahead = Typeahead(model, layers=layers, bidirectional=bidirectional)
    typeahead.answer("red cat")
    answer = typeahead.answer("red cat old")
    expected = {
        (1, False): (three - two, two),
        (2, False): (2 * (three - two), 2 * two),
        (1, True): (three - two + three, two),  # backwards everything is read again
        (2, True): (2 * 2 * three, 0),
    }
    assert (answer.steps_computed, answer.steps_reused) == expected[layers, bidirectional]


def test_a_text_beyond_max_tokens_is_cut_as_everywhere(
    models: dict[tuple[int, bool], LookupModel],
) -> None:
    model = models[1, True]
    typeahead = Typeahead(model, layers=1, bidirectional=True)
    words = ["red", "green", "blue"] * 6
    for number in range(1, len(words) + 1):
        answer = typeahead.answer(" ".join(words[:number]))
    assert len(answer.ids) == MAX_TOKENS
    assert answer.tokens_reused == MAX_TOKENS
    assert len(typeahead._streams) == MAX_TOKENS + 1
    np.testing.assert_allclose(
        answer.probabilities, model.predict_proba([" ".join(words)])[0], atol=2e-6
    )


def test_an_empty_text_counts_as_one_unknown_token(
    models: dict[tuple[int, bool], LookupModel],
) -> None:
    model = models[1, False]
    typeahead = Typeahead(model, layers=1, bidirectional=False)
    typeahead.answer("red green")
    empty = typeahead.answer("")
    assert empty.ids == [1]
    np.testing.assert_allclose(empty.probabilities, model.predict_proba([""])[0], atol=2e-6)


def test_a_lone_surrogate_is_refused_and_forgets_nothing(
    models: dict[tuple[int, bool], LookupModel],
) -> None:
    typeahead = Typeahead(models[1, False], layers=1, bidirectional=False)
    typeahead.answer("red cat")
    with pytest.raises(ValueError, match="expected text that UTF-8 can hold"):
        typeahead.answer("red cat \ud800")
    assert typeahead.answer("red cat").steps_computed == 0
