"""Raw results of the comparison over HTTP: every request of every probe, on disk and back.

    raw/http.json   what was asked of whom, and the facts of each probe, in order
    raw/http.npz    int64 arrays of each probe: "<position>/<name>", see `Recording`

`write_http` and `read_http` are inverses; the report's `http` section is made from nothing else.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from serving_compare.load.capacity import Limit
from serving_compare.load.recording import Recording
from serving_compare.results import ResultsError

HTTP_SCHEMA_VERSION = 1
HTTP_FILE = "http.json"
HTTP_SAMPLES_FILE = "http.npz"
MAX_HTTP_BYTES = 2**28
"""Bound on http.json before it is parsed."""
SEARCH = -1
"""The number of the "round" in which the capacity is looked for at first."""

Json = dict[str, Any]
ProbeKind = Literal["single_stream", "offline", "server"]


class HttpResultsError(ResultsError):
    """Raw results over HTTP that cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One load on one backend.

    Attributes:
        backend: Its name.
        round: Number of the round, or `SEARCH`.
        kind: Scenario.
        rate_per_s: Of the open loop; None in a closed one.
        recording: What came of it.
    """

    backend: str
    round: int
    kind: ProbeKind
    rate_per_s: float | None
    recording: Recording


@dataclass(frozen=True, kw_only=True)
class RoundCapacity:
    """What one round found to be a backend's highest rate within the limit.

    Attributes:
        backend: Its name.
        round: Number of the round, or `SEARCH`.
        rate_per_s: None where no rate held.
        limited_by: Why the next higher one did not hold.
    """

    backend: str
    round: int
    rate_per_s: float | None
    limited_by: Limit


@dataclass(frozen=True, kw_only=True)
class Http:
    """All that the comparison over HTTP found out.

    Attributes:
        settings: slo_p99_ms, workers, server_cores, generator_cores, seed, duration_s,
            batch_size, profile, texts (their number), server_options.
        backends: Names in the order of the tables.
        in_process: Backend to `median_us` and `n` of the same texts without HTTP.
        outside: Backend to what a foreign tool measured beside us, see `load.wrk`.
        outside_reason: Why there is none, or None.
        capacities: One a backend and round, the first search included.
        probes: In the order in which they were run.
    """

    settings: Json
    backends: list[str]
    in_process: dict[str, Json]
    outside: dict[str, Json]
    outside_reason: str | None
    capacities: list[RoundCapacity]
    probes: list[Probe]

    def recordings_of(self, backend: str, kind: ProbeKind) -> list[Recording]:
        """Return the recordings of a backend in one scenario, by round."""
        return [
            probe.recording
            for probe in sorted(self.probes, key=lambda probe: probe.round)
            if (probe.backend, probe.kind) == (backend, kind)
        ]

    def capacities_of(self, backend: str) -> list[RoundCapacity]:
        """Return what the rounds found for a backend, the first search left out."""
        found = [c for c in self.capacities if c.backend == backend and c.round != SEARCH]
        return sorted(found, key=lambda capacity: capacity.round)


def write_http(folder: Path, http: Http) -> None:
    """Write http.json and http.npz into an existing folder."""
    header = {
        "schema_version": HTTP_SCHEMA_VERSION,
        **{
            field.name: getattr(http, field.name)
            for field in fields(http)
            if field.name not in ("probes", "capacities")
        },
        "capacities": [asdict(capacity) for capacity in http.capacities],
        "probes": [
            {
                **{
                    field.name: getattr(probe, field.name)
                    for field in fields(probe)
                    if field.name != "recording"
                },
                "start_ns": probe.recording.start_ns,
            }
            for probe in http.probes
        ],
    }
    np.savez_compressed(
        folder / HTTP_SAMPLES_FILE,
        allow_pickle=False,
        **{
            f"{position}/{name}": array
            for position, probe in enumerate(http.probes)
            for name, array in probe.recording.arrays().items()
        },
    )
    text = json.dumps(header, indent=1, allow_nan=False)
    (folder / HTTP_FILE).write_text(text + "\n", encoding="utf-8")


def read_http(folder: Path) -> Http | None:
    """Read what `write_http` wrote; None where a comparison left HTTP out.

    Raises:
        HttpResultsError: A file is damaged, too large or of another schema.
    """
    path = folder / HTTP_FILE
    if not path.is_file():
        return None
    try:
        size = path.stat().st_size
        if size > MAX_HTTP_BYTES:
            raise HttpResultsError(
                f"{path}: expected at most {MAX_HTTP_BYTES} bytes, found {size}."
            )
        header = json.loads(path.read_text(encoding="utf-8"))
        version = header.pop("schema_version", None)
        if version != HTTP_SCHEMA_VERSION:
            raise HttpResultsError(
                f"{path}: expected schema_version {HTTP_SCHEMA_VERSION}, found {version!r}. "
                "Compare again with `compare --http`, or use the gatetable that wrote it."
            )
        header["capacities"] = [RoundCapacity(**fields) for fields in header["capacities"]]
        header["probes"] = _read_probes(folder / HTTP_SAMPLES_FILE, header["probes"])
        return Http(**header)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as err:
        raise HttpResultsError(
            f"{path}: expected the results of `compare --http` with {HTTP_SAMPLES_FILE} beside "
            f"them, found {type(err).__name__}: {err}. Compare again."
        ) from err


def _read_probes(path: Path, headers: Sequence[Json]) -> list[Probe]:
    # Opened here: np.load leaves the file open when it is no archive.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        names = [field.name for field in fields(Recording) if field.name != "start_ns"]
        probes = []
        for position, header in enumerate(headers):
            arrays = {name: stored[f"{position}/{name}"] for name in names}
            shapes = {(array.dtype.name, array.shape) for array in arrays.values()}
            if len(shapes) != 1 or next(iter(shapes))[0] != "int64":
                raise ValueError(f"probe {position}: int64 arrays of one length, not {shapes}")
            recording = Recording(start_ns=header.pop("start_ns"), **arrays)
            probes.append(Probe(**header, recording=recording))
        return probes
