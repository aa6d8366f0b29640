"""Decides whether XLA compiles the training step, by timing both on a few real batches.

XLA saves time a step and costs seconds a batch shape. Which of the two is more depends on the
processor, the model and how long the training is, so a training long enough to bear a few seconds
of trying times both at its start. The decision is kept beside the checkpoint: a training that was
killed goes on as it began.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from pipeline.config import TrainConfig
from pipeline.dataset import WIDTHS
from pipeline.json_file import write_json

PLAN_FILE = "compute_plan.json"
MIN_STEPS = 1500
"""Of shorter trainings trying alone, two traces and two compilations, costs more than XLA saves."""
PROBE_BATCHES = 24
REPEATS = 3
"""Times each probed batch is stepped on; the median counts, as other programs disturb a step."""

Batch = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class ComputePlan:
    """Whether XLA compiles, why, and what was measured.

    Attributes:
        is_compiled: Whether it does.
        reason: In words; follows "XLA: on, " or "XLA: off, ".
        plain_step_ms: A step without XLA, where it was measured.
        compiled_step_ms: The same with it.
        compile_s: Seconds a batch shape, or those of the first with the tracing in them.
        shapes: Batch shapes expected.
        steps_left: Steps that were to be done.
    """

    is_compiled: bool
    reason: str
    plain_step_ms: float | None = None
    compiled_step_ms: float | None = None
    compile_s: float | None = None
    shapes: int | None = None
    steps_left: int | None = None

    def __str__(self) -> str:
        return f"XLA: {'on' if self.is_compiled else 'off'}, {self.reason}"

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values; inverse of `from_json`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Return the plan of `to_json`."""
        return cls(**fields)


def decide(
    *,
    plain_step_ms: float,
    compiled_step_ms: float,
    compile_s: float,
    shapes: int,
    steps_left: int,
) -> ComputePlan:
    """Decide by what is left to do: XLA is on if it saves more than compiling all shapes costs.

    Example:
        61 ms a step against 58 with XLA save 5 s in 1,800 steps; nine shapes of 1.5 s cost more.
    """
    cost_s = shapes * compile_s
    saved_s = steps_left * (plain_step_ms - compiled_step_ms) / 1000
    left_s = steps_left * plain_step_ms / 1000
    return ComputePlan(
        is_compiled=saved_s > cost_s,
        reason=(
            f"{plain_step_ms:.0f} ms a step without it and {compiled_step_ms:.0f} ms with it: it "
            f"saves {max(saved_s, 0):.0f} s of the {left_s:.0f} s left, and compiling {shapes} "
            f"shapes takes {cost_s:.0f} s."
        ),
        plain_step_ms=plain_step_ms,
        compiled_step_ms=compiled_step_ms,
        compile_s=compile_s,
        shapes=shapes,
        steps_left=steps_left,
    )


def plan_compute(
    folder: Path,
    model: keras.Model,
    training: TrainConfig,
    *,
    steps_left: int,
    read_batches: Callable[[int], Sequence[Batch]],
) -> ComputePlan:
    """Return the plan of this training: an asked one, the one it began with, or a new one.

    Args:
        folder: The partial run folder, where the plan is kept.
        model: Compiled without XLA unless it is asked for; what trying changes is put back.
        training: How to fit.
        steps_left: Steps still to be done.
        read_batches: Gives so many batches of the training, as they come.
    """
    if training.jit_compile != "auto":
        return ComputePlan(is_compiled=training.jit_compile == "on", reason="as asked.")
    path = folder / PLAN_FILE
    if path.is_file():
        return ComputePlan.from_json(json.loads(path.read_text(encoding="utf-8")))
    plan = _make_plan(model, training, steps_left, read_batches)
    write_json(path, plan.to_json())
    return plan


def _make_plan(
    model: keras.Model,
    training: TrainConfig,
    steps_left: int,
    read_batches: Callable[[int], Sequence[Batch]],
) -> ComputePlan:
    if training.deterministic:
        reason = "a deterministic training may not depend on what was measured."
    elif tf.distribute.has_strategy() or model.distribute_strategy.num_replicas_in_sync > 1:
        reason = "several devices or processes train together."
    elif tf.config.list_physical_devices("GPU"):
        reason = "layers on cuDNN cannot be compiled."
    elif steps_left < MIN_STEPS:
        reason = f"{steps_left:,} steps are too few to pay for trying (from {MIN_STEPS:,} on)."
    else:
        return measure(model, read_batches(PROBE_BATCHES), steps_left=steps_left)
    return ComputePlan(is_compiled=False, reason=reason)


