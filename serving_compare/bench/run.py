"""One benchmark from options to raw results: rounds of fresh processes over prepared models.

Every round runs each kind of process once, in seeded random order: the timing of each untrained
model, the texts of the artifact, and every cold start. A slow stretch of the machine so meets all
of them. Nothing is timed in this process.

Parts, each a set of raw results of its own: `model-<H>`, `text`, `cold-ids`, `cold-text`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np

from export.bundle import Artifact
from serving_compare.agreement import AgreementError
from serving_compare.bench.forms import NATIVE
from serving_compare.bench.probe import WORKER, ProbedModel, Progress, prepare_models
from serving_compare.bench.profile import BenchProfile
from serving_compare.bench.text import TEXT_FORMS
from serving_compare.child import ChildJob, run_children
from serving_compare.compare import describe_artifact, list_files
from serving_compare.machine import LIBRARIES, read_machine, read_versions, reserve_core
from serving_compare.results import Results
from serving_compare.schedule import has_time_for_round

COLD_WORKER = "serving_compare.bench.cold"
PEER_LIBRARIES = ("tf2onnx", "openvino", "ai-edge-litert", "torch")
INTERFACES = ("ids", "text")
MODEL_PART, TEXT_PART, COLD_PART = "model-", "text", "cold-"
"""Names of the parts; units and interfaces follow."""

Parts = dict[str, Results]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An artifact and the texts it is asked.

    Attributes:
        artifact: Whose forms answer raw texts and are started cold.
        texts: From its test split, or its own probes; the first ones start it, one a round.
        ids: A row of ids for the cold starts with ids in.
        source: What the texts are, in words.
        has_word_table: Whether its lookup folder knows the ids of whole words.
        tolerance: By how much probabilities of its lookup folder may differ from the model's.
    """

    artifact: Artifact
    texts: Sequence[str]
    ids: Sequence[int]
    source: str
    has_word_table: bool
    tolerance: float


@dataclass(frozen=True, kw_only=True)
class _Turn:
    """One process of a round: the part it belongs to, and the form where it starts only one."""

    part: str
    module: str
    fields: Mapping[str, Any]
    form: str = ""


def run_bench(
    profile: BenchProfile,
    subject: Subject | None,
    *,
    name: str,
    seed: int,
    scratch: Path,
    progress: Progress = lambda step, share: None,
) -> Parts:
    """Prepare the models, then time everything in rounds of fresh processes.

    Args:
        profile: How thoroughly.
        subject: What the texts and cold starts are of, or None to leave them out.
        name: Of the report.
        seed: Of weights, rows and every order.
        scratch: An existing folder for models and processes.
        progress: Told of every finished process.

    Returns:
        Raw results by part.

    Raises:
        ProgramError: A model could not be made.
        AgreementError: A form answers wrongly; nothing was timed.
        ChildError: A process failed.
    """
    began = time.monotonic()
    common = Results(
        name=name,
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        settings={"profile": profile.to_json(), "seed": seed},
        artifact={},
        machine=read_machine(),  # before anything raises the load
        versions=read_versions((*LIBRARIES, *PEER_LIBRARIES)),
        workload={},
        backends=[],
        agreement={},
        accuracy={},
        sizes={},
        processes=[],
        samples={},
    )
    models = prepare_models(profile, scratch, seed=seed, progress=progress)
    turns = [_model_turn(profile, model, seed) for model in models]
    parts = {
        turn.part: _describe_model(common, model) for turn, model in zip(turns, models, strict=True)
    }
    if subject is not None:
        has_native = any(form.startswith(NATIVE) for form in models[0].forms)
        turns += _subject_turns(profile, subject, has_native)
        for turn in turns[len(models) :]:
            part = parts.setdefault(turn.part, _describe_subject(common, subject))
            part.backends.extend([turn.form] if turn.form else turn.fields["forms"])
    _run_rounds(profile, turns, parts, seed, scratch, progress, began)
    return parts


def _model_turn(profile: BenchProfile, model: ProbedModel, seed: int) -> _Turn:
    return _Turn(
        part=f"{MODEL_PART}{model.shape.units}",
        module=WORKER,
        fields={
            "mode": "model",
            "files": model.files._asdict(),
            "forms": model.forms,
            "vocab_size": model.shape.vocab_size,
            "units": model.shape.units,
            "lengths": profile.lengths,
            "cold_lengths": profile.cold_lengths,
            "cold_samples": profile.cold_samples,
            "limits": asdict(profile.limits),
            "batch_sizes": profile.batch_sizes,
            "bulk_limits": asdict(profile.bulk_limits),
            "data_seed": seed,
        },
    )


