"""The child process: one backend, one job, then it ends. `python -m serving_compare.worker`.

A JSON job comes on the first line of stdin, arrays go to `<output>.npz` and facts to
`<output>.json` (written last: where it lies, the job was done). Two modes:

    sample   cold start to the first answer, then slices of cells, one for each line of stdin
    answer   probabilities for the probes, the workload and the texts; nothing is timed

In the mode `sample` each line of stdin is answered by one on stdout when it is done:

    {"do": "measure_memory"}                when all the other children have started too
    {"do": "prepare"}                       load what is left, read the workload
    {"do": "slice", "cell": "tokens_10"}
    {"do": "finish"}                        write the results

Up to the first answer only the standard library and the backend's own libraries are imported:
whatever the harness imported before would be missing from the backend's cold start.
"""

from __future__ import annotations

import gc
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
from serving_compare.whole_file import write_whole

if TYPE_CHECKING:
    from serving_compare.sampling import Cell
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


def read_pss_bytes(rollup: Path = Path("/proc/self/smaps_rollup")) -> dict[str, int]:
    """Return this process's proportional set: a page that n processes map counts as 1/n.

    Nothing comes back where the system does not tell.
    """
    try:
        lines = rollup.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")]
    return {"pss_bytes": found[0]} if found else {}


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
    if job["mode"] == "sample":
        _converse(job)
        return
    backend = BACKENDS[job["backend"]]()
    facts = _start_cold(backend, job)
    backend.load(ArtifactFiles(**job["files"]), "ids", StageClock(job["spawned_ns"]))
    _write(job, _answer(backend, job, facts), facts)


def _start_cold(backend: Backend, job: Mapping[str, Any]) -> dict[str, Any]:
    clock = StageClock(job["spawned_ns"])
    clock.mark("start")
    backend.load(ArtifactFiles(**job["files"]), "text", clock)
    backend.run_texts([job["first_text"]])
    clock.mark("first")
    return {"stages_ns": dict(clock.stages_ns), "memory": read_memory_bytes()}


def _write(job: Mapping[str, Any], arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    import numpy as np

    output = Path(job["output"])
    np.savez(output.with_suffix(".npz"), allow_pickle=False, **arrays)
    write_whole(output.with_suffix(".json"), json.dumps(facts))


def _arguments(request: Request) -> tuple[Any, ...]:
    from serving_compare.workload import pad_rows

    return pad_rows(request.rows) if request.rows else (list(request.texts),)


def _converse(job: Mapping[str, Any]) -> None:
    """Sample what the lines of stdin ask for. Several threads: ids in only, no cold start."""
    # What a library prints must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    is_wide = job["threads"] > 1
    backend = BACKENDS[job["backend"]](threads=job["threads"])
    facts: dict[str, Any] = {"memory": {}} if is_wide else _start_cold(backend, job)
    facts["cells"] = {}
    cells: dict[str, Cell] = {}
    _say(answers)
    for line in sys.stdin:
        message = json.loads(line)
        if message["do"] == "measure_memory":
            facts["memory"] |= read_pss_bytes()
        elif message["do"] == "prepare":
            cells = _prepare(backend, job, facts)
        elif message["do"] == "slice":
            cells[message["cell"]].take_slice()
        elif message["do"] == "finish":
            _finish(job, cells, facts)
        _say(answers)


def _say(answers: Any) -> None:
    answers.write('{"done": true}\n')
    answers.flush()


def _prepare(backend: Backend, job: Mapping[str, Any], facts: dict[str, Any]) -> dict[str, Cell]:
    backend.load(ArtifactFiles(**job["files"]), "ids", StageClock(job["spawned_ns"]))

    from serving_compare.sampling import CellLimits, ColdCell, WarmCell, measure_timer_cost_ns
    from serving_compare.workload import read_workload_cells, split_cell

    limits = CellLimits(**job["limits"])
    seen: set[tuple[int, ...]] = set()
    facts["timer_cost_ns"] = timer_cost_ns = measure_timer_cost_ns()
    workload = read_workload_cells(Path(job["workload"]))
    cells: dict[str, Cell] = {}
    for name in job["cells"]:
        requests = [_arguments(request) for request in workload[name]]
        call = backend.run_ids if workload[name][0].rows else backend.run_texts
        if workload[name][0].rows:
            _ask_new_shapes(call, requests, seen)
        if split_cell(name)[0] == "cold":
            cells[name] = ColdCell(call=call, requests=requests)
        else:
            cells[name] = WarmCell(
                call=call, requests=requests, limits=limits, timer_cost_ns=timer_cost_ns
            )
    # The collector runs before each slice; looking at all of TensorFlow took 0.2 s each time.
    gc.collect()
    gc.freeze()
    return cells


def _ask_new_shapes(call: Any, requests: Sequence[Any], seen: set[tuple[int, ...]]) -> None:
    """Ask one request of each shape that was not asked yet: a runtime may plan or compile for it.

    That happens once in a server's life, but would happen in each slice that meets a new shape.
    """
    for ids, lengths in requests:
        if ids.shape not in seen:
            seen.add(ids.shape)
            call(ids, lengths)


def _finish(job: Mapping[str, Any], cells: Mapping[str, Cell], facts: dict[str, Any]) -> None:
    arrays = {}
    for name, cell in cells.items():
        samples = cell.samples()
        arrays[name] = samples.elapsed_ns
        facts["cells"][name] = {
            "inner_loops": samples.inner_loops,
            "warm_up_calls": samples.warm_up_calls,
            "is_warm": samples.is_warm,
            "slices": list(samples.slices),
        }
    _write(job, arrays, facts)


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
    run_job(json.loads(sys.stdin.readline()))