def settle(model: keras.Model, training: TrainConfig, plan: ComputePlan) -> TrainConfig:
    """Give a compiled `model` what the plan says, and return the settings with it in them."""
    if bool(model.jit_compile) != plan.is_compiled:
        model.jit_compile = plan.is_compiled
        model.train_function = model.test_function = None
    return dataclasses.replace(training, jit_compile="on" if plan.is_compiled else "off")


def measure(model: keras.Model, batches: Sequence[Batch], *, steps_left: int) -> ComputePlan:
    """Time steps of `model` without XLA and with it, put back what they changed, and decide.

    Args:
        model: Compiled, without XLA; keeps the function of the kind that was decided on.
        batches: Real ones, ((B, T) int32 ids, (B,) int32 labels), padded to their longest rows.
        steps_left: Steps still to be done.
    """
    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    values = [variable.numpy() for variable in variables]
    padded = [(_pad(ids), labels) for ids, labels in batches]
    # Two shapes: the first call of a function traces it too, that of the second compiles only.
    shapes = Counter(ids.shape for ids, _ in padded)
    probed = [shape for shape, _ in shapes.most_common(2)]
    places = [
        next(i for i, (ids, _) in enumerate(padded) if ids.shape == shape) for shape in probed
    ]

    plain = _make_function(model, is_compiled=False)
    _time_steps_ms(plain, batches[:1])  # traces
    all_ms = _time_steps_ms(plain, batches)
    plain_ms = [_median_ms(plain, batches[place]) for place in places]
    compiled = _make_function(model, is_compiled=True)
    first_s: list[float] = []
    compiled_ms: list[float] = []
    try:
        for place in places:
            first_s.append(_time_steps_ms(compiled, padded[place : place + 1])[0] / 1000)
            compiled_ms.append(_median_ms(compiled, padded[place]))
            if compiled_ms[0] >= plain_ms[0]:
                break  # whatever compiling costs, it does not pay
    except tf.errors.OpError as err:
        model.jit_compile, model.train_function = False, plain
        return ComputePlan(
            is_compiled=False, reason=f"it cannot compile this model: {str(err)[:120]}"
        )
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
    step_ms = statistics.median(all_ms)
    plan = decide(
        plain_step_ms=step_ms,
        compiled_step_ms=step_ms * sum(compiled_ms) / sum(plain_ms[: len(compiled_ms)]),
        compile_s=max(first_s[-1] - compiled_ms[-1] / 1000, 0.0),
        shapes=len(shapes) + 1,  # and the last batch, which holds fewer rows
        steps_left=steps_left,
    )
    model.jit_compile = plan.is_compiled
    model.train_function = compiled if plan.is_compiled else plain
    return plan


def _pad(ids: np.ndarray) -> np.ndarray:
    """Pad ids as `dataset` does under XLA."""
    width = next((width for width in WIDTHS if width >= ids.shape[1]), ids.shape[1])
    return np.pad(ids, ((0, 0), (0, width - ids.shape[1])))


def _make_function(model: keras.Model, *, is_compiled: bool) -> Callable[[Any], Any]:
    model.jit_compile = is_compiled
    model.make_train_function(force=True)
    function: Callable[[Any], Any] = model.train_function
    return function


def _time_steps_ms(function: Callable[[Any], Any], batches: Sequence[Batch]) -> list[float]:
    """Step once on each batch, from one iterator as in a `fit`, and return what each step took."""
    # Of unknown shapes: traced once, and never anew for a shape. Making the iterator takes as long
    # as a step, so it is not timed.
    iterator = iter(
        tf.data.Dataset.from_generator(
            lambda: batches,
            output_signature=(
                tf.TensorSpec((None, None), tf.int32),
                tf.TensorSpec((None,), tf.int32),
            ),
        ).prefetch(len(batches))
    )
    times_ms: list[float] = []
    for _ in batches:
        started = time.perf_counter()
        logs = function(iterator)
        float(next(iter(logs.values())))  # waits for the step's end
        times_ms.append((time.perf_counter() - started) * 1000)
    return times_ms


def _median_ms(function: Callable[[Any], Any], batch: Batch) -> float:
    # One more in front: the first of an iterator waits for it to start.
    return statistics.median(_time_steps_ms(function, [batch] * (REPEATS + 1))[1:])
