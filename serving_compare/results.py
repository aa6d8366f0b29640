"""Raw results on disk: every sample is kept, and the report is rebuilt from nothing else.

    raw/raw.json      what was asked, of whom, on which machine; facts of every child process
    raw/samples.npz   int64 ns, one array per round, backend and cell: "<round>/<backend>/<cell>"
    raw/http.json     and http.npz, where the comparison went over HTTP too: what was found there

`write_results` and `read_results` are inverses. `merge_results` puts runs of one artifact on one
machine together and refuses anything else.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from serving_compare.machine import likeness

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from serving_compare.load.results import Http

RESULTS_SCHEMA_VERSION = 2
READABLE_VERSIONS = (1, 2)
"""Version 1 knew one slice a cell, one thread a process and no HTTP."""
RAW_FILE = "raw.json"
SAMPLES_FILE = "samples.npz"
HTTP_FILE = "http.json"
NOT_IN_HEADER = ("samples", "http")
MAX_RAW_BYTES = 2**28
"""Bound on raw.json before it is parsed."""

Json = dict[str, Any]


class ResultsError(Exception):
    """Raw results that cannot be read, or must not be put together."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """All that one comparison found out.

    Attributes:
        name: Of the report.
        created_utc: When it began, ISO 8601.
        settings: Profile, seed, tolerance and k.
        artifact: Name, version, hash of its manifest, model, max_tokens.
        machine: See `serving_compare.machine.read_machine`.
        versions: Library to version.
        workload: Hash, notes on each cell, where the texts came from.
        backends: Names in the order of the tables.
        agreement: Backend to what `check_agreement` found.
        accuracy: Backend to top_1, top_k, k, rows, single_rows; empty where no label is known.
        sizes: Backend to bytes on disk for `ids` and `text`.
        processes: One entry a child: round, backend, position, threads, stages_ns, memory,
            timer_cost_ns, cells. Children of the all-cores row have several threads.
        samples: (round, backend, cell) to int64 ns; a sample spans the cell's `inner_loops` calls.
        http: What was measured over HTTP, or None.
    """

    name: str
    created_utc: str
    settings: Json
    artifact: Json
    machine: Json
    versions: dict[str, str]
    workload: Json
    backends: list[str]
    agreement: Json
    accuracy: Json
    sizes: Json
    processes: list[Json]
    samples: Mapping[tuple[int, str, str], NDArray[np.int64]]
    http: Http | None = None

    def processes_of(self, backend: str) -> list[Json]:
        """Return the child processes of a backend with one thread, by round."""
        return self._processes(lambda p: p["backend"] == backend and p.get("threads", 1) == 1)

    def cell_names(self) -> list[str]:
        """Return the names of all cells, sorted."""
        return sorted({cell for _, _, cell in self.samples})

    def backends_in(self, cell: str) -> list[str]:
        """Return the backends that were timed in the cell, in the order of the tables."""
        timed = {backend for _, backend, name in self.samples if name == cell}
        return [backend for backend in self.backends if backend in timed]

    def threads_in(self, backend: str, cell: str) -> int:
        """Return how many threads the backend had in the cell."""
        return int(self._processes_in(backend, cell)[0].get("threads", 1))

    def call_ns(self, backend: str, cell: str) -> list[NDArray[np.float64]]:
        """Return ns per call, one array a round."""
        return [
            self.samples[process["round"], backend, cell] / process["cells"][cell]["inner_loops"]
            for process in self._processes_in(backend, cell)
        ]

    def slice_medians_ns(self, backend: str, cell: str) -> list[NDArray[np.float64]]:
        """Return the median ns of a call in each slice, one array of (slices,) a round."""
        rounds = []
        for process, calls_ns in zip(
            self._processes_in(backend, cell), self.call_ns(backend, cell), strict=True
        ):
            counts = process["cells"][cell].get("slices", [len(calls_ns)])
            slices = np.split(calls_ns, np.cumsum(counts)[:-1])
            # The smallest value that half of the others do not exceed: what is shown was measured.
            rounds.append(np.array([np.quantile(s, 0.5, method="inverted_cdf") for s in slices]))
        return rounds

    def is_single_call(self, backend: str, cell: str) -> bool:
        """Return whether every sample of the cell is one call."""
        return all(
            process["cells"][cell]["inner_loops"] == 1
            for process in self._processes_in(backend, cell)
        )

    def _processes_in(self, backend: str, cell: str) -> list[Json]:
        return self._processes(lambda p: p["backend"] == backend and cell in p["cells"])

    def _processes(self, is_wanted: Callable[[Json], bool]) -> list[Json]:
        found = [process for process in self.processes if is_wanted(process)]
        return sorted(found, key=lambda process: int(process["round"]))


def write_results(folder: Path, results: Results) -> None:
    """Write raw.json, samples.npz and the http part, if there is one, into a new `folder`."""
    folder.mkdir(parents=True)
    header = {
        field.name: getattr(results, field.name)
        for field in fields(results)
        if field.name not in NOT_IN_HEADER
    }
    np.savez_compressed(
        folder / SAMPLES_FILE,
        allow_pickle=False,
        **{"/".join(map(str, key)): array for key, array in results.samples.items()},
    )
    text = json.dumps(
        {"schema_version": RESULTS_SCHEMA_VERSION, **header},
        indent=1,  # keys in their own order: the rebuilt report is the same, byte for byte
        allow_nan=False,
    )
    (folder / RAW_FILE).write_text(text + "\n", encoding="utf-8")
    if results.http is not None:
        from serving_compare.load.results import write_http

        write_http(folder, results.http)


def read_results(folder: Path) -> Results:
    """Read what `write_results` wrote.

    Raises:
        ResultsError: A file is missing, damaged, too large or of a newer schema, or samples and
            processes do not belong together.
    """
    header = _read_header(folder / RAW_FILE)
    version = header.pop("schema_version", None)
    if version not in READABLE_VERSIONS:
        raise ResultsError(
            f"{folder / RAW_FILE}: expected schema_version 1 to {RESULTS_SCHEMA_VERSION}, found "
            f"{version!r}. Compare again with `make compare`, or use the gatetable that wrote it."
        )
    try:
        results = Results(
            **header, samples=_read_samples(folder / SAMPLES_FILE), http=_read_http(folder)
        )
        expected = {
            (process["round"], process["backend"], cell)
            for process in results.processes
            for cell in process["cells"]
        }
    except (TypeError, KeyError) as err:
        raise ResultsError(
            f"{folder / RAW_FILE}: expected the fields of a comparison, found {err}. "
            "Compare again with `make compare`."
        ) from err
    if expected != set(results.samples):
        raise ResultsError(
            f"{folder / SAMPLES_FILE}: expected the {len(expected)} arrays raw.json names, found "
            f"{len(results.samples)} arrays, {len(expected ^ set(results.samples))} of them "
            "missing or unknown. Compare again with `make compare`."
        )
    _check_slices(folder, results)
    return results


def merge_results(parts: Sequence[Results], *, name: str) -> Results:
    """Return one set of results with the rounds of all parts.

    Args:
        parts: At least one.
        name: Of the merged report.

    Raises:
        ResultsError: Machine, library versions, artifact, workload or backends differ, or several
            parts went over HTTP: a search for the highest rate has no rounds to put together.
    """
    first = parts[0]
    over_http = [part for part in parts if part.http is not None]
    if len(over_http) > 1:
        raise ResultsError(
            f"{over_http[1].name}: expected at most one report that went over HTTP, found a second "
            f"beside {over_http[0].name}. Merge it with reports made without --http."
        )
    merged = replace(
        first,
        name=name,
        processes=[],
        samples={},
        http=over_http[0].http if over_http else None,
    )
    samples: dict[tuple[int, str, str], NDArray[np.int64]] = {}
    offset = 0
    for part in parts:
        _check_alike(first, part)
        merged.processes.extend(
            {**process, "round": process["round"] + offset} for process in part.processes
        )
        samples |= {
            (number + offset, backend, cell): array
            for (number, backend, cell), array in part.samples.items()
        }
        offset += 1 + max(process["round"] for process in part.processes)
    return replace(merged, samples=samples)


def _check_alike(first: Results, other: Results) -> None:
    compared: dict[str, tuple[Any, Any]] = {
        "machine": (likeness(first.machine), likeness(other.machine)),
        "versions": (first.versions, other.versions),
        "artifact": (first.artifact, other.artifact),
        "workload": (first.workload["sha256"], other.workload["sha256"]),
        "backends": (first.backends, other.backends),
    }
    for subject, (expected, found) in compared.items():
        if expected == found:
            continue
        if isinstance(expected, dict) and isinstance(found, dict):
            key = next(k for k in {**expected, **found} if expected.get(k) != found.get(k))
            subject, expected, found = f"{subject}.{key}", expected.get(key), found.get(key)
        raise ResultsError(
            f"{other.name}: expected the same {subject} as in {first.name}, {expected!r}, found "
            f"{found!r}. Timings of unlike machines, artifacts or workloads say nothing together; "
            "read the reports side by side instead."
        )


def _check_slices(folder: Path, results: Results) -> None:
    """Slices must fill their arrays, and be as many for every backend: they are paired."""
    numbers: dict[tuple[int, str], int] = {}
    for process in results.processes:
        for cell, facts in process["cells"].items():
            samples = results.samples[process["round"], process["backend"], cell]
            counts = facts.get("slices", [len(samples)])
            if sum(counts) != len(samples) or min(counts, default=0) < 1:
                raise ResultsError(
                    f"{folder / RAW_FILE}, {process['backend']}, {cell}: expected slices of "
                    f"{len(samples)} samples together, none empty, found {counts}. Compare again "
                    "with `make compare`."
                )
            expected = numbers.setdefault((process["round"], cell), len(counts))
            if len(counts) != expected:
                raise ResultsError(
                    f"{folder / RAW_FILE}, {process['backend']}, {cell}: expected {expected} "
                    f"slices as the backends before it have in round {process['round']}, found "
                    f"{len(counts)}. Compare again with `make compare`."
                )


def _read_http(folder: Path) -> Http | None:
    if not (folder / HTTP_FILE).is_file():
        return None
    from serving_compare.load.results import read_http

    return read_http(folder)


def _read_header(path: Path) -> Json:
    try:
        size = path.stat().st_size
        if size > MAX_RAW_BYTES:
            raise ResultsError(f"{path}: expected at most {MAX_RAW_BYTES} bytes, found {size}.")
        header = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as err:
        raise ResultsError(
            f"{path}: no such file, so {path.parent.parent} is not a report. "
            "Make one with `make compare`."
        ) from err
    except ValueError as err:
        raise ResultsError(f"{path}: expected JSON, found {err}. Compare again.") from err
    if not isinstance(header, dict):
        raise ResultsError(f"{path}: expected an object, found {type(header).__name__}.")
    return header


def _read_samples(path: Path) -> dict[tuple[int, str, str], NDArray[np.int64]]:
    samples = {}
    try:
        # Opened here: np.load leaves the file open when it is no archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            for key in arrays.files:
                number, backend, cell = key.split("/")
                samples[int(number), backend, cell] = np.asarray(arrays[key])
    except (OSError, ValueError, zipfile.BadZipFile) as err:
        raise ResultsError(
            f"{path}: expected arrays named <round>/<backend>/<cell>, found {err}. Compare again."
        ) from err
    for key, array in samples.items():
        if array.dtype != np.int64 or array.ndim != 1 or not array.size or array.min() < 0:
            raise ResultsError(
                f"{path}, {'/'.join(map(str, key))}: expected a list of int64 ns, found "
                f"{array.dtype} of shape {array.shape}. Compare again with `make compare`."
            )
    return samples
