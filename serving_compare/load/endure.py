"""Endurance scenarios against a real server: steady load, overload, drain, crash, hot swap.

Each starts the server it needs, loads it from another core, does to it what the scenario is named
for, and asks `serving_compare.load.checks` what to think of the recording.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.bundle import MANIFEST_FILE, Artifact, format_manifest, write_latest
from serving_compare.load.arrivals import Phase
from serving_compare.load.capacity import Verdict, judge_probe, search_capacity
from serving_compare.load.checks import (
    MAX_RECOVERY_S,
    MAX_RESTART_S,
    MAX_SWAP_S,
    Check,
    check_crash,
    check_drain,
    check_errors,
    check_few_refused,
    check_generator,
    check_overload,
    check_rss,
    check_swap,
)
from serving_compare.load.errors import LoadError, ServerError
from serving_compare.load.generator import Limits
from serving_compare.load.profile import SLO_P99_MS
from serving_compare.load.recording import Recording
from serving_compare.load.request import Target, format_body, format_request
from serving_compare.load.run import Load, LoadJob, choose_cores, run_load
from serving_compare.load.servers import Served, ServerProcess, read_rss_bytes
from serving_compare.statistics import quantile

STEADY_SHARE = 0.7
OVERLOAD_FACTOR = 2.0
GENTLE_SHARE = 0.5
"""Of the capacity: the load of the scenarios that are about something else."""
BEHIND_OVERLOAD_S = MAX_RECOVERY_S + 3
WARM_UP_S = 3.0
SAMPLE_EVERY_S = 1.0
KILL_EVERY = 2.0
"""In units of what a replacement may take: so that it is back, and old enough that its death does
not count as instant."""
SLOW_TO_LOAD = frozenset({"saved_model"})
"""Backends that are back as fast as they load: twice the time of the server's start is theirs."""
DRAIN_LOAD_S = 2.5
POLL_S = 0.01
PROBE_S = 2.0

