"""Micro-batching: requests whose turn came together are computed in one call of the model.

Nobody waits for company. A wave of the turnstile is whatever waited when the model became free,
so an idle server computes single requests at once, and a busy one ever larger batches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from serving_compare.server.model_slot import Answer, LoadedModel
from serving_compare.server.predict import PredictRequest, run_request


class _Place(NamedTuple):
    model: LoadedModel
    request: PredictRequest
    answer: asyncio.Future[Answer]


class Batcher:
    """Collects the requests of one round of the event loop. Belongs to that loop."""

    def __init__(self) -> None:
        self._places: list[_Place] = []

    async def run(self, request: PredictRequest, model: LoadedModel) -> Answer:
        """Return the answer to one request; its nanoseconds are those of the whole call."""
        loop = asyncio.get_running_loop()
        place = _Place(model, request, loop.create_future())
        if not self._places:
            # Everyone of the wave was woken together, and so asks before this is called.
            loop.call_soon(self._flush)
        self._places.append(place)
        return await place.answer

    def _flush(self) -> None:
        places, self._places = self._places, []
        groups: dict[tuple[int, bool], list[_Place]] = {}
        for place in places:
            # By model, too: it may be exchanged between two requests of a wave.
            key = (id(place.model), place.request.texts is None)
            groups.setdefault(key, []).append(place)
        for group in groups.values():
            try:
                answer = run_request(join_requests([p.request for p in group]), group[0].model)
            except Exception as err:  # noqa: BLE001  (each of them fails with it)
                for place in group:
                    if not place.answer.done():
                        place.answer.set_exception(err)
                continue
            start = 0
            for place in group:
                rows = count_rows(place.request)
                if not place.answer.done():  # its client may have gone
                    part = answer.probabilities[start : start + rows]
                    place.answer.set_result(Answer(part, answer.model_ns))
                start += rows


def count_rows(request: PredictRequest) -> int:
    """Return how many sequences a request asks for."""
    if request.texts is not None:
        return len(request.texts)
    assert request.ids is not None
    return len(request.ids)


def join_requests(requests: Sequence[PredictRequest]) -> PredictRequest:
    """Return one request for the rows of several, in their order; all texts or all ids."""
    first = requests[0]
    if len(requests) == 1:
        return first
    if first.texts is not None:
        texts = [text for request in requests for text in request.texts or ()]
        return first._replace(texts=texts)
    rows = [request.ids for request in requests if request.ids is not None]
    ids = np.zeros((sum(map(len, rows)), max(part.shape[1] for part in rows)), np.int32)
    start = 0
    for part in rows:
        ids[start : start + len(part), : part.shape[1]] = part
        start += len(part)
    lengths = [request.lengths for request in requests if request.lengths is not None]
    return first._replace(ids=ids, lengths=np.concatenate(lengths))
