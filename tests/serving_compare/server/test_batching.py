"""Requests computed together are answered as each alone."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from serving_compare.server.batching import Batcher, count_rows, join_requests
from serving_compare.server.model_slot import Answer, LoadedModel, load_model
from serving_compare.server.predict import PredictRequest, run_request
from tests.serving_compare.server.running import GOLDEN


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load_model("lookup", GOLDEN)


def ask_texts(*texts: str) -> PredictRequest:
    return PredictRequest(list(texts), None, None, 2, False)


def ask_rows(*rows: list[int]) -> PredictRequest:
    ids = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for position, row in enumerate(rows):
        ids[position, : len(row)] = row
    return PredictRequest(None, ids, np.array([len(row) for row in rows], np.int32), 2, False)


REQUESTS = [
    ask_texts("stone dog"),
    ask_rows([5, 6, 7], [8]),
    ask_texts("", "river of cat"),
    ask_rows([3, 4, 5, 6, 7]),
]


def test_each_gets_its_own_rows_of_one_call(model: LoadedModel) -> None:
    calls: list[int] = []
    watched = LoadedModel(**{**vars(model), "observe": lambda model_ns, rows: calls.append(rows)})

    async def together() -> list[Answer]:
        batcher = Batcher()
        return await asyncio.gather(*(batcher.run(request, watched) for request in REQUESTS))

    answers = asyncio.run(together())
    assert sorted(calls) == [3, 3]  # the texts, and the ids
    for request, answer in zip(REQUESTS, answers, strict=True):
        alone = run_request(request, model).probabilities
        assert answer.probabilities == pytest.approx(alone, abs=1e-6)


def test_two_versions_are_never_mixed(model: LoadedModel) -> None:
    other = load_model("null", GOLDEN)

    async def together() -> list[Answer]:
        batcher = Batcher()
        return await asyncio.gather(
            batcher.run(ask_texts("stone"), model), batcher.run(ask_texts("stone"), other)
        )

    real, null = asyncio.run(together())
    assert null.probabilities.tolist() == [[0.5, 0.5]]
    assert real.probabilities.tolist() != [[0.5, 0.5]]


def test_an_error_of_the_call_reaches_everyone_in_it(model: LoadedModel) -> None:
    class Broken:
        def run_texts(self, texts: list[str]) -> None:
            raise RuntimeError("broken")

    broken = LoadedModel(**{**vars(model), "runtime": Broken()})

    async def together() -> list[Answer | BaseException]:
        batcher = Batcher()
        return await asyncio.gather(
            batcher.run(ask_texts("a"), broken),
            batcher.run(ask_texts("b"), broken),
            batcher.run(ask_rows([3]), model),
            return_exceptions=True,
        )

    first, second, third = asyncio.run(together())
    assert (str(first), str(second)) == ("broken", "broken")
    assert isinstance(third, Answer)


def test_whoever_left_does_not_disturb_the_others(model: LoadedModel) -> None:
    async def together() -> Answer:
        batcher = Batcher()
        gone = asyncio.create_task(batcher.run(ask_texts("a", "b"), model))
        stays = asyncio.create_task(batcher.run(ask_texts("stone dog"), model))
        await asyncio.sleep(0)
        gone.cancel()
        return await stays

    found = asyncio.run(together()).probabilities
    alone = run_request(ask_texts("stone dog"), model).probabilities
    assert found == pytest.approx(alone, abs=1e-6)


def test_joined_rows_are_padded_to_the_longest() -> None:
    joined = join_requests([REQUESTS[1], REQUESTS[3]])
    assert joined.ids is not None and joined.lengths is not None
    assert joined.ids.tolist() == [[5, 6, 7, 0, 0], [8, 0, 0, 0, 0], [3, 4, 5, 6, 7]]
    assert joined.lengths.tolist() == [3, 1, 5]
    assert count_rows(joined) == 3
