"""What a worker counts, and `/metrics` over all workers of a backend.

prometheus_client decides when it is imported whether several processes share their numbers: the
supervisor sets PROMETHEUS_MULTIPROC_DIR in the workers' environment, a folder for each backend.
"""

from __future__ import annotations

import os
from collections import Counter as Tally

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.5, 1.0)


class Meters:
    """The numbers of one worker process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "gatetable_requests",
            "Inference requests by status and, where refused, by reason.",
            ["status", "reason"],
            registry=self.registry,
        )
        self._queue = Histogram(
            "gatetable_queue_seconds",
            "Seconds a request waited for its turn.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._model = Histogram(
            "gatetable_model_seconds",
            "Seconds a call of the model took.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._sequences = Counter(
            "gatetable_sequences", "Texts and rows of ids answered.", registry=self.registry
        )
        self._swaps = Counter(
            "gatetable_swaps", "Versions exchanged while serving.", registry=self.registry
        )
        self._swap_failures = Counter(
            "gatetable_swap_failures",
            "Versions that failed verification; the version before went on serving.",
            registry=self.registry,
        )
        self._version = Gauge(
            "gatetable_model_version",
            "Version in use, by process.",
            multiprocess_mode="liveall",
            registry=self.registry,
        )
        self._waiting = Gauge(
            "gatetable_waiting_requests",
            "Requests that waited for their turn when it was last looked, once a second.",
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        # Finding a child by its labels takes longer than counting.
        self._by_outcome: dict[tuple[int, str], Counter] = {}
        self._refusals: Tally[str] = Tally()

    def count(self, status: int, reason: str = "") -> None:
        """Count one finished inference request; `reason` is the error's code."""
        counter = self._by_outcome.get((status, reason))
        if counter is None:
            counter = self._requests.labels(str(status), reason)
            self._by_outcome[status, reason] = counter
        counter.inc()
        if reason:
            self._refusals[reason] += 1

    def observe_queue(self, elapsed_ns: int) -> None:
        """Note how long a request waited."""
        self._queue.observe(elapsed_ns / 1e9)

    def observe_model(self, elapsed_ns: int, sequences: int) -> None:
        """Note how long the model took for so many sequences."""
        self._model.observe(elapsed_ns / 1e9)
        self._sequences.inc(sequences)

    def note_version(self, version: int, *, is_swap: bool) -> None:
        """Note the version that answers from now on."""
        self._version.set(version)
        if is_swap:
            self._swaps.inc()

    def count_swap_failure(self) -> None:
        """Count a version that could not be used."""
        self._swap_failures.inc()

    def set_waiting(self, count: int) -> None:
        """Note how many requests wait now."""
        self._waiting.set(count)

    def take_refusals(self) -> dict[str, int]:
        """Return the refusals by reason since this was last asked."""
        taken = dict(self._refusals)
        self._refusals.clear()
        return taken

    def format(self) -> bytes:
        """Return the numbers of all workers that share a folder, in Prometheus's text format."""
        if FOLDER_VARIABLE not in os.environ:
            return generate_latest(self.registry)
        everyone = CollectorRegistry()
        MultiProcessCollector(everyone)  # type: ignore[no-untyped-call]
        return generate_latest(everyone)
