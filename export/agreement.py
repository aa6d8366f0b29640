"""The gate: every form of an artifact against the trained Keras model, on every held-out text.

Compares probabilities (and logits, where a form exposes them), the ranking of the first k classes,
and the ids that each tokenizer gives. Differences are measured first and judged afterwards, so a
refusal says everything that is wrong at once. What counts as a difference is in
`export/difference.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.difference import (
    TOLERANCE,
    AgreementError,
    BackendDifference,
    DifferenceTally,
    rank_top_k,
    round_up,
)
from export.lookup import Probe
from export.runtimes import Reference, Runtime, pad_ids
from export.weights import UNKNOWN_ID, Float32

PROBE_BATCH_SIZES = (1, 2, 3, 8, 32)
MAX_BATCH_ROWS = 256
MAX_BATCH_IDS = 16_384
"""Ids of one batch, padding included: bounds memory when texts are long."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledTexts:
    """The test split, tokenised by sentencepiece.

    Attributes:
        texts: Raw texts, at least one.
        ids: Their ids, each at least one.
        labels: Their label ids.
    """

    texts: Sequence[str]
    ids: Sequence[Sequence[int]]
    labels: Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Shares of the test split, fractions."""

    top_1: float
    top_k: float


@dataclass(frozen=True, kw_only=True)
class AgreementResult:
    """What one pass over all texts and probes found.

    Attributes:
        rows: Texts of the test split.
        probes: Golden probes, replayed at every size of `PROBE_BATCH_SIZES`.
        k: How many first classes are compared and counted.
        accuracy: Form -> accuracy on the test split, `keras` among them.
        tokenizer_differences: (form, text) whose ids differ from sentencepiece's.
        backends: One entry a form.
    """

    rows: int
    probes: int
    k: int
    accuracy: Mapping[str, Accuracy]
    tokenizer_differences: tuple[tuple[str, str], ...]
    backends: tuple[BackendDifference, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """What breaks the promise, one sentence each; empty when all agree."""
        return (
            *tokenizer_problems(self.tokenizer_differences),
            *(problem for backend in self.backends for problem in backend.problems),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the manifest's `parity` entry."""
        backends = {}
        for backend in self.backends:
            fields: dict[str, Any] = {
                "max_abs_probability_diff": round_up(backend.max_abs_probability_diff),
                "rows": self.rows,
                "tolerance": backend.bounds.probability,
                "top_k_disagreements": backend.top_k_disagreements,
            }
            if backend.max_relative_logit_diff is not None:
                fields["max_relative_logit_diff"] = round_up(backend.max_relative_logit_diff)
            backends[backend.name] = fields
        return {
            "tolerance": TOLERANCE,
            "rows": self.rows,
            "probes": self.probes,
            "probe_batch_sizes": list(PROBE_BATCH_SIZES),
            "k": self.k,
            "tokenizer_differences": len(self.tokenizer_differences),
            "backends": backends,
        }


