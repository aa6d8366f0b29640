"""The comparison over HTTP: real servers, one core for them, another for the generator.

First every backend's capacity is searched roughly. Then come rounds, each with fresh servers and
the backends in random order: single stream, batches, and the search once more, in small steps from
where the first one ended. Nothing else is asked while one backend is measured; the other
servers idle.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from export.bundle import Artifact
from serving_compare.agreement import TOLERANCE
from serving_compare.compare import list_files, read_tolerances
from serving_compare.load.answers import ask_texts, check_answers
from serving_compare.load.arrivals import Phase
from serving_compare.load.capacity import Verdict, judge_probe, search_capacity
from serving_compare.load.errors import LoadError
from serving_compare.load.generator import Limits
from serving_compare.load.in_process import measure_in_process
from serving_compare.load.profile import BATCH_SIZE, NUM_TEXTS, SLO_P99_MS, HttpProfile
from serving_compare.load.recording import Recording
from serving_compare.load.request import format_body, format_request
from serving_compare.load.results import SEARCH, Http, Json, Probe, ProbeKind, RoundCapacity
from serving_compare.load.run import LoadJob, choose_cores, run_load
from serving_compare.load.servers import Served, ServerProcess
from serving_compare.load.summary import NULL, summarise_latency
from serving_compare.load.wrk import find_wrk, run_wrk
from serving_compare.schedule import has_time_for_round

TOP_K = 3
WARM_UP_S = 0.3
SEARCH_START_SHARE = 0.25
"""The first rate tried, as a share of what one connection alone asks for."""
SEARCH_GROWTH = 2.0
ROUND_GROWTH = 1.1
"""First step of the search in a round; bisection halves it once."""
PRECISION = 1.06
SEARCH_PROBES, ROUND_PROBES = 40, 12
"""Most probes of a search; a machine that is never quiet would be searched for ever."""
ONE = Limits(connections=1, max_connections=1)

Progress = Callable[[str, float], None]


class HttpRun:
    """Everything one comparison over HTTP needs while it runs; `run` gives the results.

    Args:
        artifact: What is served.
        texts: What is asked; a seeded choice of them.
        backends: Names in the order of the tables.
        profile: How thoroughly.
        seed: Of texts, arrivals and order.
        progress: Told of every finished step and the finished share.
    """

    def __init__(
        self,
        artifact: Artifact,
        texts: Sequence[str],
        backends: Sequence[str],
        profile: HttpProfile,
        *,
        seed: int,
        progress: Progress,
    ) -> None:
        self._artifact = artifact
        self._backends = list(backends)
        self._profile = profile
        self._seed = seed
        self._progress = progress
        self._random = np.random.default_rng(seed)
        picks = self._random.permutation(len(texts))[:NUM_TEXTS]
        self._texts = [texts[int(pick)] for pick in picks]
        self._k = min(TOP_K, len(artifact.labels))
        self._generator_core, self._server_core = choose_cores()
        self._probes: list[Probe] = []
        self._capacities: list[RoundCapacity] = []
        self._steps_done = 0

    def run(self) -> Http:
        """Measure everything.

        Raises:
            AgreementError: The backends answer differently over HTTP.
            LoadError: A server or a child process failed.
        """
        profile = self._profile
        began = time.monotonic()
        in_process: dict[str, Json] = {}
        self._progress("without HTTP", 0.0)
        for backend in self._backends:
            if backend != NULL:
                in_process[backend] = measure_in_process(
                    backend,
                    list_files(self._artifact),
                    self._texts,
                    core=self._server_core,
                    duration_s=profile.single_s,
                )
        with self._serve() as server:
            served = self._find_served(server)
            self._check_answers(served)
            starts = {name: self._search(served[name]) for name in self._backends}
        rounds_s: list[float] = []
        outside: dict[str, Json] = {}
        reason: str | None = None
        for number in range(profile.rounds):
            round_began = time.monotonic()
            if not has_time_for_round(
                elapsed_s=round_began - began, rounds_s=rounds_s, limit_s=profile.max_duration_s
            ):
                break
            with self._serve() as server:
                served = self._find_served(server)
                for position in self._random.permutation(len(self._backends)):
                    name = self._backends[int(position)]
                    self._run_round(number, served[name], starts[name])
                if number == 0:
                    outside, reason = self._ask_outside(served)
            rounds_s.append(time.monotonic() - round_began)
        return Http(
            settings=self._settings(),
            backends=self._backends,
            in_process=in_process,
            outside=outside,
            outside_reason=reason,
            capacities=self._capacities,
            probes=self._probes,
        )

    def _settings(self) -> Json:
        profile = self._profile
        return {
            "slo_p99_ms": SLO_P99_MS,
            "workers": 1,
            "server_cores": [] if self._server_core is None else [self._server_core],
            "generator_cores": [] if self._generator_core is None else [self._generator_core],
            "seed": self._seed,
            "duration_s": profile.probe_s,
            "batch_size": BATCH_SIZE,
            "profile": profile.name,
            "texts": len(self._texts),
        }

    def _serve(self) -> ServerProcess:
        return ServerProcess(
            self._artifact.folder, self._artifact.name, self._backends, core=self._server_core
        )

    @staticmethod
    def _find_served(server: ServerProcess) -> dict[str, Served]:
        return {served.backend: served for served in server.read_served()}

    def _check_answers(self, served: dict[str, Served]) -> None:
        answers = {
            name: ask_texts(served[name].target, self._texts, k=self._k)
            for name in self._backends
            if name != NULL
        }
        tolerance = max([TOLERANCE, *read_tolerances(self._artifact, self._backends).values()])
        if answers:
            check_answers(answers, self._texts, tolerance=2 * tolerance)

    def _search(self, served: Served) -> float:
        """Return about the highest rate the backend holds, from an unknown beginning."""
        first = self._closed(served, self._singles(served), WARM_UP_S)
        found = summarise_latency([first])
        if found is None:
            raise LoadError(
                f"{served.backend}: expected answers over HTTP, found {first.count_statuses()}."
            )
        return self._find_capacity(
            served,
            SEARCH,
            lambda rate: self._profile.search_s,
            start_per_s=SEARCH_START_SHARE * 1e6 / found["median_us"],
            growth=SEARCH_GROWTH,
            attempts=2,
            max_probes=SEARCH_PROBES,
        )

    def _run_round(self, number: int, served: Served, start_per_s: float) -> None:
        profile = self._profile
        singles = self._singles(served)
        self._closed(served, singles, WARM_UP_S)
        self._keep(served, number, "single_stream", self._closed(served, singles, profile.single_s))
        batches = [
            self._request(served, (self._texts * BATCH_SIZE)[start : start + BATCH_SIZE])
            for start in range(0, len(self._texts), BATCH_SIZE)
        ]
        self._keep(served, number, "offline", self._closed(served, batches, profile.offline_s))
        self._find_capacity(
            served,
            number,
            profile.stretch_probe,
            start_per_s=start_per_s,
            growth=ROUND_GROWTH,
            attempts=1,  # the median over rounds forgives one bad moment
            max_probes=ROUND_PROBES,
        )
        self._step(f"{served.backend}, round {number + 1} of {profile.rounds}")

    def _find_capacity(
        self,
        served: Served,
        number: int,
        duration_s: Callable[[float], float],
        *,
        start_per_s: float,
        growth: float,
        attempts: int,
        max_probes: int,
    ) -> float:
        """Search, keep every probe and the outcome; return a rate to begin the next search with."""

        def probe(rate_per_s: float) -> Verdict:
            job = LoadJob(
                target=served.target,
                requests=self._singles(served),
                phases=[Phase(rate_per_s, duration_s(rate_per_s))],
                seed=int(self._random.integers(2**31)),
            )
            recording = run_load(job, core=self._generator_core)
            self._keep(served, number, "server", recording, rate_per_s)
            return judge_probe(recording, slo_ns=SLO_P99_MS * 1e6)

        found = search_capacity(
            probe,
            start_per_s=start_per_s,
            growth=growth,
            precision=PRECISION,
            attempts=attempts,
            max_probes=max_probes,
        )
        self._capacities.append(
            RoundCapacity(
                backend=served.backend,
                round=number,
                rate_per_s=found.rate_per_s,
                limited_by=found.limited_by,
            )
        )
        if number == SEARCH:
            self._step(f"{served.backend}, search")
        return found.rate_per_s or start_per_s

    def _ask_outside(self, served: dict[str, Served]) -> tuple[dict[str, Json], str | None]:
        """Each backend asked by wrk and by us, one connection, one body."""
        program = find_wrk()
        if program is None:
            return {}, "wrk is not installed"
        found: dict[str, Json] = {}
        for name in self._backends:
            target = served[name].target
            body = format_body(target, self._texts[:1], k=self._k)
            theirs = run_wrk(
                program,
                target,
                body,
                connections=1,
                duration_s=self._profile.outside_s,
                core=self._generator_core,
            )
            ours = self._closed(
                served[name], [format_request(target, body)], self._profile.outside_s
            )
            seconds = int(ours.last_ns.max()) / 1e9
            found[name] = {
                **{key: value for key, value in theirs.items() if key != "errors"},
                "ours_requests_per_s": float(f"{int(ours.is_ok.sum()) / seconds:.6g}"),
                "ours_p50_us": (summarise_latency([ours]) or {"median_us": None})["median_us"],
            }
        return found, None

    def _closed(self, served: Served, requests: Sequence[bytes], duration_s: float) -> Recording:
        job = LoadJob(target=served.target, requests=requests, duration_s=duration_s, limits=ONE)
        return run_load(job, core=self._generator_core)

    def _singles(self, served: Served) -> list[bytes]:
        return [self._request(served, [text]) for text in self._texts]

    def _request(self, served: Served, texts: Sequence[str]) -> bytes:
        return format_request(served.target, format_body(served.target, texts, k=self._k))

    def _keep(
        self,
        served: Served,
        number: int,
        kind: ProbeKind,
        recording: Recording,
        rate_per_s: float | None = None,
    ) -> None:
        self._probes.append(
            Probe(
                backend=served.backend,
                round=number,
                kind=kind,
                rate_per_s=rate_per_s,
                recording=recording,
            )
        )

    def _step(self, name: str) -> None:
        self._steps_done += 1
        total = (self._profile.rounds + 1) * len(self._backends)
        self._progress(name, self._steps_done / total)


def run_http(
    artifact: Artifact,
    texts: Sequence[str],
    backends: Sequence[str],
    profile: HttpProfile,
    *,
    seed: int,
    progress: Progress = lambda step, share: None,
) -> Http:
    """Compare backends over HTTP; see `HttpRun`."""
    return HttpRun(artifact, texts, backends, profile, seed=seed, progress=progress).run()
