"""The child process of a benchmark: `python -m serving_compare.bench.worker`.

A JSON job comes on stdin, arrays go to `<output>.npz` and facts to `<output>.json` (written last).
Modes:

    probe   load forms of an untrained model, or say why not, and answer every request
    model   time forms of an untrained model: lengths, floor, batches
    text    load the forms of an artifact, check that they agree, time texts
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from serving_compare.agreement import TOLERANCE
from serving_compare.backends import ArtifactFiles
from serving_compare.bench.bulk import measure_bulk
from serving_compare.bench.forms import OWN_FORMS, Form, FormFiles, UnavailableError
from serving_compare.bench.interleave import Measured
from serving_compare.bench.peers import PEER_FORMS
from serving_compare.bench.steps import ask_all, measure_lengths
from serving_compare.bench.text import (
    ask_texts,
    count_disagreements,
    load_text_form,
    measure_texts,
)
from serving_compare.sampling import measure_timer_cost_ns
from serving_compare.whole_file import write_whole
from serving_compare.worker import settle_process

FORMS = {**OWN_FORMS, **PEER_FORMS}
"""Every form of an untrained model by name, in the order of the tables."""

Arrays = dict[str, Any]
Facts = dict[str, Any]


def run_job(job: Mapping[str, Any]) -> None:
    """Do what `job` says and write its results.

    Args:
        job: `mode`, `forms` (names), `core` (number or null), `timeout_s`, `output` (path without
            suffix) and the mode's own fields.
    """
    settle_process(job)
    arrays, facts = MODES[job["mode"]](job)
    output = Path(job["output"])
    np.savez(output.with_suffix(".npz"), allow_pickle=False, **arrays)
    write_whole(output.with_suffix(".json"), json.dumps(facts))


def _load_forms(job: Mapping[str, Any]) -> tuple[dict[str, Form], dict[str, str]]:
    """The forms that can run here, and why the others cannot."""
    files = FormFiles(**job["files"])
    forms: dict[str, Form] = {}
    unavailable: dict[str, str] = {}
    for name in job["forms"]:
        try:
            forms[name] = FORMS[name](files)
        except UnavailableError as err:
            unavailable[name] = str(err)
    return forms, unavailable


def _probe(job: Mapping[str, Any]) -> tuple[Arrays, Facts]:
    forms, unavailable = _load_forms(job)
    return dict(ask_all(forms, job)), {"unavailable": unavailable}


def _time_model(job: Mapping[str, Any]) -> tuple[Arrays, Facts]:
    forms, _ = _load_forms(job)
    random = np.random.default_rng(job["order_seed"])
    timer_cost_ns = measure_timer_cost_ns()
    arrays, cells = _collect(
        measure_lengths(forms, job, random=random, timer_cost_ns=timer_cost_ns)
    )
    more_arrays, more_cells = _collect(
        measure_bulk(forms, job, random=random, timer_cost_ns=timer_cost_ns)
    )
    for name, found in more_cells.items():
        cells.setdefault(name, {}).update(found)
    return {**arrays, **more_arrays}, {"timer_cost_ns": timer_cost_ns, "cells": cells}


def _time_texts(job: Mapping[str, Any]) -> tuple[Arrays, Facts]:
    files = ArtifactFiles(**job["files"])
    asks = {name: load_text_form(name, files) for name in job["forms"]}
    answers = ask_texts(asks, job["texts"])
    first = next(iter(answers.values()))
    arrays, cells = _collect(
        measure_texts(asks, job, random=np.random.default_rng(job["order_seed"]))
    )
    return arrays, {
        "disagreements": {
            name: count_disagreements(first, found, tolerance=job["tolerance"] + TOLERANCE)
            for name, found in answers.items()
        },
        "timer_cost_ns": measure_timer_cost_ns(),
        "cells": cells,
    }


def _collect(measured: Measured) -> tuple[Arrays, dict[str, Facts]]:
    """Arrays named <form>/<cell>, and what must be known of each to read it."""
    arrays: Arrays = {}
    cells: dict[str, Facts] = {}
    for name, cell, samples in measured:
        arrays[f"{name}/{cell}"] = samples.elapsed_ns
        cells.setdefault(name, {})[cell] = {
            "inner_loops": samples.inner_loops,
            "warm_up_calls": samples.warm_up_calls,
            "is_warm": samples.is_warm,
        }
    return arrays, cells


MODES: dict[str, Callable[[Mapping[str, Any]], tuple[Arrays, Facts]]] = {
    "probe": _probe,
    "model": _time_model,
    "text": _time_texts,
}

if __name__ == "__main__":
    run_job(json.load(sys.stdin))