def tokenizer_problems(differences: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield one sentence for each tokenizer that differs."""
    for name in dict.fromkeys(name for name, _ in differences):
        texts = [text for other, text in differences if other == name]
        yield (
            f"{name}: expected sentencepiece's ids for every text, found others for {len(texts)}, "
            f"first for {texts[0][:60]!r}. Train the tokenizer with model_type bpe: unigram breaks "
            "ties differently between libraries."
        )


def check_agreement(problems: Sequence[str]) -> None:
    """Refuse an artifact with problems.

    Raises:
        AgreementError: There is at least one; all are listed.
    """
    if problems:
        lines = "".join(f"\n  - {problem}" for problem in problems)
        raise AgreementError(f"The artifact does not agree with the trained model:{lines}")


def iterate_batches(ids: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Yield row numbers in batches of similar length, bounded in rows and in padded ids."""
    batch: list[int] = []
    for row in sorted(range(len(ids)), key=lambda row: (len(ids[row]), row)):
        # Sorted, so this row is the longest of its batch.
        if len(batch) == MAX_BATCH_ROWS or (len(batch) + 1) * len(ids[row]) > MAX_BATCH_IDS:
            if batch:
                yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def count_hits(probabilities: Float32, labels: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """Return how many labels are first, and how many are among the first k: (2,)."""
    ranked = rank_top_k(probabilities, k)
    hits = ranked == labels[:, None]  # (B, k)
    return np.array([hits[:, 0].sum(), hits.any(axis=1).sum()])


def find_other_ids(
    runtimes: Sequence[Runtime], texts: Sequence[str], ids: Sequence[Sequence[int]]
) -> Iterator[tuple[str, str]]:
    """Yield (form, text) where a form's tokenizer gives other ids."""
    for runtime in runtimes:
        if runtime.encode is not None:
            for text, expected, found in zip(texts, ids, runtime.encode(texts), strict=True):
                if list(expected) != found:
                    yield runtime.name, text


def _replay_edges(runtime: Runtime, unknown: Float32, tally: DifferenceTally) -> None:
    """Compare rows without tokens with what one unknown piece gives, (C,)."""
    widths = (0, 1, 3) if runtime.takes_no_steps else (1, 3)
    for width in widths:
        ids = np.zeros((2, width), np.int32)
        found = runtime.predict(["", ""], ids, np.zeros(2, np.int32))
        where = f"ids of shape {ids.shape}, lengths 0"
        tally.add(np.stack([unknown, unknown]), found, [where, where])


def _replay(runtime: Runtime, probes: Sequence[Probe], tally: DifferenceTally) -> None:
    """Compare golden probes in batches of every size, with and without extra padding."""
    expected = np.array([probe.probabilities for probe in probes], np.float32)  # (N, C)
    for size in PROBE_BATCH_SIZES:
        for start in range(0, len(probes), size):
            batch = probes[start : start + size]
            texts = [probe.text for probe in batch]
            # Odd sizes pad three columns more than the longest row needs.
            ids, lengths = pad_ids([probe.ids for probe in batch], extra=3 * (size % 2))
            found = runtime.predict(texts, ids, lengths)
            tally.add(expected[start : start + size], found, texts)
    for probe, probabilities in zip(probes, expected, strict=True):
        if probe.ids == (UNKNOWN_ID,) and not runtime.takes_text:
            _replay_edges(runtime, probabilities, tally)
            break


def replay_probes(
    runtimes: Sequence[Runtime], probes: Sequence[Probe], k: int
) -> tuple[BackendDifference, ...]:
    """Replay golden probes on every form.

    Args:
        runtimes: The forms.
        probes: Their probabilities are the reference.
        k: How many first classes are compared.

    Returns:
        One entry a form.
    """
    differences = []
    for runtime in runtimes:
        tally = DifferenceTally(runtime.name, k, runtime.bounds)
        _replay(runtime, probes, tally)
        differences.append(tally.summarise())
    return tuple(differences)


def measure_agreement(
    reference: Reference,
    runtimes: Sequence[Runtime],
    split: LabelledTexts,
    probes: Sequence[Probe],
    *,
    k: int,
    advance: Callable[[int], None] = lambda rows: None,
) -> AgreementResult:
    """Compare every form with the trained model on the whole test split and on the probes.

    Args:
        reference: The trained Keras model.
        runtimes: The forms, loaded from disk.
        split: The test split.
        probes: Golden probes.
        k: How many first classes are compared, at most C.
        advance: Called with the number of texts done since the last call.

    Returns:
        What was found. Nothing is judged: see `check_agreement`.
    """
    tallies = {
        runtime.name: DifferenceTally(runtime.name, k, runtime.bounds) for runtime in runtimes
    }
    hits = {name: np.zeros(2, np.int64) for name in ("keras", *tallies)}
    differences: list[tuple[str, str]] = []
    for batch in iterate_batches(split.ids):
        texts = [split.texts[row] for row in batch]
        rows = [split.ids[row] for row in batch]
        labels = np.array([split.labels[row] for row in batch], np.int64)
        ids, lengths = pad_ids(rows)
        logits, probabilities = reference(ids)
        hits["keras"] += count_hits(probabilities, labels, k)
        for runtime in runtimes:
            found = runtime.predict(texts, ids, lengths)
            tallies[runtime.name].add(probabilities, found, texts)
            hits[runtime.name] += count_hits(found, labels, k)
            if runtime.logits is not None:
                tallies[runtime.name].add_logits(logits, runtime.logits(ids, lengths))
        differences.extend(find_other_ids(runtimes, texts, rows))
        advance(len(batch))
    for runtime in runtimes:
        _replay(runtime, probes, tallies[runtime.name])
    probe_texts = [probe.text for probe in probes]
    differences.extend(find_other_ids(runtimes, probe_texts, [probe.ids for probe in probes]))
    rows_done = len(split.texts)
    return AgreementResult(
        rows=rows_done,
        probes=len(probes),
        k=k,
        accuracy={
            name: Accuracy(top_1=float(first) / rows_done, top_k=float(among) / rows_done)
            for name, (first, among) in hits.items()
        },
        tokenizer_differences=tuple(differences),
        backends=tuple(tally.summarise() for tally in tallies.values()),
    )
