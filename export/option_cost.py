"""Measures what every compressed option of the lookup folder costs on the test split.

Needs no artifact: the arrays are compressed in memory and answered by the engine that loading a
folder would choose. The judgement is in `export/compression.py`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.agreement import LabelledTexts, count_hits, iterate_batches
from export.compress import compress_arrays
from export.compression import (
    EXACT_OPTION,
    NAMED_OPTIONS,
    CompressionResult,
    Option,
    OptionCost,
)
from export.difference import rank_top_k
from export.lookup import LookupConfig, LookupFiles, LookupModel, Probe, array_specs
from export.runtimes import pad_ids
from export.weights import Float32

LATENCY_TEXTS = 200
LATENCY_ROUNDS = 7
"""Options are timed in turn, so that a busy moment hits all of them."""


def _softmax(logits: Float32) -> Float32:
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def _find_differences(exact: Float32, found: Float32) -> NDArray[np.float64]:
    """Return largest absolute and relative logit and absolute probability differences, (3,)."""
    # NaN compares false with everything: make it the worst there is.
    difference = np.nan_to_num(np.abs(found - exact), nan=np.inf)
    scale = np.maximum(np.abs(exact).max(axis=1, keepdims=True), 1.0)  # (B, 1)
    shares = np.nan_to_num(np.abs(_softmax(found) - _softmax(exact)), nan=np.inf)
    return np.array([difference.max(), (difference / scale).max(), shares.max()], np.float64)


class _Tally:
    """Adds up what one option costs, batch by batch."""

    def __init__(self) -> None:
        self.differences = np.zeros(3)
        self.changes = np.zeros(2, np.int64)
        self.hits = np.zeros(2, np.int64)

    def add(self, exact: Float32, found: Float32, labels: NDArray[np.int64], k: int) -> None:
        """Add the logits (B, C) of texts with `labels` (B,)."""
        self.add_probes(exact, found)
        expected, ranked = rank_top_k(_softmax(exact), k), rank_top_k(_softmax(found), k)
        self.changes[0] += (expected[:, 0] != ranked[:, 0]).sum()
        self.changes[1] += (np.sort(expected, axis=1) != np.sort(ranked, axis=1)).any(axis=1).sum()
        self.hits += count_hits(_softmax(found), labels, k)

    def add_probes(self, exact: Float32, found: Float32) -> None:
        """Add the logits (B, C) of texts without a label."""
        self.differences = np.maximum(self.differences, _find_differences(exact, found))


def load_option(
    arrays: Mapping[str, NDArray[np.floating]], config: LookupConfig, option: Option
) -> LookupModel:
    """Return the model that an option would make of a run, without touching the disk.

    Args:
        arrays: The exact arrays, gate tables float64 where they exist so.
        config: Shape of the model.
        option: How its numbers are stored.
    """
    stored = dataclasses.replace(config, **option._asdict())
    files = LookupFiles(
        folder=Path(),
        config=stored,
        max_tokens=1,  # of texts; nobody gives it any
        arrays=compress_arrays(arrays, stored),
        labels=tuple(map(str, range(config.num_classes))),
        tokenizer=b"",
        golden=(),
    )
    return LookupModel(files, check_tokenizer=False)


def _measure_latency(
    models: Mapping[Option, LookupModel], ids: Sequence[Sequence[int]]
) -> dict[Option, float]:
    """Return median microseconds a text of each model, one text a call, on a fixed sample.

    They are of this thread's CPU time: tf2onnx may be at work beside it, and others.
    """
    sample = [pad_ids([row]) for row in ids[:: max(1, len(ids) // LATENCY_TEXTS)][:LATENCY_TEXTS]]
    rounds: dict[Option, list[float]] = {option: [] for option in models}
    for _ in range(LATENCY_ROUNDS):
        for option, model in models.items():
            start_ns = time.thread_time_ns()
            for tokens, lengths in sample:
                model.logits(tokens, lengths)
            rounds[option].append((time.thread_time_ns() - start_ns) / len(sample) / 1e3)
    # The first round warms caches up.
    return {option: float(np.median(values[1:])) for option, values in rounds.items()}


def measure_options(
    arrays: Mapping[str, NDArray[np.floating]],
    config: LookupConfig,
    chosen: Option,
    split: LabelledTexts,
    probes: Sequence[Probe],
    *,
    k: int,
    advance: Callable[[int], None] = lambda rows: None,
) -> CompressionResult:
    """Measure every named option and the chosen combination on the whole test split.

    All of them are in memory at once, so that one pass of the exact arrays serves all: some five
    times the exact tables, `arrays` included.

    Args:
        arrays: The exact arrays, gate tables float64 where they exist so.
        config: Shape of the model.
        chosen: The option that the export shall use.
        split: The test split.
        probes: The golden probes; they count for differences only.
        k: How many first classes count as found, at most C.
        advance: Called with the number of texts done since the last call.

    Returns:
        What was found. Nothing is judged: see `check_accuracy_loss`.
    """
    options = dict.fromkeys((*NAMED_OPTIONS, chosen))
    models = {option: load_option(arrays, config, option) for option in options}
    tallies = {option: _Tally() for option in models}
    for batch in iterate_batches(split.ids):
        labels = np.array([split.labels[row] for row in batch], np.int64)
        logits = _answer(models, [split.ids[row] for row in batch])
        for option, found in logits.items():
            tallies[option].add(logits[EXACT_OPTION], found, labels, k)
        advance(len(batch))
    probe_ids = [probe.ids for probe in probes]
    for batch in iterate_batches(probe_ids):
        logits = _answer(models, [probe_ids[row] for row in batch])
        for option, found in logits.items():
            tallies[option].add_probes(logits[EXACT_OPTION], found)
    latencies_us = _measure_latency(models, split.ids)
    costs = []
    for option, tally in tallies.items():
        specs = array_specs(dataclasses.replace(config, **option._asdict()))
        costs.append(
            OptionCost(
                option=option,
                array_bytes=sum(spec.size for spec in specs.values()),
                max_abs_logit_diff=float(tally.differences[0]),
                max_relative_logit_diff=float(tally.differences[1]),
                max_abs_probability_diff=float(tally.differences[2]),
                top_1_changes=int(tally.changes[0]),
                top_k_changes=int(tally.changes[1]),
                top_1_hits=int(tally.hits[0]),
                top_k_hits=int(tally.hits[1]),
                latency_us=latencies_us[option],
            )
        )
    return CompressionResult(
        rows=len(split.texts),
        k=k,
        engine=models[EXACT_OPTION].engine.name,
        costs=tuple(costs),
    )


def _answer(
    models: Mapping[Option, LookupModel], rows: Sequence[Sequence[int]]
) -> dict[Option, Float32]:
    ids, lengths = pad_ids(rows)
    return {option: model.logits(ids, lengths) for option, model in models.items()}
