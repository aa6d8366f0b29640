"""The generator's own process: `python -m serving_compare.load.worker`, a JSON job on stdin.

The `perf_counter_ns` of time 0 goes to stdout as soon as it is known, the recording to a file. Exit
code 3 says that the server cannot be reached; the reason is on stderr.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving_compare.load.arrivals import Phase, draw_arrivals
from serving_compare.load.errors import ConnectError
from serving_compare.load.generator import Limits, run_closed_loop, run_open_loop
from serving_compare.load.recording import Recording, write_recording

CANNOT_CONNECT = 3


def run_job(job: Mapping[str, Any]) -> Recording:
    """Make the load that `job` describes.

    Args:
        job: Fields of `serving_compare.load.run.LoadJob` as JSON values; requests as Latin-1.

    Raises:
        ConnectError: The server cannot be reached.
    """
    requests = [request.encode("latin-1") for request in job["requests"]]
    limits = Limits(**job["limits"])
    if job["phases"]:
        return run_open_loop(
            job["host"],
            job["port"],
            requests,
            draw_arrivals([Phase(**phase) for phase in job["phases"]], seed=job["seed"]),
            limits=limits,
            on_start=_tell_start,
        )
    return run_closed_loop(
        job["host"],
        job["port"],
        requests,
        job["duration_s"],
        limits=limits,
        on_start=_tell_start,
    )


def main() -> None:
    """Read the job, settle on its core, run it, write the recording."""
    job = json.load(sys.stdin)
    signal.alarm(math.ceil(job["timeout_s"]))  # should the parent be killed, nobody else ends this
    if job["core"] is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {job["core"]})
    try:
        recording = run_job(job)
    except ConnectError as err:
        sys.stderr.write(str(err))
        sys.exit(CANNOT_CONNECT)
    write_recording(Path(job["output"]), recording)


def _tell_start(start_ns: int) -> None:
    sys.stdout.write(f"{start_ns}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
