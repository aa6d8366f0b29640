"""Bodies of the Open Inference Protocol's infer requests: JSON to checked tensors, and back.

Texts come as `text` BYTES (B,), ids as `tokens` INT32 (B, T) with `lengths` INT32 (B,); answers are
`probabilities` FP32 (B, C) and `labels` BYTES (B, k). Data may be nested as its shape is or flat.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pydantic_core
from numpy.typing import NDArray

from serving_compare.server.config import Limits
from serving_compare.server.errors import InputError
from serving_compare.server.model_slot import LoadedModel
from serving_compare.server.predict import DEFAULT_K, PredictRequest, rank, show

OUTPUTS = ("probabilities", "labels")
DATATYPES = {"text": "BYTES", "tokens": "INT32", "lengths": "INT32"}
AXES = {"text": 1, "tokens": 2, "lengths": 1}
_REQUEST_KEYS = frozenset({"id", "parameters", "inputs", "outputs"})
_TENSOR_KEYS = frozenset({"name", "shape", "datatype", "parameters", "data"})


class InferRequest(NamedTuple):
    """A checked request.

    Attributes:
        id: What the client calls it, or None.
        question: Texts or ids, and k for the labels.
        outputs: Names out of `OUTPUTS`, in the order they are wanted.
    """

    id: str | None
    question: PredictRequest
    outputs: tuple[str, ...]


def parse_infer(body: bytes, model: LoadedModel, limits: Limits) -> InferRequest:
    """Return the checked request of a body.

    Raises:
        InputError: It is not JSON, or not of the protocol's form; names the first fault.
    """
    try:
        fields = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as err:
        raise InputError("malformed_json", f"body: expected JSON, found {err}.") from err
    _check_object("body", fields, _REQUEST_KEYS, needed=("inputs",))
    request_id = fields.get("id")
    if "id" in fields and type(request_id) is not str:
        raise InputError("wrong_type", f"id: expected a string, found {show(request_id)}.")
    parameters = fields.get("parameters", {})
    _check_object("parameters", parameters)
    outputs, k = _parse_outputs(fields.get("outputs", []), parameters, len(model.labels))
    tensors = _parse_inputs(fields["inputs"])
    batch = next(iter(tensors.values())).shape[0]
    if not 0 < batch <= limits.max_batch:
        raise InputError(
            "empty" if not batch else "too_many_instances",
            f"inputs: expected a batch of 1 to {limits.max_batch}, found {batch}. Send more in "
            "several requests.",
        )
    if "text" in tensors:
        question = PredictRequest(tensors["text"].values, None, None, k, False)
    else:
        question = _parse_ids(tensors["tokens"], tensors["lengths"], model, k)
    return InferRequest(request_id, question, outputs)


class _Tensor(NamedTuple):
    shape: tuple[int, ...]
    values: list[Any]


def _check_object(
    place: str, value: Any, known: frozenset[str] | None = None, needed: tuple[str, ...] = ()
) -> None:
    if type(value) is not dict:
        raise InputError("wrong_type", f"{place}: expected an object, found {show(value)}.")
    for key in needed:
        if key not in value:
            raise InputError("missing_field", f"{place}: expected {key!r}, found none.")
    if known is not None and (unknown := value.keys() - known):
        raise InputError(
            "unknown_field",
            f"{place}: expected {', '.join(sorted(known))}, found {min(unknown)[:40]!r}.",
        )


def _parse_outputs(
    outputs: Any, parameters: dict[str, Any], classes: int
) -> tuple[tuple[str, ...], int]:
    """Return the wanted outputs and k. A client's wish for binary answers is not granted."""
    k = parameters.get("k", min(DEFAULT_K, classes))
    if type(k) is not int or not 1 <= k <= classes:
        raise InputError(
            "k_out_of_range",
            f"parameters.k: expected an integer from 1 to {classes}, found {show(k)}.",
        )
    if type(outputs) is not list:
        raise InputError("wrong_type", f"outputs: expected a list, found {show(outputs)}.")
    names: list[str] = []
    for index, output in enumerate(outputs):
        place = f"outputs[{index}]"
        _check_object(place, output, frozenset({"name", "parameters"}), needed=("name",))
        _check_object(f"{place}.parameters", output.get("parameters", {}))
        name = output["name"]
        if name not in OUTPUTS or name in names:
            raise InputError(
                "unknown_output",
                f"{place}.name: expected {' or '.join(OUTPUTS)}, each once, found {show(name)}.",
            )
        names.append(name)
    return tuple(names) or (OUTPUTS if "k" in parameters else OUTPUTS[:1]), k


