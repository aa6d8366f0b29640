"""From a raw text to its three best labels, batch 1: what a caller of an artifact asks for.

The texts are those of the test split, each asked once a pass, in an order of its own in each
process; the forms take turns in blocks of texts. The ids-in forms tokenise with sentencepiece; the
lookup engines with their word table, where the artifact has one.

Cell: `text`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serving_compare.backends import (
    ArtifactFiles,
    Backend,
    OnnxBackend,
    SavedModelBackend,
    StageClock,
)
from serving_compare.bench.forms import NATIVE
from serving_compare.bench.interleave import Measured, measure_single

TEXT_CELL = "text"
TOP_K = 3
Answer = list[tuple[str, float]]
"""Labels with their probabilities, best first."""
Ask = Callable[[str], Answer]
LOOKUP_NUMPY = "lookup numpy"
TEXT_FORMS = (NATIVE, LOOKUP_NUMPY, "onnx", "saved_model")
"""In the order of the tables."""


def load_text_form(name: str, files: ArtifactFiles) -> Ask:
    """Return the function from one text to its best labels."""
    if name in (NATIVE, LOOKUP_NUMPY):
        return _load_lookup(name, files)
    backend: Backend = OnnxBackend() if name == "onnx" else SavedModelBackend()
    backend.load(files, "text", StageClock(time.perf_counter_ns()))
    labels = json.loads(Path(files.lookup, "labels.json").read_text(encoding="utf-8"))
    run = backend.run_texts

    def ask(text: str) -> Answer:
        (row,) = run([text])
        return [(labels[i], float(row[i])) for i in np.argsort(-row, kind="stable")[:TOP_K]]

    return ask


def _load_lookup(name: str, files: ArtifactFiles) -> Ask:
    from export.lookup import load_lookup

    model = load_lookup(
        Path(files.lookup),
        engine=name.removeprefix("lookup "),
        check_hashes=False,
        replay_golden=False,
    )
    return lambda text: model.predict([text], TOP_K)[0]


def ask_texts(asks: Mapping[str, Ask], texts: Sequence[str]) -> dict[str, list[Answer]]:
    """Return each form's answers to all texts."""
    return {name: [ask(text) for text in texts] for name, ask in asks.items()}


def count_disagreements(
    first: Sequence[Answer], second: Sequence[Answer], *, tolerance: float
) -> int:
    """Return to how many texts two forms give other answers.

    Args:
        first: Answers of one form.
        second: Answers of another to the same texts.
        tolerance: Probabilities at the same place may differ by so much; labels may differ where
            a neighbour's probability is as close as that. Behind the last place nothing is known,
            so a label there may differ.
    """
    return sum(
        not all(
            abs(p - q) <= tolerance and (label == other or _is_tied(answer, place, tolerance))
            for place, ((label, p), (other, q)) in enumerate(zip(answer, against, strict=True))
        )
        for answer, against in zip(first, second, strict=True)
    )


def _is_tied(answer: Answer, place: int, tolerance: float) -> bool:
    if place == len(answer) - 1:
        return True
    return any(
        abs(answer[place][1] - answer[neighbour][1]) <= tolerance
        for neighbour in (place - 1, place + 1)
        if neighbour >= 0
    )


def measure_texts(
    asks: Mapping[str, Ask], job: Mapping[str, Any], *, random: np.random.Generator
) -> Measured:
    """Time every form on every text.

    Args:
        asks: Form to the function from a text to its best labels.
        job: `texts`.
        random: Draws every order.
    """
    texts = job["texts"]
    requests = [(texts[int(i)],) for i in random.permutation(len(texts))]
    measured = measure_single({name: (ask, requests) for name, ask in asks.items()}, random=random)
    yield from ((name, TEXT_CELL, samples) for name, samples in measured.items())
