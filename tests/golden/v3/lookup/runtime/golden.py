"""Golden probes: texts with their ids and the trained model's answers, shipped in the folder.

A reader replays them, so that a folder proves on the machine where it is loaded that it still
gives what Keras gave. `format_golden` and `parse_golden` are inverses.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .config import LookupConfig
from .errors import REMEDY, GoldenError
from .manifest import TOLERANCE, parse_json


@dataclass(frozen=True)
class Probe:
    """One probe.

    Attributes:
        text: Raw text.
        ids: Its token ids, at least one.
        probabilities: The Keras model's C probabilities, float32 values.
    """

    text: str
    ids: tuple[int, ...]
    probabilities: tuple[float, ...]


def format_golden(probes: Iterable[Probe]) -> str:
    """Return the probes as JSON Lines, each float in the fewest digits that give float32 back."""
    return "".join(
        json.dumps(
            {
                "text": probe.text,
                "ids": [int(token) for token in probe.ids],
                "probabilities": [float(str(np.float32(p))) for p in probe.probabilities],
            },
            ensure_ascii=False,
            allow_nan=False,
        )
        + "\n"
        for probe in probes
    )


def check_probe(probe: Probe, config: LookupConfig) -> None:
    """Check one probe against the shape of the model.

    Raises:
        ValueError: No ids, an id out of range, or not C probabilities.
    """
    if not probe.ids:
        raise ValueError("ids: expected at least one, found none.")
    for token in probe.ids:
        if isinstance(token, bool) or not isinstance(token, int):
            raise ValueError(f"ids: expected integers, found {token!r}.")
        if not 0 <= token < config.vocab_size:
            raise ValueError(f"ids: expected 0 to {config.vocab_size - 1}, found {token}.")
    if len(probe.probabilities) != config.num_classes:
        raise ValueError(
            f"probabilities: expected {config.num_classes}, found {len(probe.probabilities)}."
        )
    # A float32 softmax may exceed 1 by its rounding. NaN fails every comparison, bool is no float.
    limit = 1 + TOLERANCE
    bad = [
        value
        for value in probe.probabilities
        if type(value) not in (float, int) or not 0 <= value <= limit
    ]
    if bad:
        raise ValueError(f"probabilities: expected numbers from 0 to 1, found {bad[0]!r}.")


def parse_golden(data: bytes, config: LookupConfig, place: str) -> tuple[Probe, ...]:
    """Parse and check the bytes of a `golden.jsonl`.

    Args:
        data: The file's bytes, already bounded.
        config: Shape of the model.
        place: The file's path, for messages.

    Returns:
        The probes, at least one.

    Raises:
        GoldenError: A line is not of the documented form, or there is none.
    """
    lines = data.split(b"\n")
    if len(lines) < 2 or lines.pop():
        raise GoldenError(
            f"{place}: expected one JSON object a line, each line ended, found "
            f"{len(data)} bytes without such an end. {REMEDY}"
        )
    probes = []
    for number, line in enumerate(lines, start=1):
        try:
            fields = parse_json(line)
            if not isinstance(fields, dict) or fields.keys() != {"text", "ids", "probabilities"}:
                raise ValueError("expected an object with text, ids and probabilities.")
            text, ids, probabilities = fields["text"], fields["ids"], fields["probabilities"]
            if not (
                isinstance(text, str) and isinstance(ids, list) and isinstance(probabilities, list)
            ):
                raise ValueError("expected a string, a list and a list.")
            probe = Probe(text, tuple(ids), tuple(probabilities))
            check_probe(probe, config)
        except ValueError as err:
            raise GoldenError(f"{place} line {number}: {err} {REMEDY}") from err
        probes.append(probe)
    return tuple(probes)
