"""One comparison from artifact to results: questions, agreement, then interleaved rounds.

Nothing is timed in this process, and nothing heavier than NumPy and sentencepiece is imported
into it. What is written before the end lies in a scratch folder that the caller removes.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from export.bundle import Artifact
from export.lookup import LookupModel, load_lookup, read_lookup
from export.lookup.native import is_available as is_native_available
from export.lookup.native_engine import NativeEngine
from serving_compare.agreement import TOLERANCE, check_agreement
from serving_compare.backends import BACKENDS, NULL, ArtifactFiles, measure_size_bytes
from serving_compare.child import ChildJob, run_children
from serving_compare.machine import allowed_cores, read_machine, read_versions
from serving_compare.peers import PEER_LIBRARIES, list_missing
from serving_compare.results import Results
from serving_compare.rounds import Progress, read_output, time_backends
from serving_compare.schedule import Profile
from serving_compare.workload import LabelledTexts, make_workload, write_workload

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEFAULT_TOP_K = 3
INSTALL_PEERS = "Install the extra with `pip install -e '.[peers]'` (several GB), or leave it out."


class BackendsError(Exception):
    """A choice of backends that cannot be compared with this artifact."""


@dataclass(frozen=True, kw_only=True)
class Questions:
    """What agreement and accuracy are found with.

    Attributes:
        golden_rows: Ids of each probe.
        golden_texts: Text of each probe.
        golden: (N, C) float32, Keras's probabilities of them.
        split: Labelled texts; their labels are None where only the probes are known.
        source: What the texts are, in words.
    """

    golden_rows: list[list[int]]
    golden_texts: list[str]
    golden: NDArray[np.float32]
    split: LabelledTexts
    source: str


def choose_backends(
    artifact: Artifact, wanted: Sequence[str] | None, *, with_peers: bool = False
) -> list[str]:
    """Return the backends to compare, in the order of the tables, `null` always among them.

    Args:
        artifact: What they load; `tf2onnx` needs its oracle graph.
        wanted: Names, or None for all that the artifact has files for, peers aside.
        with_peers: Whether the peers that are installed are added.

    Raises:
        BackendsError: A name is unknown, its file is missing from the artifact, or its library is
            not installed.
    """
    oracle = artifact.oracle_path
    installed = [peer for peer in PEER_LIBRARIES if not list_missing(peer)]
    if with_peers and not installed:
        raise BackendsError(
            f"--peers: expected at least one of {', '.join(PEER_LIBRARIES)}, found none installed. "
            f"{INSTALL_PEERS}"
        )
    if wanted is not None and with_peers:
        wanted = [*wanted, *installed]
    if wanted is None:
        absent = set(PEER_LIBRARIES) - (set(installed) if with_peers else set())
        if not oracle.is_file():
            absent.add("tf2onnx")
        if not is_native_available():
            absent.add("lookup_numpy")  # `lookup` is the same then
        return [name for name in BACKENDS if name not in absent]
    unknown = [name for name in wanted if name not in BACKENDS]
    if unknown:
        raise BackendsError(
            f"--backends: expected names out of {', '.join(BACKENDS)}, found {unknown[0]!r}."
        )
    if set(wanted) == {NULL}:
        raise BackendsError(
            f"--backends: expected at least one backend beside {NULL}, found {NULL} alone: it is "
            "what the harness costs, and says nothing by itself. Add one, such as lookup."
        )
    if "tf2onnx" in wanted and not oracle.is_file():
        raise BackendsError(
            f"--backends tf2onnx: expected oracle/{oracle.name} in {artifact.folder}, found none. "
            "Leave tf2onnx out, or export the run again."
        )
    for peer in PEER_LIBRARIES:
        if peer in wanted and list_missing(peer):
            raise BackendsError(
                f"--backends {peer}: expected {' and '.join(list_missing(peer))} to be installed, "
                f"found not. {INSTALL_PEERS}"
            )
    return [name for name in BACKENDS if name in wanted or name == NULL]


def describe_engine(runtime: LookupModel) -> str:
    """Return what computes `lookup` here, such as "native avx2" or "numpy"."""
    engine = runtime.engine
    return f"native {engine.isa}" if isinstance(engine, NativeEngine) else engine.name


def make_questions(artifact: Artifact, split: LabelledTexts | None, source: str) -> Questions:
    """Return the probes of the artifact, and the texts that everything else is made from.

    Args:
        artifact: Whose probes.
        split: The test split, or None to take the probes' texts, without labels.
        source: What `split` is, in words.
    """
    probes = read_lookup(artifact.lookup_path, check_hashes=False).golden
    texts = tuple(probe.text for probe in probes)
    return Questions(
        golden_rows=[list(probe.ids) for probe in probes],
        golden_texts=list(texts),
        golden=np.array([probe.probabilities for probe in probes], np.float32),
        split=split or LabelledTexts(texts=texts, labels=None),
        source=source if split else "the artifact's own probes (no test split found)",
    )


def run_comparison(
    artifact: Artifact,
    questions: Questions,
    backends: Sequence[str],
    profile: Profile,
    *,
    name: str,
    seed: int,
    scratch: Path,
    progress: Progress = lambda step, share: None,
) -> Results:
    """Check agreement, then time all backends in interleaved rounds.

    Args:
        artifact: What is compared.
        questions: See `make_questions`.
        backends: See `choose_backends`.
        profile: How thoroughly.
        name: Of the report.
        seed: Of workload and schedule.
        scratch: An existing folder for the children's files.
        progress: Told of every finished child and slice.

    Raises:
        AgreementError: Backends answer differently; nothing was timed.
        ChildError: A child process failed.
    """
    began = time.monotonic()
    created = datetime.now(UTC).isoformat(timespec="seconds")
    machine = read_machine()  # before the children raise the load
    runtime = load_lookup(artifact.lookup_path)

    def encode(texts: Sequence[str]) -> list[list[int]]:
        ids, lengths = runtime.encode(list(texts))
        return [row[:n].tolist() for row, n in zip(ids, lengths, strict=True)]

    workload = make_workload(
        questions.split.texts,
        encode,
        max_tokens=artifact.max_tokens,
        vocab_size=int(artifact.manifest["model"]["vocab_size"]),
        seed=seed,
    )
    write_workload(scratch / "workload.json", workload)
    k = min(DEFAULT_TOP_K, len(artifact.labels))
    common = {
        "files": list_files(artifact)._asdict(),
        "workload": str(scratch / "workload.json"),
        "first_text": questions.golden_texts[0],
    }
    answers = _ask_backends(backends, questions, profile, common, k, scratch, progress)
    agreement = check_agreement(
        {backend: arrays for backend, (arrays, _) in answers.items()},
        questions.golden,
        tuple(workload.cells),
        k=k,
        tolerances=read_tolerances(artifact, backends),
    )
    timings = time_backends(
        backends,
        list(workload.cells),
        profile,
        common,
        seed=seed,
        scratch=scratch,
        progress=progress,
        began=began,
    )
    return Results(
        name=name,
        created_utc=created,
        settings={"profile": profile.to_json(), "seed": seed, "tolerance": TOLERANCE, "k": k},
        artifact=describe_artifact(artifact),
        machine=machine,
        versions=read_versions() | {"lookup engine": describe_engine(runtime)},
        workload={
            "sha256": workload.sha256,
            "notes": dict(workload.notes),
            "texts": len(questions.split.texts),
            "source": questions.source,
        },
        backends=list(backends),
        agreement={
            backend: {part: found.to_json() for part, found in parts.items()}
            for backend, parts in agreement.items()
        },
        accuracy={
            backend: measure_accuracy(arrays["top_k"], questions.split.labels, single_texts)
            for backend, (arrays, single_texts) in answers.items()
            if questions.split.labels is not None
        },
        sizes={
            backend: {
                "ids": measure_size_bytes(backend, "ids", list_files(artifact)),
                "text": measure_size_bytes(backend, "text", list_files(artifact)),
            }
            for backend in backends
        },
        processes=timings.processes,
        samples=timings.samples,
    )


def read_tolerances(artifact: Artifact, backends: Sequence[str]) -> dict[str, float]:
    """Return how far from Keras the backends that read the lookup folder may be."""
    tolerance = read_lookup(artifact.lookup_path, check_hashes=False).tolerance
    return {name: tolerance for name in backends if name.startswith("lookup")}


def describe_artifact(artifact: Artifact) -> dict[str, Any]:
    """Return what a report tells of the artifact; the manifest's hash stands for all its files."""
    manifest_bytes = (artifact.folder / "manifest.json").read_bytes()
    stored = artifact.manifest.get("compression", {})  # of schema version 1: none, all exact
    return {
        "name": artifact.name,
        "version": artifact.version,
        "manifest_sha256": hashlib.sha256(manifest_bytes).hexdigest(),
        "model": {
            **artifact.manifest["model"],
            **{key: stored[key] for key in ("table_dtype", "recurrent_dtype") if key in stored},
        },
        "max_tokens": artifact.max_tokens,
    }


