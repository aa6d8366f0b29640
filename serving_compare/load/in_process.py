"""The same texts without HTTP: a process that loads one backend and calls it, text by text.

`python -m serving_compare.load.in_process`: a JSON job on stdin, a JSON answer on stdout. What a
request takes beyond this is the price of HTTP, of JSON and of choosing the best labels.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from serving_compare.backends import BACKENDS, ArtifactFiles, StageClock
from serving_compare.load.errors import GeneratorError
from serving_compare.machine import child_environment
from serving_compare.statistics import quantile

LIMIT_S = 180
"""Most that loading and calling may take: TensorFlow on a busy core takes part of a minute."""


def measure_in_process(
    backend: str, files: ArtifactFiles, texts: Sequence[str], *, core: int | None, duration_s: float
) -> dict[str, Any]:
    """Return `median_us` of one call and the number `n` of calls, measured in a child process.

    Args:
        backend: Its name.
        files: Of the artifact.
        texts: Called in turn, in whole passes.
        core: Where the child is pinned, or None.
        duration_s: No pass is begun behind it.

    Raises:
        GeneratorError: The child failed.
    """
    job = {
        "backend": backend,
        "files": files._asdict(),
        "texts": list(texts),
        "core": core,
        "duration_s": duration_s,
    }
    done = subprocess.run(
        [sys.executable, "-m", "serving_compare.load.in_process"],
        input=json.dumps(job).encode(),
        capture_output=True,
        env=child_environment(os.environ),
        check=False,
    )
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["(nothing)"]
        raise GeneratorError(
            f"{backend}: expected its time without HTTP, found the process ended with code "
            f"{done.returncode}. The last line it wrote: {last[0]}"
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def run_job(job: Mapping[str, Any]) -> dict[str, Any]:
    """Load the backend of `job`, warm it up by one pass, then time whole passes over the texts."""
    backend = BACKENDS[job["backend"]]()
    backend.load(ArtifactFiles(**job["files"]), "text", StageClock(time.perf_counter_ns()))
    calls = [[text] for text in job["texts"]]
    for call in calls:
        backend.run_texts(call)
    clock = time.perf_counter_ns
    samples_ns: list[int] = []
    gc.collect()
    gc.disable()
    end_ns = clock() + int(job["duration_s"] * 1e9)
    while not samples_ns or clock() < end_ns:
        for call in calls:
            began_ns = clock()
            backend.run_texts(call)
            samples_ns.append(clock() - began_ns)
    return {"median_us": quantile(samples_ns, 0.5) / 1000, "n": len(samples_ns)}


def main() -> None:
    """Read the job, settle on its core, answer on stdout, whatever a library prints there."""
    job = json.load(sys.stdin)
    signal.alarm(LIMIT_S)
    if job["core"] is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {job["core"]})
    with contextlib.redirect_stdout(sys.stderr):
        found = run_job(job)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
