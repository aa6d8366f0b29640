"""The child process: one backend, one job, then it ends. `python -m serving_compare.worker`.

A JSON job comes on stdin, arrays go to `<output>.npz` and facts to `<output>.json` (written last:
where it lies, the job was done). Two modes:

    sample   cold start to the first answer, then every cell timed in the given order
    answer   probabilities for the probes, the workload and the texts; nothing is timed

Up to the first answer only the standard library and the backend's own libraries are imported:
whatever the harness imported before would be missing from the backend's cold start.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving_compare.backends import BACKENDS, ArtifactFiles, Backend, StageClock

if TYPE_CHECKING:
    from serving_compare.workload import Request


def read_memory_bytes(status: Path = Path("/proc/self/status")) -> dict[str, int]:
    """Return this process's peak resident set, and the part of it no other process could share.

    Linux: VmHWM and RssAnon. Not `getrusage`: its maximum is handed down by the process that
    called exec, so a child of a large parent could never show less than its parent. Elsewhere
    that maximum is all there is, and the private part is left out.
    """
    try:
        lines = status.read_text(encoding="utf-8").splitlines()
    except OSError:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    fields = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
    return {
        "peak_bytes": int(fields["VmHWM"][0]) * 1024,
        "private_bytes": int(fields["RssAnon"][0]) * 1024,
    }


def settle_process(job: Mapping[str, Any]) -> None:
    """Bound this process's life and pin it to its core; to be called before anything else.

    Args:
        job: `core` (number or null) and `timeout_s`.
    """
    if hasattr(signal, "alarm"):
        # Should the parent be killed outright, nobody else would ever end this process.
        signal.alarm(math.ceil(job["timeout_s"]) + 5)  # the parent's own limit comes first
    if job["core"] is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {job["core"]})  # before any library starts its threads


def run_job(job: Mapping[str, Any]) -> None:
    """Do what `job` says and write its results.

    Args:
        job: `mode`, `backend`, `files` (fields of `ArtifactFiles`), `spawned_ns`, `core` (number
            or null), `timeout_s`, `output` (path without suffix) and the mode's own fields.
    """
    settle_process(job)
    clock = StageClock(job["spawned_ns"])
    clock.mark("start")
    backend = BACKENDS[job["backend"]]()
    files = ArtifactFiles(**job["files"])
    backend.load(files, "text", clock)
    backend.run_texts([job["first_text"]])
    clock.mark("first")
    facts: dict[str, Any] = {"stages_ns": dict(clock.stages_ns), "memory": read_memory_bytes()}
    backend.load(files, "ids", clock)
    arrays = (
        _sample(backend, job, facts) if job["mode"] == "sample" else _answer(backend, job, facts)
    )

    import numpy as np

    output = Path(job["output"])
    np.savez(output.with_suffix(".npz"), **arrays)
    partial = output.with_suffix(".partial")
    partial.write_text(json.dumps(facts), encoding="utf-8")
    partial.replace(output.with_suffix(".json"))


def _arguments(request: Request) -> tuple[Any, ...]:
    from serving_compare.workload import pad_rows

    return pad_rows(request.rows) if request.rows else (list(request.texts),)


def _sample(backend: Backend, job: Mapping[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    from serving_compare.sampling import CellLimits, measure_cell, measure_timer_cost_ns
    from serving_compare.workload import read_workload_cells

    cells = read_workload_cells(Path(job["workload"]))
    limits = CellLimits(**job["limits"])
    facts["timer_cost_ns"] = timer_cost_ns = measure_timer_cost_ns()
    facts["cells"] = {}
    arrays = {}
    for name in job["cells"]:
        requests = cells[name]
        measured = measure_cell(
            backend.run_ids if requests[0].rows else backend.run_texts,
            [_arguments(request) for request in requests],
            limits,
            timer_cost_ns=timer_cost_ns,
        )
        arrays[name] = measured.elapsed_ns
        facts["cells"][name] = {
            "inner_loops": measured.inner_loops,
            "warm_up_calls": measured.warm_up_calls,
            "is_warm": measured.is_warm,
        }
    return arrays


def _answer(backend: Backend, job: Mapping[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    from serving_compare.workload import pad_rows, read_workload_cells

    questions = json.loads(Path(job["questions"]).read_text(encoding="utf-8"))
    arrays: dict[str, Any] = {
        "golden_ids": np.concatenate(
            [backend.run_ids(*pad_rows([row])) for row in questions["golden_rows"]]
        ),
        "golden_texts": np.concatenate(
            [backend.run_texts([text]) for text in questions["golden_texts"]]
        ),
    }
    for name, requests in read_workload_cells(Path(job["workload"])).items():
        call = backend.run_ids if requests[0].rows else backend.run_texts
        arrays[name] = np.concatenate([call(*_arguments(request)) for request in requests])
    arrays["top_k"], facts["single_texts"] = answer_texts(
        backend, questions["texts"], k=questions["k"], budget_s=job["budget_s"]
    )
    return arrays


def answer_texts(
    backend: Backend, texts: Sequence[str], *, k: int, budget_s: float, batch_size: int = 32
) -> tuple[Any, int]:
    """Return the best classes of every text, one call a text while the time budget lasts.

    One call a text is the path that is timed. A slow backend that cannot answer the whole split
    that way in time answers the rest in batches; the report says how many.

    Returns:
        (N, k) int64 class ids, best first, and how many texts were answered by a call of their own.
    """
    import numpy as np

    ranked = [np.zeros((0, k), np.int64)]
    deadline = time.perf_counter() + budget_s
    done = single = 0
    while done < len(texts):
        count = 1 if time.perf_counter() < deadline else batch_size
        probabilities = backend.run_texts(list(texts[done : done + count]))
        ranked.append(np.argsort(-probabilities, axis=1, kind="stable")[:, :k])
        done += count
        single += count == 1
    return np.concatenate(ranked), single


if __name__ == "__main__":
    run_job(json.load(sys.stdin))
