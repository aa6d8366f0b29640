"""How thoroughly the backends are compared over HTTP."""

from __future__ import annotations

from dataclasses import dataclass

SLO_P99_MS = 10.0
"""Most that the p99 may be: nobody notices it, and a slow model on one core still can meet it."""
HTTP_BACKENDS = ("saved_model", "onnx", "lookup", "null")
"""What goes over HTTP where no backends are named."""
NUM_TEXTS = 256
BATCH_SIZE = 64
MIN_REQUESTS = 1000
"""Of a probe in the rounds: what a p99 needs."""
MAX_STRETCH = 4
"""A probe of a slow backend lasts at most so many times its duration to reach that number."""


@dataclass(frozen=True, kw_only=True)
class HttpProfile:
    """Durations of the scenarios.

    Attributes:
        name: As in the comparison in the process.
        rounds: Fresh servers, and probes of every backend.
        search_s: A probe of the first search.
        probe_s: A probe of the rounds.
        single_s: Single stream, each round.
        offline_s: Batches, each round.
        outside_s: The foreign tool, and we beside it.
        max_duration_s: No further round is begun that would likely end behind this time.
    """

    name: str
    rounds: int
    search_s: float
    probe_s: float
    single_s: float
    offline_s: float
    outside_s: float
    max_duration_s: float

    def stretch_probe(self, rate_per_s: float) -> float:
        """Return the duration of a probe of the rounds in s: longer where requests are few."""
        return min(max(self.probe_s, MIN_REQUESTS / rate_per_s), MAX_STRETCH * self.probe_s)


HTTP_PROFILES = {
    profile.name: profile
    for profile in (
        HttpProfile(
            name="quick",
            rounds=2,
            search_s=0.5,
            probe_s=1.0,
            single_s=0.5,
            offline_s=0.3,
            outside_s=0.5,
            max_duration_s=120.0,
        ),
        HttpProfile(
            name="default",
            rounds=6,
            search_s=1.5,
            probe_s=2.5,
            single_s=1.0,
            offline_s=1.0,
            outside_s=2.0,
            max_duration_s=1200.0,
        ),
        HttpProfile(
            name="thorough",
            rounds=12,
            search_s=3.0,
            probe_s=20.0,
            single_s=10.0,
            offline_s=5.0,
            outside_s=10.0,
            max_duration_s=7200.0,
        ),
    )
}
