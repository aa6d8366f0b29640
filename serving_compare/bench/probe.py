"""Before anything is timed: make the untrained models, see which forms run, hold them to truth.

A form that is absent is left out with its reason. A form that answers wrongly ends the benchmark:
a wrong answer has no speed. All forms are tried in one process, since they will share one; where
that breaks, the peers are tried one library at a time beside TensorFlow and onnxruntime, and those
that break again are left out too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from serving_compare.agreement import AgreementError
from serving_compare.bench.forms import OWN_FORMS, FormFiles
from serving_compare.bench.models import (
    WEIGHTS_FILE,
    ModelShape,
    compute_reference,
    draw_rows,
    export_program,
    litert_program,
    read_weights,
)
from serving_compare.bench.peers import PEER_FORMS, is_installed
from serving_compare.bench.profile import BenchProfile
from serving_compare.bench.programs import run_programs
from serving_compare.bench.steps import REQUESTS
from serving_compare.child import ChildError, ChildJob, run_children
from serving_compare.machine import allowed_cores

if TYPE_CHECKING:
    from numpy.typing import NDArray

WORKER = "serving_compare.bench.worker"
LIMIT = 1e-5
"""Largest difference of a log-probability from float64 that float32 forms may have."""
LOOSE_LIMITS = {"lookup native int16": 1e-3, "lookup native int8": 3e-2, "openvino bf16": 3e-2}
"""The same for forms that round their weights on purpose: bounds against mistakes, not promises."""
COMPANIONS = ("onnx", "saved_model")
"""What every peer must be able to share a process with."""
ABSENT = "not installed"

Progress = Callable[[str, float], None]


@dataclass(frozen=True, kw_only=True)
class ProbedModel:
    """An untrained model whose forms are known to run here and to answer rightly.

    Attributes:
        shape: Its shape.
        files: Where its forms lie.
        forms: Names of those that run, in the order of the tables.
        unavailable: Name to reason of those that do not.
        differences: Form to its largest difference of a log-probability from float64.
    """

    shape: ModelShape
    files: FormFiles
    forms: tuple[str, ...]
    unavailable: Mapping[str, str]
    differences: Mapping[str, float]


def prepare_models(
    profile: BenchProfile, scratch: Path, *, seed: int, progress: Progress
) -> list[ProbedModel]:
    """Export a model of each size and find out which of its forms can be timed.

    Args:
        profile: Its units and lengths.
        scratch: An existing folder.
        seed: Of the weights; the rows that are asked come from it too.
        progress: Told of each step.

    Raises:
        ProgramError: A model could not be exported.
        AgreementError: A form answers wrongly.
        ChildError: A process of this project's own forms failed.
    """
    shapes = [ModelShape(units=units) for units in profile.units]
    files = [
        FormFiles(
            folder=str(scratch / f"untrained-{shape.units}"),
            num_classes=shape.num_classes,
            litert=str(scratch / f"litert-{shape.units}") if is_installed("litert") else "",
        )
        for shape in shapes
    ]
    progress("exporting models", 0.0)
    exports = [
        export_program(Path(where.folder), shape, seed=seed)
        for shape, where in zip(shapes, files, strict=True)
    ]
    # One at a time: each already runs its tf2onnx conversion beside itself.
    run_programs(exports, at_once=1, timeout_s=profile.child_timeout_s * len(exports))
    conversions = []
    for where in files:
        if where.litert:
            Path(where.litert).mkdir()
            conversions.append(
                litert_program(Path(where.folder), Path(where.litert), profile.lengths)
            )
    at_once = len(allowed_cores() or [0])
    run_programs(conversions, at_once=at_once, timeout_s=profile.child_timeout_s * len(files))
    models: list[ProbedModel] = []
    for shape, where in zip(shapes, files, strict=True):
        progress(f"agreement, H={shape.units}", 0.0)
        known = models[0] if models else None
        models.append(_probe_model(profile, shape, where, known, scratch, seed))
    return models


def _probe_model(
    profile: BenchProfile,
    shape: ModelShape,
    files: FormFiles,
    known: ProbedModel | None,
    scratch: Path,
    seed: int,
) -> ProbedModel:
    """Probe a model; of a further one only the forms that ran with the first."""

    def make_job(forms: tuple[str, ...], name: str) -> ChildJob:
        return ChildJob(
            name=f"{name} of the model with {shape.units} units",
            fields={
                "mode": "probe",
                "files": files._asdict(),
                "forms": forms,
                "vocab_size": shape.vocab_size,
                "lengths": profile.lengths,
                "data_seed": seed,
            },
            output=scratch / f"probe-{shape.units}-{name.replace(' ', '_')}",
            timeout_s=profile.child_timeout_s,
        )

    peers = tuple(form for form in PEER_FORMS if is_installed(form))
    answers: dict[str, NDArray[np.float32]] = {}
    unavailable: dict[str, str] = dict(known.unavailable) if known else {}
    if known:
        _ask(make_job(known.forms, "Forms"), answers, unavailable)
    else:
        unavailable = dict.fromkeys((form for form in PEER_FORMS if form not in peers), ABSENT)
        try:
            _ask(make_job((*OWN_FORMS, *peers), "Forms"), answers, unavailable)
        except ChildError:
            if not peers:
                raise
            _ask(make_job(tuple(OWN_FORMS), "Own forms"), answers, unavailable)
            for library in dict.fromkeys(form.split()[0] for form in peers):
                forms = tuple(form for form in peers if form.split()[0] == library)
                try:
                    _ask(make_job((*COMPANIONS, *forms), library), answers, unavailable)
                except ChildError as err:
                    last_line = str(err).strip().splitlines()[-1].strip()
                    unavailable |= dict.fromkeys(forms, f"failed: {last_line}")
    rows = draw_rows(shape.vocab_size, profile.lengths, count=REQUESTS, seed=seed)
    weights = read_weights(files.path(WEIGHTS_FILE))
    reference = np.concatenate([compute_reference(weights, ids) for ids in rows.values()])
    order = [*OWN_FORMS, *PEER_FORMS]
    return ProbedModel(
        shape=shape,
        files=files,
        forms=tuple(name for name in order if name in answers),
        unavailable={name: unavailable[name] for name in order if name in unavailable},
        differences=check_answers(answers, reference, units=shape.units),
    )


def _ask(
    job: ChildJob, answers: dict[str, NDArray[np.float32]], unavailable: dict[str, str]
) -> None:
    cores = allowed_cores()
    run_children([job], cores=[cores[-1] if cores else None], module=WORKER)
    with np.load(job.output.with_suffix(".npz"), allow_pickle=False) as arrays:
        answers |= {name: arrays[name] for name in arrays.files}
    facts = json.loads(job.output.with_suffix(".json").read_text(encoding="utf-8"))
    unavailable |= facts["unavailable"]


def check_answers(
    answers: Mapping[str, NDArray[np.float32]], reference: NDArray[np.float64], *, units: int
) -> dict[str, float]:
    """Return each form's largest difference of a log-probability from float64.

    Args:
        answers: Form to probabilities (N, C); `null` answers nothing and is passed over.
        reference: (N, C) log-probabilities.
        units: H, for messages.

    Raises:
        AgreementError: A difference is larger than the form's rounding explains.
    """
    differences, problems = {}, []
    for name, probabilities in answers.items():
        if name == "null":
            continue
        # A probability of 0 or below has no logarithm; it is far from right in any case.
        logs = np.log(np.maximum(probabilities.astype(np.float64), 1e-30))
        differences[name] = float(np.abs(logs - reference).max())
        limit = LOOSE_LIMITS.get(name, LIMIT)
        # Written so that NaN fails as well.
        if not differences[name] <= limit:
            problems.append(
                f"    {name}: expected log-probabilities within {limit:g} of float64, found a "
                f"difference of {differences[name]:.2g}."
            )
    if problems:
        raise AgreementError(
            f"The forms of the model with {units} units do not agree, so nothing was timed.\n"
            + "\n".join(problems)
            + "\n    Leave the form out, or mend it."
        )
    return differences