def measure_accuracy(
    top_k: NDArray[np.int64], labels: Sequence[int], single_rows: int
) -> dict[str, Any]:
    """Return the share of texts whose label is first, and among the first k.

    Args:
        top_k: (N, k) class ids, best first.
        labels: N class ids.
        single_rows: How many of them were answered by a call of their own.
    """
    is_hit = top_k == np.asarray(labels)[:, None]
    return {
        "top_1": float(is_hit[:, 0].mean()),
        "top_k": float(is_hit.any(axis=1).mean()),
        "k": int(top_k.shape[1]),
        "rows": len(top_k),
        "single_rows": single_rows,
    }


def list_files(artifact: Artifact) -> ArtifactFiles:
    """Return where the backends find their files, as absolute paths."""
    return ArtifactFiles(
        saved_model=str(artifact.saved_model_path.resolve()),
        saved_model_text=str(artifact.saved_model_text_path.resolve()),
        onnx=str(artifact.onnx_path.resolve()),
        lookup=str(artifact.lookup_path.resolve()),
        tokenizer=str(artifact.tokenizer_path.resolve()),
        tf2onnx=str(artifact.oracle_path.resolve()),
        max_tokens=artifact.max_tokens,
        num_classes=len(artifact.labels),
    )


def _ask_backends(
    backends: Sequence[str],
    questions: Questions,
    profile: Profile,
    common: Mapping[str, Any],
    k: int,
    scratch: Path,
    progress: Progress,
) -> dict[str, tuple[dict[str, Any], int]]:
    """Each backend's answers and how many texts it answered singly. Untimed: one child a core."""
    asked = [backend for backend in backends if backend != NULL]
    (scratch / "questions.json").write_text(
        json.dumps(
            {
                "golden_rows": questions.golden_rows,
                "golden_texts": questions.golden_texts,
                "texts": questions.split.texts if questions.split.labels else [],
                "k": k,
            }
        ),
        encoding="utf-8",
    )
    jobs = {
        backend: ChildJob(
            name=f"{backend}, agreement",
            fields={
                **common,
                "mode": "answer",
                "backend": backend,
                "questions": str(scratch / "questions.json"),
                "budget_s": profile.answer_budget_s,
            },
            output=scratch / f"answer-{backend}",
            timeout_s=profile.child_timeout_s,
        )
        for backend in asked
    }
    run_children(
        list(jobs.values()),
        cores=allowed_cores() or [None],
        on_done=lambda job: progress(job.name, 0.0),
    )
    return {
        backend: (arrays, int(facts["single_texts"]))
        for backend, (facts, arrays) in (
            (backend, read_output(job.output)) for backend, job in jobs.items()
        )
    }