Progress = Callable[[str, float], None]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What all scenarios share.

    Attributes:
        artifact: What is served.
        backend: By which backend.
        texts: What is asked, in turn.
        capacity_per_s: Highest rate one worker holds.
        seed: Of arrivals and moments.
        duration_s: Of the steady load.
        overload_s: Of the overload.
        drains: How many servers get a SIGTERM.
        crashes: How many workers are killed.
        swaps: How many versions are published.
        progress: Told the step and the share of the scenario that is done.
    """

    artifact: Artifact
    backend: str
    texts: Sequence[str]
    capacity_per_s: float
    seed: int
    duration_s: float
    overload_s: float
    drains: int
    crashes: int
    swaps: int
    progress: Progress = lambda step, share: None

    def serve(
        self, *, workers: int = 1, folder: Path | None = None, options: Sequence[str] = ()
    ) -> ServerProcess:
        """Return a server that is still to be entered."""
        return ServerProcess(
            folder or self.artifact.folder,
            self.artifact.name,
            [self.backend],
            core=choose_cores()[1],
            workers=workers,
            options=options,
        )

    def make_job(self, target: Target, phases: Sequence[Phase], *, salt: int = 0) -> LoadJob:
        """Return an open loop over the texts."""
        return LoadJob(
            target=target,
            requests=format_requests(target, self.texts),
            phases=phases,
            seed=self.seed + salt,
        )


def format_requests(target: Target, texts: Sequence[str]) -> list[bytes]:
    """Return one request a text."""
    return [format_request(target, format_body(target, [text], k=1)) for text in texts]


def find_capacity(artifact: Artifact, backend: str, texts: Sequence[str], *, seed: int) -> float:
    """Return the highest rate that one worker holds within the limit of the p99.

    Raises:
        LoadError: It holds none, or the server or the generator failed.
    """
    generator_core, server_core = choose_cores()
    with ServerProcess(artifact.folder, artifact.name, [backend], core=server_core) as server:
        target = only(server).target
        requests = format_requests(target, texts)
        closed = LoadJob(
            target=target,
            requests=requests,
            duration_s=1.0,
            limits=Limits(connections=1, max_connections=1),
        )
        alone = run_load(closed, core=generator_core)

        def probe(rate_per_s: float) -> Verdict:
            phases = [Phase(rate_per_s, PROBE_S)]
            job = LoadJob(target=target, requests=requests, phases=phases, seed=seed)
            return judge_probe(run_load(job, core=generator_core), slo_ns=SLO_P99_MS * 1e6)

        start_per_s = 0.25e9 / quantile(alone.latency_ns, 0.5)
        found = search_capacity(probe, start_per_s=start_per_s, precision=1.1).rate_per_s
    if found is None:
        raise LoadError(
            f"{backend}: expected a rate with a p99 within {SLO_P99_MS:g} ms, found none. Close "
            "other programs, or name a --capacity."
        )
    return found


def run_steady(setup: Setup) -> list[Check]:
    """70 % of the capacity for long: no error, no growth."""
    rate = STEADY_SHARE * setup.capacity_per_s
    samples: list[int] = []
    with setup.serve() as server:
        served = only(server)
        core = choose_cores()[0]
        warm = setup.make_job(served.target, [Phase(rate, WARM_UP_S)], salt=1)
        run_load(warm, core=core)
        job = setup.make_job(served.target, [Phase(rate, setup.duration_s)])
        with Load(job, core=core) as load:
            start_ns = load.wait_started()
            count = max(1, int(setup.duration_s / SAMPLE_EVERY_S))
            for number in range(count):
                _sleep_until(start_ns, setup.duration_s * (number + 1) / count)
                rss = read_rss_bytes(served.workers[0])
                samples += [] if rss is None else [rss]
                if number % 10 == 0:  # drawing is work on the generator's core
                    setup.progress("steady", (number + 1) / count)
            recording = load.wait()
    return [
        check_generator("steady", recording),
        check_errors("steady", recording),
        check_few_refused("steady", recording),
        check_rss("steady", samples),
    ]


def run_overload(setup: Setup) -> list[Check]:
    """Twice the capacity for a minute, then half of it."""
    phases = [
        Phase(OVERLOAD_FACTOR * setup.capacity_per_s, setup.overload_s),
        Phase(GENTLE_SHARE * setup.capacity_per_s, BEHIND_OVERLOAD_S),
    ]
    with setup.serve() as server:
        target = only(server).target
        core = choose_cores()[0]
        gentle = [Phase(GENTLE_SHARE * setup.capacity_per_s, WARM_UP_S)]
        run_load(setup.make_job(target, gentle, salt=1), core=core)
        setup.progress("overload", 0.1)
        recording = run_load(setup.make_job(target, phases), core=core)
    return [
        check_generator("overload", recording),
        check_errors("overload", recording),
        *check_overload("overload", recording, overload_s=setup.overload_s, slo_ms=SLO_P99_MS),
    ]


def run_drain(setup: Setup) -> list[Check]:
    """SIGTERM under load, again and again, at random moments."""
    random = np.random.default_rng(setup.seed)
    phases = [Phase(GENTLE_SHARE * setup.capacity_per_s, DRAIN_LOAD_S)]
    recordings: list[Recording] = []
    codes: list[int] = []
    for number in range(setup.drains):
        with setup.serve() as server:
            job = setup.make_job(only(server).target, phases, salt=number)
            with Load(job, core=choose_cores()[0]) as load:
                start_ns = load.wait_started()
                _sleep_until(start_ns, float(random.uniform(0.3, 1.0)))
                server.terminate()
                codes.append(server.wait())
                recordings.append(load.wait())
        setup.progress("drain", (number + 1) / setup.drains)
    return check_drain("drain", recordings, codes)


def run_crash(setup: Setup) -> list[Check]:
    """Kill one of two workers outright, again and again, under load."""
    random = np.random.default_rng(setup.seed)
    kills_ns: list[tuple[int, int]] = []
    backs_s: list[float] = []
    began_s = time.monotonic()
    with setup.serve(workers=2) as server:
        is_slow = setup.backend in SLOW_TO_LOAD
        bound_s = 2 * (time.monotonic() - began_s) if is_slow else MAX_RESTART_S
        every_s = KILL_EVERY * bound_s
        phases = [Phase(GENTLE_SHARE * setup.capacity_per_s, every_s * (setup.crashes + 0.5))]
        job = setup.make_job(only(server).target, phases)
        with Load(job, core=choose_cores()[0]) as load:
            start_ns = load.wait_started()
            for number in range(setup.crashes):
                _sleep_until(start_ns, every_s * number + float(random.uniform(1.2, 1.6)))
                workers = only(server).workers
                victim = workers[int(random.integers(len(workers)))]
                before_ns = time.perf_counter_ns()
                try:
                    os.kill(victim, signal.SIGKILL)
                except ProcessLookupError:
                    continue  # killed before, and not replaced in time, which is told already
                kills_ns.append((before_ns, time.perf_counter_ns()))
                with contextlib.suppress(TimeoutError):
                    backs_s.append(_wait_replaced(server, victim, len(workers), every_s))
                setup.progress("crash", (number + 1) / setup.crashes)
            recording = load.wait()
    return [
        check_generator("crash", recording),
        *check_crash("crash", recording, kills_ns, backs_s, bound_s),
    ]


def run_swap(setup: Setup) -> list[Check]:
    """Publish new versions of the artifact under load."""
    swaps_s: list[float | None] = []
    with tempfile.TemporaryDirectory(prefix="gatetable-swap-") as root:
        folder = Path(root) / setup.artifact.name
        publish_copy(setup.artifact, folder, 1)
        with setup.serve(folder=folder) as server:
            target = only(server).target
            phases = [Phase(GENTLE_SHARE * setup.capacity_per_s, 2 * MAX_SWAP_S * setup.swaps + 1)]
            with Load(setup.make_job(target, phases), core=choose_cores()[0]) as load:
                start_ns = load.wait_started()
                for number in range(setup.swaps):
                    _sleep_until(start_ns, 1 + 2 * MAX_SWAP_S * number)
                    publish_copy(setup.artifact, folder, number + 2)
                    swaps_s.append(_wait_version(target, number + 2))
                    setup.progress("swap", (number + 1) / setup.swaps)
                recording = load.wait()
    return [
        check_generator("swap", recording),
        check_errors("swap", recording),
        check_swap("swap", swaps_s),
    ]


SCENARIOS: dict[str, Callable[[Setup], list[Check]]] = {
    "steady": run_steady,
    "overload": run_overload,
    "drain": run_drain,
    "crash": run_crash,
    "swap": run_swap,
}


def publish_copy(artifact: Artifact, folder: Path, version: int) -> None:
    """Publish a copy of an artifact as `<folder>/<version>`; large files are links to its own."""
    target = folder / str(version)
    shutil.copytree(artifact.folder, target, copy_function=_link_or_copy)
    manifest = json.loads((target / MANIFEST_FILE).read_text(encoding="utf-8"))
    (target / MANIFEST_FILE).unlink()  # not written through a link
    text = format_manifest({**manifest, "version": version})
    (target / MANIFEST_FILE).write_text(text, encoding="utf-8")
    write_latest(folder)


def only(server: ServerProcess) -> Served:
    """Return the one backend of a server."""
    (served,) = server.read_served()
    return served


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)


def _sleep_until(start_ns: int, after_s: float) -> None:
    left_s = after_s - (time.perf_counter_ns() - start_ns) / 1e9
    if left_s > 0:
        time.sleep(left_s)


def _wait_replaced(server: ServerProcess, victim: int, workers: int, patience_s: float) -> float:
    """Return how long it takes until the ready file names as many workers without the victim."""
    began = time.monotonic()
    while (elapsed_s := time.monotonic() - began) < patience_s:
        server.check_alive()
        found = only(server).workers
        if len(found) == workers and victim not in found:
            return elapsed_s
        time.sleep(POLL_S)
    raise TimeoutError


def _wait_version(target: Target, version: int) -> float | None:
    """Return how long it takes until the server says that it serves `version`; None for never."""
    began = time.monotonic()
    path = target.path.removesuffix(":predict")
    while (elapsed_s := time.monotonic() - began) < 2 * MAX_SWAP_S:
        connection = http.client.HTTPConnection(target.host, target.port, timeout=MAX_SWAP_S)
        try:
            connection.request("GET", path)
            answer = json.loads(connection.getresponse().read())
            if str(answer["version"]) == str(version):
                return elapsed_s
        except (OSError, http.client.HTTPException, ValueError, KeyError) as err:
            raise ServerError(f"{path}: expected the model's metadata, found {err!r}.") from err
        finally:
            connection.close()
        time.sleep(5 * POLL_S)
    return None
