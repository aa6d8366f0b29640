from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving_compare.bench.forms import FormFiles
from serving_compare.bench.models import (
    MAX_LENGTH,
    ModelShape,
    compute_reference,
    draw_batch,
    draw_rows,
    export_program,
    litert_program,
    read_weights,
)

from .conftest import UNITS, VOCAB


def test_weights_are_read_by_their_short_names(untrained: FormFiles):
    weights = read_weights(untrained.path("weights.npz"))
    assert {name: array.shape for name, array in weights.items()} == {
        "embedding": (VOCAB, 5),
        "kernel": (5, 3 * UNITS),
        "recurrent_kernel": (UNITS, 3 * UNITS),
        "bias": (2, 3 * UNITS),
        "head_kernel": (UNITS, 3),
        "head_bias": (3,),
    }


def test_the_reference_is_what_a_plain_loop_gives(untrained: FormFiles):
    weights = read_weights(untrained.path("weights.npz"))
    h = [0.0] * UNITS
    for token in (5, 9):
        x = [
            sum(weights["embedding"][token, e] * weights["kernel"][e, g] for e in range(5))
            + weights["bias"][0, g]
            for g in range(3 * UNITS)
        ]
        inner = [
            sum(h[j] * weights["recurrent_kernel"][j, g] for j in range(UNITS))
            + weights["bias"][1, g]
            for g in range(3 * UNITS)
        ]
        new = []
        for u in range(UNITS):
            z = 1 / (1 + np.exp(-(x[u] + inner[u])))
            r = 1 / (1 + np.exp(-(x[UNITS + u] + inner[UNITS + u])))
            candidate = np.tanh(x[2 * UNITS + u] + r * inner[2 * UNITS + u])
            new.append(z * h[u] + (1 - z) * candidate)
        h = new
    logits = np.array(h) @ weights["head_kernel"].astype(float) + weights["head_bias"]
    expected = logits - np.log(np.exp(logits).sum())
    found = compute_reference(weights, np.array([[5, 9]], np.int32))
    assert found[0] == pytest.approx(expected, abs=1e-7)
    assert found.dtype == np.float64


def test_rows_have_the_lengths_asked_and_no_padding():
    rows = draw_rows(50, [1, 7], count=8, seed=3)
    assert {length: ids.shape for length, ids in rows.items()} == {1: (8, 1), 7: (8, 7)}
    assert min(ids.min() for ids in rows.values()) >= 2
    again = draw_rows(50, [1, 7], count=8, seed=3)
    assert all(np.array_equal(rows[length], again[length]) for length in rows)


@given(size=st.integers(1, 300), seed=st.integers(0, 1000))
def test_a_batch_is_padded_behind_its_lengths_only(size: int, seed: int):
    ids, lengths = draw_batch(100, size, seed=seed)
    assert ids.shape == (size, lengths.max())
    assert lengths.min() >= 1
    assert lengths.max() <= MAX_LENGTH
    inside = np.arange(ids.shape[1]) < lengths[:, None]
    assert ids[inside].min() >= 2
    assert not ids[~inside].any()


def test_lengths_have_a_mean_of_nine():
    assert draw_batch(100, 20_000, seed=1)[1].mean() == pytest.approx(9, abs=0.2)


def test_the_programs_say_what_to_make_and_where(tmp_path: Path):
    export = export_program(tmp_path / "untrained-8", ModelShape(units=8), seed=3)
    assert export.module == "export.untrained"
    assert export.arguments == (
        str(tmp_path / "untrained-8"), "--units", "8", "--vocab-size", "15000", "--embed-dim",
        "128", "--num-classes", "45", "--seed", "3",
    )  # fmt: skip
    litert = litert_program(tmp_path / "untrained-8", tmp_path / "litert-8", [1, 20])
    assert litert.arguments[1:] == (str(tmp_path / "litert-8"), "1", "20")


def test_the_shape_is_told_with_the_names_of_a_report():
    assert ModelShape(units=8).to_json() == {
        "units": 8, "vocab_size": 15000, "embed_dim": 128, "num_classes": 45, "layers": 1,
        "bidirectional": False, "pooling": "last", "relu": False,
    }  # fmt: skip
