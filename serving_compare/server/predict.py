"""`POST /v1/models/{name}:predict`: body to instances, instances to the best labels.

The body is parsed by pydantic-core's JSON parser and checked by hand: every message says where and
what, and no object is made that is not needed. `openapi` describes the same contract.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pydantic_core
from numpy.typing import NDArray

from serving_compare.server.config import Limits
from serving_compare.server.errors import InputError
from serving_compare.server.model_slot import Answer, LoadedModel

DEFAULT_K = 3
_KEYS = frozenset({"instances", "k", "return_tokens"})


class PredictRequest(NamedTuple):
    """A checked request: texts or padded ids, never both.

    Attributes:
        texts: Raw texts, or None.
        ids: (B, T) int32, or None.
        lengths: (B,) int32, or None.
        k: Labels to return for each.
        return_tokens: Whether the answer names the pieces, or repeats the ids.
    """

    texts: list[str] | None
    ids: NDArray[np.int32] | None
    lengths: NDArray[np.int32] | None
    k: int
    return_tokens: bool


def parse_request(body: bytes, model: LoadedModel, limits: Limits) -> PredictRequest:
    """Return the checked request of a body.

    Raises:
        InputError: It is not JSON, or not of the documented form; names the first fault.
    """
    try:
        fields = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as err:
        raise InputError("malformed_json", f"body: expected JSON, found {err}.") from err
    if type(fields) is not dict or "instances" not in fields:
        raise InputError(
            "wrong_type", 'body: expected an object with "instances", found something else.'
        )
    if unknown := fields.keys() - _KEYS:
        raise InputError(
            "unknown_field",
            f"body: expected instances, k and return_tokens, found {min(unknown)[:40]!r}.",
        )
    k = fields.get("k", min(DEFAULT_K, len(model.labels)))
    if type(k) is not int or not 1 <= k <= len(model.labels):
        raise InputError(
            "k_out_of_range",
            f"k: expected an integer from 1 to {len(model.labels)}, found {show(k)}.",
        )
    return_tokens = fields.get("return_tokens", False)
    if type(return_tokens) is not bool:
        raise InputError(
            "wrong_type", f"return_tokens: expected true or false, found {show(return_tokens)}."
        )
    texts, ids, lengths = parse_instances(fields["instances"], model, limits)
    return PredictRequest(texts, ids, lengths, k, return_tokens)


def parse_instances(
    instances: Any, model: LoadedModel, limits: Limits
) -> tuple[list[str] | None, NDArray[np.int32] | None, NDArray[np.int32] | None]:
    """Return texts, or padded ids (B, T) int32 and their lengths (B,) int32.

    Raises:
        InputError: They are neither, none, too many, or an id is not in the vocabulary.
    """
    if type(instances) is str:
        return [instances], None, None
    if type(instances) is not list:
        raise InputError(
            "wrong_type",
            "instances: expected a text, a list of texts, a list of ids or a list of lists of "
            f"ids, found {show(instances)}.",
        )
    if not instances:
        raise InputError("empty", "instances: expected at least one, found none.")
    first = type(instances[0])
    if first is int:
        instances, first = [instances], list
    if len(instances) > limits.max_batch:
        raise InputError(
            "too_many_instances",
            f"instances: expected at most {limits.max_batch}, found {len(instances)}. Send them "
            "in several requests.",
        )
    if first is str:
        for index, text in enumerate(instances):
            if type(text) is not str:
                raise InputError(
                    "wrong_type",
                    f"instances[{index}]: expected a text as instances[0] is, found {show(text)}.",
                )
        return instances, None, None
    return None, *parse_rows(instances, model)


def parse_rows(rows: list[Any], model: LoadedModel) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return rows of ids padded with 0 on the right, (B, T) int32, and lengths (B,) int32.

    Raises:
        InputError: See `parse_instances`.
    """
    for index, row in enumerate(rows):
        place = f"instances[{index}]" if len(rows) > 1 else "instances"
        if type(row) is not list or not all(type(token) is int for token in row):
            raise InputError(
                "wrong_type", f"{place}: expected a list of integers, found {show(row)}."
            )
        if not 0 < len(row) <= model.max_ids:
            raise InputError(
                "empty" if not row else "too_many_ids",
                f"{place}: expected 1 to {model.max_ids} ids, found {len(row)}.",
            )
        # Before NumPy sees them: it cannot hold every integer that JSON can.
        if min(row) < 0 or max(row) >= model.vocab_size:
            bad = next(token for token in row if not 0 <= token < model.vocab_size)
            raise InputError(
                "id_out_of_range",
                f"{place}: expected ids from 0 to {model.vocab_size - 1}, found {show(bad)}.",
            )
    lengths = np.array([len(row) for row in rows], np.int32)
    if len(rows) == 1:
        return np.array(rows, np.int32), lengths
    ids = np.zeros((len(rows), int(lengths.max())), np.int32)
    for position, row in enumerate(rows):
        ids[position, : len(row)] = row
    return ids, lengths


def show(value: Any) -> str:
    """Return a value for a message, short whatever it is."""
    if isinstance(value, list | dict):
        return f"a list of {len(value)}" if isinstance(value, list) else "an object"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def run_request(request: PredictRequest, model: LoadedModel) -> Answer:
    """Return the model's answer to a checked request."""
    if request.texts is not None:
        return model.run_texts(request.texts)
    assert request.ids is not None and request.lengths is not None
    return model.run_ids(request.ids, request.lengths)


def rank(probabilities: NDArray[np.float32], k: int) -> list[list[tuple[int, float]]]:
    """Return the k best (class id, probability) of each row (B, C), ties in the order of ids."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k].tolist()
    return [
        [(label, row[label]) for label in labels]
        for labels, row in zip(best, probabilities.tolist(), strict=True)
    ]


def format_response(
    request: PredictRequest, probabilities: NDArray[np.float32], model: LoadedModel
) -> bytes:
    """Return the body of the answer, JSON in UTF-8."""
    answer: dict[str, Any] = {
        "model": model.name,
        "version": str(model.version),
        "backend": model.backend,
        "predictions": [
            [{"label": model.labels[label], "probability": value} for label, value in row]
            for row in rank(probabilities, request.k)
        ],
    }
    if request.return_tokens:
        answer["tokens"] = list_tokens(request, model)
    return pydantic_core.to_json(answer)


def list_tokens(request: PredictRequest, model: LoadedModel) -> list[list[str]] | list[list[int]]:
    """Return the pieces of texts, or the ids as they were sent."""
    if request.texts is not None:
        return model.tokenize(request.texts)
    assert request.ids is not None and request.lengths is not None
    return [row[:length].tolist() for row, length in zip(request.ids, request.lengths, strict=True)]


def timing_header(queue_ns: int, model_ns: int) -> tuple[bytes, bytes]:
    """Return the `Server-Timing` header, in milliseconds."""
    return (
        b"server-timing",
        b"queue;dur=%.3f, model;dur=%.3f" % (queue_ns / 1e6, model_ns / 1e6),
    )