def _subject_turns(profile: BenchProfile, subject: Subject, has_native: bool) -> list[_Turn]:
    """The processes of a round that have to do with the artifact."""
    files = list_files(subject.artifact)._asdict()

    def runs_here(form: str) -> bool:
        return has_native or form != NATIVE

    turns = [
        _Turn(
            part=TEXT_PART,
            module=WORKER,
            fields={
                "mode": "text",
                "files": files,
                "forms": [form for form in TEXT_FORMS if runs_here(form)],
                "texts": subject.texts,
                "tolerance": subject.tolerance,
            },
        )
    ]
    for interface in INTERFACES:
        turns += [
            _Turn(
                part=f"{COLD_PART}{interface}",
                form=form,
                module=COLD_WORKER,
                fields={
                    "backend": form,
                    "interface": interface,
                    "files": files,
                    "texts": list(subject.texts[: profile.processes]),
                    "ids": list(subject.ids),
                },
            )
            for form in profile.starts
            if runs_here(form)
        ]
    return turns


def _describe_model(common: Results, model: ProbedModel) -> Results:
    return replace(
        common,
        artifact={"model": model.shape.to_json(), "unavailable": dict(model.unavailable)},
        workload=_describe_rows(common),
        backends=list(model.forms),
        agreement={
            form: {"max_abs_log_probability_diff": difference}
            for form, difference in model.differences.items()
        },
        processes=[],
        samples={},
    )


def _describe_rows(common: Results) -> dict[str, Any]:
    """The rows follow from the settings, so their hash is that of the settings."""
    text = json.dumps(common.settings, sort_keys=True)
    return {"sha256": hashlib.sha256(text.encode()).hexdigest()}


def _describe_subject(common: Results, subject: Subject) -> Results:
    text = json.dumps([list(subject.texts), list(subject.ids)])
    return replace(
        common,
        artifact=describe_artifact(subject.artifact),
        workload={
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
            "texts": len(subject.texts),
            "source": subject.source,
            "word_table": subject.has_word_table,
        },
        backends=[],
        processes=[],
        samples={},
    )


def _run_rounds(
    profile: BenchProfile,
    turns: Sequence[_Turn],
    parts: Parts,
    seed: int,
    scratch: Path,
    progress: Progress,
    began: float,
) -> None:
    """Run all turns once a round, each in a process of its own, and add what they found."""
    random = np.random.default_rng(seed)
    rounds_s: list[float] = []
    with reserve_core() as core:
        for number in range(profile.processes):
            round_began = time.monotonic()
            if not has_time_for_round(
                elapsed_s=round_began - began, rounds_s=rounds_s, limit_s=profile.max_duration_s
            ):
                break
            for position, index in enumerate(random.permutation(len(turns))):
                turn = turns[int(index)]
                name = f"{turn.part} {turn.form}".strip()
                job = ChildJob(
                    name=f"{name}, round {number + 1}",
                    fields={
                        **turn.fields,
                        "round": number,
                        "order_seed": int(random.integers(2**31)),
                    },
                    output=scratch / f"{number}-{position}",
                    timeout_s=profile.child_timeout_s,
                )
                run_children([job], cores=[core], module=turn.module)
                _add_process(parts[turn.part], turn, job.output, number)
                done = number + (position + 1) / len(turns)
                progress(name, done / profile.processes)
            rounds_s.append(time.monotonic() - round_began)


def _add_process(part: Results, turn: _Turn, output: Path, number: int) -> None:
    """Add one process to the raw results of its part: an entry for each form it timed."""
    facts = json.loads(output.with_suffix(".json").read_text(encoding="utf-8"))
    if turn.form:
        part.processes.append({"round": number, "backend": turn.form, "cells": {}, **facts})
        return
    wrong = {form: count for form, count in facts.get("disagreements", {}).items() if count}
    if wrong:
        raise AgreementError(
            f"The forms do not agree on {len(turn.fields['texts'])} texts, so nothing is reported: "
            f"expected the answers of {turn.fields['forms'][0]}, found others to "
            + ", ".join(f"{count} of them by {form}" for form, count in wrong.items())
            + ". Check the artifact with `make verify`."
        )
    for form, cells in facts["cells"].items():
        part.processes.append(
            {
                "round": number,
                "backend": form,
                "timer_cost_ns": facts["timer_cost_ns"],
                "cells": cells,
            }
        )
    samples = cast("dict[tuple[int, str, str], Any]", part.samples)
    with np.load(output.with_suffix(".npz"), allow_pickle=False) as arrays:
        for key in arrays.files:
            form, _, cell = key.partition("/")
            samples[number, form, cell] = arrays[key]
