"""What a worker counts, and `/metrics` over all workers of a backend.

prometheus_client decides when it is imported whether several processes share their numbers: the
supervisor sets PROMETHEUS_MULTIPROC_DIR in the workers' environment, a folder for each backend.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import Counter as Tally

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.5, 1.0)
_NANOSECONDS = tuple(round(seconds * 1e9) for seconds in _SECONDS)


class BatchedHistogram:
    """Counts by itself and tells a Prometheus histogram when asked to.

    A histogram that several processes share writes to a mapped file at every observation, two
    numbers of 2 to 4 µs each; a request would pay for four of them.
    """

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._counts = [0] * (len(_SECONDS) + 1)
        self._sum_ns = 0

    def observe(self, elapsed_ns: int) -> None:
        """Count one duration."""
        self._counts[bisect_left(_NANOSECONDS, elapsed_ns)] += 1
        self._sum_ns += elapsed_ns

    def flush(self) -> None:
        """Tell the histogram what was counted since this was last called."""
        for bucket, count in zip(self._histogram._buckets, self._counts, strict=True):
            if count:
                bucket.inc(count)
        if self._sum_ns:
            self._histogram._sum.inc(self._sum_ns / 1e9)
        self._counts = [0] * (len(_SECONDS) + 1)
        self._sum_ns = 0


class Meters:
    """The numbers of one worker process, told to Prometheus at `flush`.

    A process that is killed takes those since the last `flush` with it.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "gatetable_requests",
            "Inference requests by status and, where refused, by reason.",
            ["status", "reason"],
            registry=self.registry,
        )
        self._queue = self._make_histogram("queue", "Seconds a request waited for its turn.")
        self._model = self._make_histogram("model", "Seconds a call of the model took.")
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
        self._outcomes: Tally[tuple[int, str]] = Tally()
        self._rows = 0

    def _make_histogram(self, name: str, meaning: str) -> BatchedHistogram:
        histogram = Histogram(
            f"gatetable_{name}_seconds", meaning, buckets=_SECONDS, registry=self.registry
        )
        return BatchedHistogram(histogram)

    def count(self, status: int, reason: str = "") -> None:
        """Count one finished inference request; `reason` is the error's code."""
        self._outcomes[status, reason] += 1

    def observe_queue(self, elapsed_ns: int) -> None:
        """Note how long a request waited."""
        self._queue.observe(elapsed_ns)

    def observe_model(self, elapsed_ns: int, sequences: int) -> None:
        """Note how long the model took for so many sequences."""
        self._model.observe(elapsed_ns)
        self._rows += sequences

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

    def flush(self) -> dict[str, int]:
        """Tell Prometheus what happened since this was last called; return the refusals of it."""
        outcomes, self._outcomes = self._outcomes, Tally()
        for (status, reason), count in outcomes.items():
            self._requests.labels(str(status), reason).inc(count)
        self._sequences.inc(self._rows)
        self._rows = 0
        self._queue.flush()
        self._model.flush()
        return {reason: count for (_, reason), count in outcomes.items() if reason}

    def format(self) -> bytes:
        """Return the numbers of all workers that share a folder, in Prometheus's text format."""
        if FOLDER_VARIABLE not in os.environ:
            return generate_latest(self.registry)
        everyone = CollectorRegistry()
        MultiProcessCollector(everyone)  # type: ignore[no-untyped-call]
        return generate_latest(everyone)
