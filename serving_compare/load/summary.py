"""From raw results over HTTP to the report's `http` section: a pure function."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from serving_compare.load.capacity import is_void
from serving_compare.load.recording import Recording
from serving_compare.load.results import Http, Json, Probe
from serving_compare.statistics import bootstrap_quantile, compare_rounds, quantile

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_REQUESTS_P99 = 1000
"""Fewer requests than this have fewer than ten above their 99th percentile."""
NULL = "null"
"""The backend whose model does nothing: what HTTP alone costs. Not a rival of the others."""


def summarise_http(http: Http) -> Json:
    """Return the report's `http` section: times in µs, rates per second.

    Latencies count from the scheduled time, service times from the sending. `ci95` are bootstrap
    intervals over rounds, null with a single one.
    """
    settings = http.settings
    return {
        **{
            name: settings[name]
            for name in (
                *("slo_p99_ms", "workers", "server_cores", "generator_cores", "seed", "duration_s"),
            )
        },
        "backends": {backend: _summarise_backend(http, backend) for backend in http.backends},
        "ratios": _compare_capacities(http),
    }


def summarise_latency(recordings: Sequence[Recording]) -> Json | None:
    """Return `median_us`, `ci95`, `p99_us` and `n` of the answered requests of several rounds.

    None where nothing was answered.
    """
    rounds = [recording.latency_ns[recording.is_ok] / 1000 for recording in recordings]
    rounds = [values for values in rounds if len(values)]
    if not rounds:
        return None
    pooled = np.concatenate(rounds)
    interval = bootstrap_quantile(rounds, 0.5)
    return {
        "median_us": _round(quantile(pooled, 0.5)),
        "ci95": interval and [_round(value) for value in interval],
        "p99_us": _percentile_99(pooled),
        "n": len(pooled),
    }


def summarise_rate(rate_per_s: float, recordings: Sequence[Recording]) -> Json:
    """Return one point of the curve, from all probes of one rate.

    Void probes are left out, unless there are no others.
    """
    valid = [recording for recording in recordings if not is_void(recording)]
    used = valid or list(recordings)
    seconds = sum(max(int(r.last_ns.max()), int(r.scheduled_ns.max())) / 1e9 for r in used)
    latency = np.concatenate([r.latency_ns[r.is_ok] for r in used]) / 1000
    service = np.concatenate([r.service_ns[r.is_ok] for r in used]) / 1000
    return {
        "rate_per_s": _round(rate_per_s),
        "achieved_per_s": _round(len(latency) / seconds),
        "p50_us": _round(quantile(latency, 0.5)) if len(latency) else None,
        "p99_us": _percentile_99(latency),
        "service_p50_us": _round(quantile(service, 0.5)) if len(service) else None,
        "service_p99_us": _percentile_99(service),
        "refused": sum(int(r.is_refused.sum()) for r in used),
        "errors": sum(int(r.is_error.sum()) for r in used),
        "n": sum(len(r.status) for r in used),
        "lag_p99_us": _round(quantile(np.concatenate([r.lag_ns for r in used]), 0.99) / 1000),
        "valid": bool(valid),
    }


def _summarise_backend(http: Http, backend: str) -> Json:
    single = summarise_latency(http.recordings_of(backend, "single_stream"))
    inside = http.in_process.get(backend)
    inside_us = inside and inside["median_us"]
    share = None
    if inside_us is not None and single is not None:
        share = _round(max(0.0, 1 - inside_us / single["median_us"]))
    return {
        "single_stream": single and {**single, "in_process_median_us": inside_us},
        "offline": _summarise_offline(http, backend),
        "server": _summarise_capacity(http, backend),
        "curve": _make_curve(http, backend),
        "outside": http.outside.get(backend),
        "http_share": {
            "single_stream": share,
            "note": "1 - median in the process / median over HTTP, the same texts on the same core",
        },
    }


def _summarise_offline(http: Http, backend: str) -> Json | None:
    found = summarise_latency(http.recordings_of(backend, "offline"))
    if found is None:
        return None
    size = http.settings["batch_size"]

    def per_second(latency_us: float) -> float:
        return _round(size * 1e6 / latency_us)

    return {
        "sequences_per_s": per_second(found["median_us"]),
        "ci95": found["ci95"] and sorted(per_second(value) for value in found["ci95"]),
        "batch_size": size,
        "n": found["n"],
    }


def _summarise_capacity(http: Http, backend: str) -> Json:
    capacities = http.capacities_of(backend)
    rates = [capacity.rate_per_s or 0.0 for capacity in capacities]
    # One number a round: the same bootstrap, over rounds of one sample.
    interval = bootstrap_quantile([np.array([rate]) for rate in rates], 0.5) if rates else None
    reasons = Counter(capacity.limited_by for capacity in capacities)
    return {
        "max_rate_per_s": _round(quantile(rates, 0.5)) if rates else 0.0,
        "ci95": interval and [_round(value) for value in interval],
        "rounds": len(rates),
        "limited_by": reasons.most_common(1)[0][0] if reasons else "generator",
    }


def _make_curve(http: Http, backend: str) -> list[Json]:
    probes: dict[float, list[Probe]] = {}
    for probe in http.probes:
        if probe.backend == backend and probe.rate_per_s is not None and len(probe.recording):
            probes.setdefault(probe.rate_per_s, []).append(probe)
    return [
        summarise_rate(rate, [probe.recording for probe in probes[rate]]) for rate in sorted(probes)
    ]


def _compare_capacities(http: Http) -> list[Json]:
    """Pair the rounds of every two backends; a round in which one held nothing tells no ratio."""
    ratios = []
    for first, second in combinations([name for name in http.backends if name != NULL], 2):
        rates = {
            backend: {c.round: c.rate_per_s for c in http.capacities_of(backend) if c.rate_per_s}
            for backend in (first, second)
        }
        rounds = sorted(rates[first].keys() & rates[second].keys())
        if not rounds:
            continue
        # `compare_rounds` is given times, of which the smaller one wins: seconds a request.
        found = compare_rounds(
            [1 / rates[second][number] for number in rounds],
            [1 / rates[first][number] for number in rounds],
        )
        ratios.append(
            {
                "first": first,
                "second": second,
                "of": "max_rate_per_s",
                "ratio": _round(found.ratio),
                "ci95": found.ci95 and [_round(value) for value in found.ci95],
                "winner": None if found.winner is None else (second, first)[found.winner],
            }
        )
    return ratios


def _percentile_99(values_us: NDArray[Any]) -> float | None:
    return _round(quantile(values_us, 0.99)) if len(values_us) >= MIN_REQUESTS_P99 else None


def _round(value: float) -> float:
    """Six digits: more would be noise."""
    return float(f"{value:.6g}")
