from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from serving_compare.bench.bulk import (
    list_bulk_names,
    make_bulk_call,
    measure_bulk,
    split_bulk_name,
)
from serving_compare.bench.forms import OWN_FORMS, FormFiles
from serving_compare.bench.models import draw_batch

from .conftest import VOCAB


class Recorder:
    """A form that remembers the shapes it was asked and answers with the rows' first ids."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def make_call(self, tokens: int) -> Any:
        def call(ids: Any, lengths: Any) -> Any:
            assert ids.flags.c_contiguous
            assert ids.shape[1] == lengths.max()
            self.shapes.append(ids.shape)
            return ids[:, :1].astype(np.float32)

        return call


def test_each_form_has_its_ways_of_taking_batches():
    names = ["lookup native avx2", "lookup numpy", "onnx", "onnx static", "saved_model", "null"]
    assert list_bulk_names(names) == [
        "lookup native avx2", "lookup numpy", "onnx whole", "onnx sorted 8", "onnx sorted 32",
        "saved_model whole", "saved_model sorted 32",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("onnx sorted 32", ("onnx", "sorted 32")),
        ("saved_model whole", ("saved_model", "whole")),
        ("lookup native avx2", ("lookup native avx2", "")),
    ],
)
def test_a_name_is_form_and_way(name: str, expected: tuple[str, str]):
    assert split_bulk_name(name) == expected


def test_sorted_pieces_are_no_wider_than_their_longest_row_and_answers_keep_their_order():
    form = Recorder()
    ids = np.array([[5, 0, 0], [6, 7, 8], [9, 1, 0], [4, 0, 0]], np.int32)
    answers = make_bulk_call(form, "sorted 2")(ids, np.array([1, 3, 2, 1], np.int32))
    assert form.shapes == [(2, 3), (2, 1)]
    assert answers[:, 0].tolist() == [5, 6, 9, 4]


def test_a_last_piece_may_be_smaller():
    form = Recorder()
    ids = np.array([[5], [6], [7]], np.int32)
    answers = make_bulk_call(form, "sorted 2")(ids, np.array([1, 1, 1], np.int32))
    assert form.shapes == [(2, 1), (1, 1)]
    assert answers[:, 0].tolist() == [5, 6, 7]


def test_every_way_gives_the_same_answers(untrained: FormFiles):
    ids, lengths = draw_batch(VOCAB, 37, seed=1)
    expected = OWN_FORMS["lookup numpy"](untrained).make_call(0)(ids, lengths)
    for name in ("onnx whole", "onnx sorted 8", "onnx sorted 32"):
        form, way = split_bulk_name(name)
        found = make_bulk_call(OWN_FORMS[form](untrained), way)(ids, lengths)
        assert np.abs(found - expected).max() < 1e-6, name


def test_batches_of_a_size_make_512_sequences_in_turn_or_are_one(untrained: FormFiles):
    forms = {name: OWN_FORMS[name](untrained) for name in ("lookup numpy", "null")}
    limits = {"blocks": 1, "warm_up_s": 0.0, "min_passes": 1, "duration_s": 0.0}
    job = {"vocab_size": VOCAB, "batch_sizes": [256, 2048], "bulk_limits": limits, "data_seed": 1}
    measured = {
        (name, cell): samples
        for name, cell, samples in measure_bulk(
            forms, job, random=np.random.default_rng(0), timer_cost_ns=50
        )
    }
    assert set(measured) == {("lookup numpy", "bulk_256"), ("lookup numpy", "bulk_2048")}
    assert measured["lookup numpy", "bulk_256"].inner_loops == 2
    assert measured["lookup numpy", "bulk_2048"].inner_loops == 1
