from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.lookup.errors import GoldenError
from export.lookup.golden import Probe, check_probe, format_golden, parse_golden
from export.lookup.manifest import LookupConfig

CONFIG = LookupConfig(vocab_size=30, embed_dim=5, units=6, num_classes=2)

probes = st.builds(
    Probe,
    st.text(),
    st.lists(st.integers(0, 29), min_size=1).map(tuple),
    st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32)),
)


def parse(data: bytes):
    return parse_golden(data, CONFIG, "golden.jsonl")


@given(st.lists(probes, min_size=1, max_size=4))
def test_parsing_gives_what_was_formatted_to_the_last_bit(written):
    text = format_golden(written)
    found = parse(text.encode())
    assert [(probe.text, probe.ids) for probe in found] == [(p.text, p.ids) for p in written]
    for probe, original in zip(found, written, strict=True):
        assert np.array_equal(np.float32(probe.probabilities), np.float32(original.probabilities))
    assert format_golden(found) == text


def test_floats_have_the_fewest_digits_that_give_float32_back():
    assert '"probabilities": [0.1, 1e-10]' in format_golden([Probe("", (1,), (0.1, 1e-10))])


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        (Probe("", (), (0.5, 0.5)), "ids: expected at least one, found none."),
        (Probe("", (30,), (0.5, 0.5)), "ids: expected 0 to 29, found 30."),
        (Probe("", (-1,), (0.5, 0.5)), "ids: expected 0 to 29, found -1."),
        (Probe("", (True,), (0.5, 0.5)), "ids: expected integers, found True."),
        (Probe("", (1,), (1.0,)), "probabilities: expected 2, found 1."),
        (
            Probe("", (1,), (0.5, float("nan"))),
            "probabilities: expected numbers from 0 to 1, found nan",
        ),
    ],
)
def test_probes_that_do_not_fit_the_model_are_refused(probe, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check_probe(probe, CONFIG)


GOOD = b'{"text": "", "ids": [1], "probabilities": [0.5, 0.5]}'


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "golden.jsonl: expected one JSON object a line, each line ended, found 0 bytes"),
        (GOOD, "golden.jsonl: expected one JSON object a line, each line ended, found 53 bytes"),
        (GOOD + b"\n\n", "golden.jsonl line 2: Expecting value"),
        (b"[]\n", "golden.jsonl line 1: expected an object with text, ids and probabilities."),
        (b'{"text": ""}\n', "line 1: expected an object with text, ids and probabilities."),
        (GOOD.replace(b"[1]", b"1") + b"\n", "line 1: expected a string, a list and a list."),
        (GOOD.replace(b"[1]", b"[[1]]") + b"\n", "line 1: ids: expected integers, found [1]."),
        (GOOD.replace(b"0.5]", b'"x"]') + b"\n", "expected numbers from 0 to 1, found 'x'."),
        (GOOD.replace(b"0.5]", b"NaN]") + b"\n", "expected finite numbers, found NaN."),
        (GOOD.replace(b"0.5]", b"9" * 400 + b"]") + b"\n", "from 0 to 1, found 9999"),
        (GOOD.replace(b"0.5]", b"-1]") + b"\n", "expected numbers from 0 to 1, found -1."),
        (GOOD.replace(b"0.5]", b"1e999]") + b"\n", "expected numbers from 0 to 1, found inf."),
    ],
)
def test_malformed_lines_are_refused(data, message):
    with pytest.raises(GoldenError, match=re.escape(message)):
        parse(data)
