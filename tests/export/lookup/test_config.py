from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from export.lookup.config import (
    ArraySpec,
    LookupConfig,
    WordTableSizes,
    array_specs,
    check_max_tokens,
    word_specs,
)

CONFIG = LookupConfig(vocab_size=30, embed_dim=5, units=6, num_classes=4, layers=2)


def test_specs_of_exact_arrays_follow_from_the_axes():
    specs = array_specs(dataclasses.replace(CONFIG, bidirectional=False))
    assert {name: spec.shape for name, spec in specs.items()} == {
        "gate_table": (30, 18),
        "recurrent_kernel": (6, 18),
        "candidate_bias": (6,),
        "layer_1_kernel": (6, 18),
        "layer_1_bias": (18,),
        "layer_1_recurrent_kernel": (6, 18),
        "layer_1_candidate_bias": (6,),
        "head_kernel": (6, 4),
        "head_bias": (4,),
    }
    assert {spec.dtype for spec in specs.values()} == {"<f4"}
    both = array_specs(CONFIG)
    assert both["layer_1_kernel_backward"].shape == (12, 18)
    assert both["head_kernel"].shape == (12, 4)
    assert len(both) == 16


def test_options_change_types_and_add_scales():
    exact = array_specs(CONFIG)
    found = array_specs(dataclasses.replace(CONFIG, table_dtype="int8", recurrent_dtype="int16"))
    changed = {name: spec for name, spec in found.items() if spec != exact.get(name)}
    expected = {}
    for suffix in ("", "_backward"):
        expected[f"gate_table{suffix}"] = ArraySpec((30, 18), "|i1")
        expected[f"gate_table_scale{suffix}"] = ArraySpec((30,), "<f4")
        for prefix in ("", "layer_1_"):
            expected[f"{prefix}recurrent_kernel{suffix}"] = ArraySpec((6, 18), "<i2")
            expected[f"{prefix}recurrent_kernel_scale{suffix}"] = ArraySpec((18,), "<f4")
    assert changed == expected


def test_half_precision_tables_need_no_scale():
    found = array_specs(dataclasses.replace(CONFIG, table_dtype="float16"))
    assert found["gate_table_backward"] == ArraySpec((30, 18), "<f2")
    assert found.keys() == array_specs(CONFIG).keys()


@pytest.mark.parametrize("dtype", ["<f4", "<f2", "<i2", "|i1", "|u1", "<u4", "<i4"])
def test_a_spec_knows_its_bytes(dtype):
    assert ArraySpec((3, 4), dtype).size == np.zeros((3, 4), dtype).nbytes


def test_word_specs_follow_from_the_sizes():
    sizes = WordTableSizes(words=3, word_bytes=11, word_ids=0)
    assert word_specs(sizes) == {
        "word_bytes": ArraySpec((11,), "|u1"),
        "word_ends": ArraySpec((3,), "<u4"),
        "word_ids": ArraySpec((0,), "<i4"),
        "word_id_ends": ArraySpec((3,), "<u4"),
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 1}, "vocab_size: expected an integer from 2 to 1000000, found 1."),
        ({"units": 5000}, "units: expected an integer from 1 to 4096, found 5000."),
        ({"layers": True}, "layers: expected an integer from 1 to 8, found True."),
        ({"num_classes": 4.0}, "num_classes: expected an integer from 2 to 100000, found 4.0."),
        ({"relu": 1}, "relu: expected true or false, found 1."),
        ({"pooling": "sum"}, "pooling: expected one of last, max, mean, found 'sum'."),
        (
            {"table_dtype": "bfloat16"},
            "table_dtype: expected one of float32, float16, int16, int8, found 'bfloat16'.",
        ),
        (
            {"recurrent_dtype": "float16"},
            "recurrent_dtype: expected one of float32, int16, int8, found 'float16'.",
        ),
    ],
)
def test_configs_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        dataclasses.replace(CONFIG, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"words": 0}, "words: expected an integer from 1 to 2000000, found 0."),
        ({"word_bytes": 2**28 + 1}, "word_bytes: expected an integer from 1 to 268435456, found"),
        ({"word_ids": -1}, "word_ids: expected an integer from 0 to 67108864, found -1."),
    ],
)
def test_word_tables_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        WordTableSizes(**({"words": 1, "word_bytes": 1, "word_ids": 1} | changes))


@pytest.mark.parametrize("value", [0, 65_537, True, "16", None, 1.0])
def test_max_tokens_out_of_range_is_refused(value):
    with pytest.raises(ValueError, match=r"max_tokens: expected an integer from 1 to 65536, fo"):
        check_max_tokens(value)
