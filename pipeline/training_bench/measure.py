"""Rounds of child processes, and their figures: medians, ratios by round, promises, quality."""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.ablation.summary import compare
from pipeline.config import ModelConfig, TrainConfig
from pipeline.training_bench.contenders import DEFAULT, EAGER, FIT

PROMISES = ((FIT, 1.5), (EAGER, 10.0))
"""How many times the examples a second of these the default gives, at least."""
QUALITY_POINTS = 0.5
"""By how many points of validation accuracy the default may lie below Keras's fit."""
FULL_TIMEOUT_S = 6 * 3600.0
FIGURES = ("examples_per_s", "step_ms", "cpu_ms", "start_s", "peak_bytes", "padded_tokens")


class TrainingBenchError(Exception):
    """A contender could not be measured."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How thorough.

    Attributes:
        rounds: Times each contender is measured, each in a new process.
        steps: Of a pass.
        eager_steps: The same of the eager loop, which takes many times as long a step.
        passes: Measured in a process, behind one that warms up; their median counts.
        timeout_s: Of a process.
    """

    rounds: int
    steps: int
    eager_steps: int
    passes: int
    timeout_s: float = 900.0


PROFILES = {
    "full": Profile(rounds=5, steps=96, eager_steps=12, passes=3),
    "quick": Profile(rounds=1, steps=32, eager_steps=4, passes=2),
}


def run_child(job: dict[str, Any]) -> dict[str, Any]:
    """Measure a contender in a process of its own; see `worker.measure_contender`.

    Raises:
        TrainingBenchError: It failed or took too long.
    """
    what = f"contender {job['contender']}"
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.training_bench.worker"],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            timeout=job["timeout_s"],
        )
    except subprocess.TimeoutExpired as err:
        raise TrainingBenchError(
            f"{what}: expected a result within {job['timeout_s']:g} s, found none. The machine may "
            "be too busy; leave the contender out with --contenders, or use --quick."
        ) from err
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise TrainingBenchError(
            f"{what}: expected a result, found exit code {done.returncode}: {last[:300]} Leave it "
            "out with --contenders; -9 means that memory ran out."
        )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _make_job(name: str, data: Path, model: ModelConfig, training: TrainConfig) -> dict[str, Any]:
    """Return what a child needs to know of a contender, whatever it shall do with it."""
    return {
        "contender": name,
        "data": str(data),
        "model": model.to_json(),
        "training": training.to_json(),
    }


def measure(
    data: Path,
    *,
    contenders: Sequence[str],
    model: ModelConfig,
    training: TrainConfig,
    profile: Profile,
    advance: Callable[[str, int, int], None],
) -> list[dict[str, Any]]:
    """Measure the contenders round by round, in another order in each.

    Args:
        data: A prepared data folder.
        contenders: Names.
        model: The model all of them train.
        training: Batch size, rates and seed.
        profile: How thorough.
        advance: Called before each child with its name, children done, and their number.

    Returns:
        One entry a child: `round`, `contender`, and the worker's results.
    """
    entries: list[dict[str, Any]] = []
    for number in range(profile.rounds):
        order = list(contenders)
        random.Random(training.seed + number).shuffle(order)
        for name in order:
            advance(f"round {number + 1}: {name}", len(entries), profile.rounds * len(contenders))
            job = _make_job(name, data, model, training)
            found = run_child({**job, **asdict(profile), "in_full": False})
            entries.append({"round": number, "contender": name, **found})
    return entries


def train_in_full(
    data: Path,
    *,
    contenders: Sequence[str],
    model: ModelConfig,
    training: TrainConfig,
    advance: Callable[[str, int, int], None],
) -> list[dict[str, Any]]:
    """Train the default and Keras's fit in full, those of them that are among `contenders`.

    Args:
        data: A prepared data folder.
        contenders: Names.
        model: The model both train.
        training: How; both take the same schedule, loss and number of steps.
        advance: As of `measure`.

    Returns:
        One entry each: `contender` and the results of `worker.train_contender`.
    """
    chosen = [name for name in (FIT, DEFAULT) if name in contenders]
    found = []
    for number, name in enumerate(chosen):
        advance(f"training in full: {name}", number, len(chosen))
        job = _make_job(name, data, model, training)
        result = run_child({**job, "timeout_s": FULL_TIMEOUT_S, "in_full": True})
        found.append({"contender": name, **result})
    return found


def summarise(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Reduce measurements to one entry a contender, slowest first.

    Returns:
        JSON values: `contender`, the median of each of `FIGURES`, `plan`, and `ratios`: to the
        eager loop and to Keras's fit, of examples a second of the same round (fields of
        `ablation.summary.Ratio`), where those were measured.
    """
    by_name: dict[str, list[dict[str, Any]]] = {}
    for entry in sorted(entries, key=lambda entry: int(entry["round"])):
        by_name.setdefault(entry["contender"], []).append(entry)
    summary = []
    for name, rounds in by_name.items():
        rates = [entry["examples_per_s"] for entry in rounds]
        ratios = {
            rival: asdict(compare(rates, [entry["examples_per_s"] for entry in by_name[rival]]))
            for rival in (EAGER, FIT)
            if rival in by_name
        }
        medians = {
            figure: statistics.median(entry[figure] for entry in rounds) for figure in FIGURES
        }
        plans = [entry["plan"] for entry in rounds if entry["plan"]]
        summary.append(
            {"contender": name, **medians, "plan": plans[-1] if plans else None, "ratios": ratios}
        )
    return sorted(summary, key=lambda entry: float(entry["examples_per_s"]))


def check_promises(
    summary: Sequence[dict[str, Any]], quality: Sequence[dict[str, Any]] = ()
) -> list[dict[str, Any]]:
    """Hold the default to what it promises; the median of the rounds counts.

    Args:
        summary: Of `summarise`.
        quality: Of `train_in_full`.

    Returns:
        One entry a promise that was measured: `what`, `target`, `found`, `is_held`.
    """
    ratios = {entry["contender"]: entry["ratios"] for entry in summary}.get(DEFAULT, {})
    promises = []
    for rival, target in PROMISES:
        if rival in ratios:
            found = ratios[rival]["median"]
            promises.append(
                {
                    "what": f"examples a second of {DEFAULT} against {rival}",
                    "target": f">= {target:g}x",
                    "found": f"{found:.2f}x",
                    "is_held": found >= target,
                }
            )
    top_1 = {entry["contender"]: 100 * float(entry["top_1"]) for entry in quality}
    if {FIT, DEFAULT} <= top_1.keys():
        promises.append(
            {
                "what": f"validation top-1 of {DEFAULT} against {FIT}, both trained in full",
                "target": f">= -{QUALITY_POINTS:g} points",
                "found": f"{top_1[DEFAULT] - top_1[FIT]:+.2f} points",
                "is_held": top_1[DEFAULT] - top_1[FIT] >= -QUALITY_POINTS,
            }
        )
    return promises