def _parse_inputs(inputs: Any) -> dict[str, _Tensor]:
    """Return the tensors by name: `text`, or `tokens` and `lengths`."""
    if type(inputs) is not list:
        raise InputError("wrong_type", f"inputs: expected a list, found {show(inputs)}.")
    tensors: dict[str, _Tensor] = {}
    for index, tensor in enumerate(inputs[: len(AXES) + 1]):
        place = f"inputs[{index}]"
        needed = ("name", "shape", "datatype")
        _check_object(place, tensor, _TENSOR_KEYS, needed)
        name = tensor["name"]
        if type(name) is not str or name not in AXES or name in tensors:
            raise InputError(
                "unknown_input",
                f"{place}.name: expected {', '.join(AXES)}, each once, found {show(name)}.",
            )
        tensors[name] = _parse_tensor(place, name, tensor)
    if tensors.keys() not in ({"text"}, {"tokens", "lengths"}):
        raise InputError(
            "wrong_inputs",
            f"inputs: expected text, or tokens and lengths, found {', '.join(tensors) or 'none'}.",
        )
    return tensors


def _parse_tensor(place: str, name: str, tensor: dict[str, Any]) -> _Tensor:
    if tensor["datatype"] != DATATYPES[name]:
        raise InputError(
            "wrong_datatype",
            f"{place}.datatype: expected {DATATYPES[name]}, found {show(tensor['datatype'])}.",
        )
    if "data" not in tensor:
        raise InputError(
            "missing_field",
            f"{place}: expected 'data' as JSON, found none. Binary tensors and shared memory are "
            "not offered.",
        )
    shape, values = tensor["shape"], tensor["data"]
    if (
        type(shape) is not list
        or len(shape) != AXES[name]
        or not all(type(size) is int and size >= 0 for size in shape)
    ):
        raise InputError(
            "wrong_shape",
            f"{place}.shape: expected {AXES[name]} whole numbers, found {shape!r:.60}.",
        )
    if type(values) is not list:
        raise InputError("wrong_type", f"{place}.data: expected a list, found {show(values)}.")
    if len(shape) == 2 and values and type(values[0]) is list:
        # The protocol allows both forms: nested as the shape is, or flat in row-major order.
        if len(values) != shape[0] or not all(
            type(row) is list and len(row) == shape[1] for row in values
        ):
            raise InputError(
                "wrong_shape", f"{place}.data: expected rows as in the shape {shape!r:.60}."
            )
        values = list(chain.from_iterable(values))
    size = shape[0] * (shape[1] if len(shape) == 2 else 1)
    if len(values) != size:
        raise InputError(
            "wrong_shape",
            f"{place}.data: expected as many values as the shape {shape!r:.60} has, found "
            f"{len(values)}.",
        )
    kind = str if name == "text" else int
    for position, value in enumerate(values):
        if type(value) is not kind:
            raise InputError(
                "wrong_type",
                f"{place}.data[{position}]: expected {'a text' if kind is str else 'an integer'}, "
                f"found {show(value)}.",
            )
    return _Tensor(tuple(shape), values)


def _parse_ids(tokens: _Tensor, lengths: _Tensor, model: LoadedModel, k: int) -> PredictRequest:
    batch, width = tokens.shape
    if not 0 < width <= model.max_ids:
        raise InputError(
            "empty" if not width else "too_many_ids",
            f"tokens: expected rows of 1 to {model.max_ids} ids, found {width}.",
        )
    if lengths.shape[0] != batch:
        raise InputError(
            "wrong_shape", f"lengths: expected {batch}, one a row, found {lengths.shape[0]}."
        )
    for name, values, low, high in (
        ("tokens", tokens.values, 0, model.vocab_size - 1),
        ("lengths", lengths.values, 1, width),
    ):
        # Before NumPy sees them: it cannot hold every integer that JSON can.
        if min(values) < low or max(values) > high:
            bad = next(value for value in values if not low <= value <= high)
            raise InputError(
                f"{'id' if name == 'tokens' else 'length'}_out_of_range",
                f"{name}: expected {low} to {high}, found {show(bad)}.",
            )
    return PredictRequest(
        None,
        np.array(tokens.values, np.int32).reshape(batch, width),
        np.array(lengths.values, np.int32),
        k,
        False,
    )


def format_infer(
    request: InferRequest, probabilities: NDArray[np.float32], model: LoadedModel
) -> bytes:
    """Return the body of the answer: probabilities (B, C) and labels as tensors."""
    batch, classes = probabilities.shape
    outputs = []
    for name in request.outputs:
        if name == "probabilities":
            outputs.append(
                {
                    "name": name,
                    "datatype": "FP32",
                    "shape": [batch, classes],
                    "data": probabilities.ravel().tolist(),
                }
            )
        else:
            k = request.question.k
            best = rank(probabilities, k)
            outputs.append(
                {
                    "name": name,
                    "datatype": "BYTES",
                    "shape": [batch, k],
                    "data": [model.labels[label] for row in best for label, _ in row],
                }
            )
    answer = {"model_name": model.name, "model_version": str(model.version), "outputs": outputs}
    if request.id is not None:
        answer["id"] = request.id
    return pydantic_core.to_json(answer)
