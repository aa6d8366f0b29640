from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from export.agreement import LabelledTexts
from export.compression import EXACT_OPTION, NAMED_OPTIONS, Option
from export.fold import fold_weights
from export.lookup import LookupConfig, Probe
from export.option_cost import load_option, measure_options
from tests.export.tiny import make_config, make_weights

CONFIG = LookupConfig(vocab_size=96, embed_dim=7, units=6, num_classes=5)
CHOSEN = Option("int8", "int8")


@pytest.fixture(scope="module")
def arrays() -> dict[str, Any]:
    return fold_weights(make_weights(make_config()), np.float64)


@pytest.fixture(scope="module")
def split(arrays: dict[str, Any]) -> LabelledTexts:
    """Texts that the exact arrays classify without a mistake."""
    rng = np.random.default_rng(0)
    ids = [rng.integers(1, 96, rng.integers(1, 9)).tolist() for _ in range(300)]
    model = load_option(arrays, CONFIG, EXACT_OPTION)
    labels = [int(model.logits([row], [len(row)]).argmax()) for row in ids]
    return LabelledTexts(texts=["text"] * len(ids), ids=ids, labels=labels)


def test_every_named_option_and_the_chosen_one_are_measured(
    arrays: dict[str, Any], split: LabelledTexts
) -> None:
    done: list[int] = []
    result = measure_options(arrays, CONFIG, CHOSEN, split, [], k=2, advance=done.append)
    assert (sum(done), result.rows, result.k) == (300, 300, 2)
    assert [cost.option for cost in result.costs] == [*NAMED_OPTIONS, CHOSEN]
    assert all(cost.latency_us > 0 for cost in result.costs)
    exact = result.costs[0]
    assert (exact.top_1_hits, exact.top_1_changes, exact.max_abs_logit_diff) == (300, 0, 0)
    for cost in result.costs[1:]:
        assert 0 < cost.max_abs_probability_diff < cost.max_abs_logit_diff < 0.2
        assert cost.max_relative_logit_diff <= cost.max_abs_logit_diff
        # Every text was right, so every other first class is a mistake.
        assert cost.top_1_hits == 300 - cost.top_1_changes
    assert result.find(CHOSEN).max_abs_logit_diff > result.find(NAMED_OPTIONS[2]).max_abs_logit_diff


def test_a_named_option_is_not_measured_twice(arrays: dict[str, Any], split: LabelledTexts) -> None:
    result = measure_options(arrays, CONFIG, NAMED_OPTIONS[3], split, [], k=2)
    assert [cost.option for cost in result.costs] == list(NAMED_OPTIONS)


def test_sizes_are_those_of_the_arrays(arrays: dict[str, Any], split: LabelledTexts) -> None:
    result = measure_options(arrays, CONFIG, CHOSEN, split, [], k=2)
    both, units, rows = 2, 6, 96
    rest = both * 4 * units + 4 * (12 * 5 + 5)
    table, kernel = both * rows * 18, both * units * 18
    assert result.costs[0].array_bytes == rest + 4 * table + 4 * kernel
    assert result.find(CHOSEN).array_bytes == (
        rest + table + kernel + 4 * both * rows + 4 * both * 18
    )


def test_probes_count_for_differences_only(arrays: dict[str, Any], split: LabelledTexts) -> None:
    few = dataclasses.replace(split, texts=["a"], ids=[[1]], labels=[0])
    alone = measure_options(arrays, CONFIG, CHOSEN, few, [], k=2)
    probes = [Probe("text", tuple(row), ()) for row in split.ids]
    together = measure_options(arrays, CONFIG, CHOSEN, few, probes, k=2)
    assert together.rows == alone.rows == 1
    assert together.find(CHOSEN).top_1_hits == alone.find(CHOSEN).top_1_hits
    assert together.find(CHOSEN).max_abs_logit_diff > alone.find(CHOSEN).max_abs_logit_diff
