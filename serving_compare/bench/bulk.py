"""Many rows at once, ids in: sequences a second on one core, each runtime in the ways it is used.

A runtime that computes padding is given its batch whole, as a server without thought would, and
sorted by length in pieces of 8 or 32, as one with thought would; sorting and putting back are part
of the time. The lookup engines take the batch as it comes and sort it themselves.

Cells: `bulk_<B>`. Names: `onnx whole`, `onnx sorted 32`, ...; the engines keep their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from serving_compare.bench.forms import Call, Form
from serving_compare.bench.interleave import BlockLimits, Measured, measure_warm
from serving_compare.bench.models import draw_batch

if TYPE_CHECKING:
    from serving_compare.bench.forms import Ids, Lengths, Probabilities

SEQUENCES = 512
"""As many sequences are asked in turn, in batches of a size; at least one batch."""
PIECES = {"onnx": (8, 32), "saved_model": (32,)}
"""Runtime to the sizes of the pieces it is given a sorted batch in."""
WHOLE = "whole"


def split_bulk_name(name: str) -> tuple[str, str]:
    """Return form and way: `onnx sorted 32` gives ("onnx", "sorted 32"), engines give ""."""
    for form in PIECES:
        if name.startswith(f"{form} "):
            return form, name[len(form) + 1 :]
    return name, ""


def list_bulk_names(forms: Iterable[str]) -> list[str]:
    """Return the ways in which the given forms take batches, in the order of the tables."""
    forms = list(forms)
    names = [name for name in forms if name.startswith("lookup ")]
    for form, sizes in PIECES.items():
        if form in forms:
            names += [f"{form} {WHOLE}", *(f"{form} sorted {size}" for size in sizes)]
    return names


def make_bulk_call(form: Form, way: str) -> Call:
    """Return a call for whole batches.

    Args:
        form: Whose call takes batches of any shape.
        way: "" or "whole", or "sorted <n>".
    """
    call = form.make_call(0)
    if not way.startswith("sorted "):
        return call
    size = int(way.removeprefix("sorted "))

    def sorted_call(ids: Ids, lengths: Lengths) -> Probabilities:
        order = np.argsort(-lengths, kind="stable")
        pieces = []
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            piece_lengths = lengths[rows]
            # Sorted: the first row of a piece is its longest.
            pieces.append(call(np.ascontiguousarray(ids[rows, : piece_lengths[0]]), piece_lengths))
        answers: Probabilities = np.empty((len(order), pieces[0].shape[1]), np.float32)
        answers[order] = np.concatenate(pieces)
        return answers

    return sorted_call


def measure_bulk(
    forms: Mapping[str, Form],
    job: Mapping[str, Any],
    *,
    random: np.random.Generator,
    timer_cost_ns: int,
) -> Measured:
    """Time every way of every form at every batch size.

    Args:
        forms: By name, loaded; those without a way to take batches are passed over.
        job: `vocab_size`, `batch_sizes`, `bulk_limits` (fields of `BlockLimits`), `data_seed`.
        random: Draws every order.
        timer_cost_ns: Of this process.
    """
    calls = {}
    for name in list_bulk_names(forms):
        form, way = split_bulk_name(name)
        calls[name] = make_bulk_call(forms[form], way)
    for size in job["batch_sizes"]:
        requests = [
            draw_batch(job["vocab_size"], size, seed=job["data_seed"] + number)
            for number in range(max(1, SEQUENCES // size))
        ]
        measured = measure_warm(
            {name: (call, requests) for name, call in calls.items()},
            BlockLimits(**job["bulk_limits"]),
            random=random,
            timer_cost_ns=timer_cost_ns,
        )
        yield from ((name, f"bulk_{size}", samples) for name, samples in measured.items())
