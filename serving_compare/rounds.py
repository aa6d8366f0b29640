"""The timed part of a comparison: rounds of fresh children that take turns, slice by slice.

A round starts one child of each backend, one after the other: their cold starts are measured then.
All stay alive, blocked on a pipe and pinned to one core, and are asked for slices in turn, so that
a slow stretch of the machine, which lasts longer than a slice, meets all of them. Before, a child
ran all its cells in one go: that took six seconds, longer than the machine's moods.

The all-cores row has children of its own, with a thread a core, since a runtime's threads cannot be
changed in a process. They are started all at once, as nothing of that is measured.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from serving_compare.child import ChildJob, Partner
from serving_compare.machine import allowed_cores, reserve_core
from serving_compare.schedule import Profile, Round, has_time_for_round, make_rounds
from serving_compare.workload import split_cell

if TYPE_CHECKING:
    from numpy.typing import NDArray

Progress = Callable[[str, float], None]
"""Called with what was just done and the finished share of the work, 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Timings:
    """What the rounds measured; fields as in `Results`."""

    processes: list[dict[str, Any]] = field(default_factory=list)
    samples: dict[tuple[int, str, str], NDArray[np.int64]] = field(default_factory=dict)


def time_backends(
    backends: Sequence[str],
    cells: Sequence[str],
    profile: Profile,
    common: Mapping[str, Any],
    *,
    seed: int,
    scratch: Path,
    progress: Progress,
    began: float,
) -> Timings:
    """Run as many of the profile's rounds as its time limit allows, at least one.

    Args:
        backends: Names.
        cells: Of the workload.
        profile: How thoroughly.
        common: Fields of every child's job.
        seed: Of the schedule.
        scratch: An existing folder for the children's files.
        progress: Told of every slice.
        began: `time.monotonic()` when the comparison began.

    Raises:
        ChildError: A child failed; all others were ended.
    """
    wide = [cell for cell in cells if split_cell(cell)[0] == "all_cores"]
    narrow = [cell for cell in cells if cell not in wide]
    schedule = make_rounds(
        backends, narrow, rounds=profile.rounds, slices=profile.slices, seed=seed
    )
    wide_schedule = make_rounds(
        backends,
        wide,
        rounds=profile.rounds,
        slices=max(1, profile.slices // 2),  # a slice of it is long: it is one pass over batches
        seed=seed + 1,
    )
    threads = len(allowed_cores() or [None])
    if threads == 1 or not profile.all_cores:
        wide_schedule = []
    timings = Timings()
    rounds_s: list[float] = []
    for number, one in enumerate(schedule):
        round_began = time.monotonic()
        if not has_time_for_round(
            elapsed_s=round_began - began, rounds_s=rounds_s, limit_s=profile.max_duration_s
        ):
            break

        def tell(step: str, share: float, number: int = number) -> None:
            progress(step, (number + share) / len(schedule))

        with reserve_core() as core:
            _run_round(one, profile, common, scratch, core=core, threads=1, tell=tell, out=timings)
        if wide_schedule:
            _run_round(
                wide_schedule[number],
                profile,
                common,
                scratch,
                core=None,
                threads=threads,
                tell=lambda step, share: None,
                out=timings,
            )
        rounds_s.append(time.monotonic() - round_began)
    return timings


def _run_round(
    one: Round,
    profile: Profile,
    common: Mapping[str, Any],
    scratch: Path,
    *,
    core: int | None,
    threads: int,
    tell: Progress,
    out: Timings,
) -> None:
    jobs = {
        backend: ChildJob(
            name=f"{backend}, round {one.number + 1}",
            fields={
                **common,
                "mode": "sample",
                "backend": backend,
                "threads": threads,
                "limits": profile.limits._asdict(),
                "cells": sorted({turn.cell for turn in one.turns}),
            },
            output=scratch / f"sample-{threads}-{one.number}-{backend}",
            timeout_s=profile.child_timeout_s,
        )
        for backend in one.starts
    }
    with _start(jobs, core=core, together=threads > 1) as partners:
        for message in ({"do": "measure_memory"}, {"do": "prepare"}):
            _ask_all(partners.values(), message, together=threads > 1)
        for done, turn in enumerate(one.turns, start=1):
            partners[turn.backend].ask({"do": "slice", "cell": turn.cell})
            tell(f"round {one.number + 1}, {turn.cell}", done / len(one.turns))
        _ask_all(partners.values(), {"do": "finish"}, together=True)
    for position, (backend, job) in enumerate(jobs.items()):
        facts, arrays = read_output(job.output)
        out.processes.append(
            {
                "round": one.number,
                "backend": backend,
                "position": position,
                "threads": threads,
                **facts,
            }
        )
        out.samples.update({(one.number, backend, cell): array for cell, array in arrays.items()})


@contextlib.contextmanager
def _start(
    jobs: Mapping[str, ChildJob], *, core: int | None, together: bool
) -> Iterator[dict[str, Partner]]:
    """Start the children in order, each when the one before has answered unless `together`."""
    with contextlib.ExitStack() as stack:
        partners = {}
        for backend, job in jobs.items():
            partners[backend] = stack.enter_context(Partner(job, core=core))
            if not together:
                partners[backend].listen()
        for partner in partners.values() if together else ():
            partner.listen()
        yield partners


def _ask_all(partners: Collection[Partner], message: Mapping[str, Any], *, together: bool) -> None:
    for partner in partners:
        if together:
            partner.say(message)
        else:
            partner.ask(message)
    for partner in partners if together else ():
        partner.listen()


def read_output(output: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the facts and arrays that a child wrote; `output` is its path without suffix."""
    facts: dict[str, Any] = json.loads(output.with_suffix(".json").read_text(encoding="utf-8"))
    with np.load(output.with_suffix(".npz"), allow_pickle=False) as arrays:
        return facts, {name: arrays[name] for name in arrays.files}
