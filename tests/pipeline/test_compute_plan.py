"""Whether XLA pays: by arithmetic, by timing a real model, and only where it may be asked."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config import ModelConfig, TrainConfig

pytestmark = pytest.mark.slow

MEASURED: dict[str, Any] = {"compile_s": 1.5, "shapes": 9}


@pytest.fixture(scope="module")
def model() -> Any:
    import keras

    from pipeline.model import build_model
    from pipeline.objective import compile_model

    keras.utils.set_random_seed(1)
    config = ModelConfig(
        vocab_size=30, num_classes=3, embed_dim=4, units=3, embedding_dropout=0.2, head_dropout=0.2
    )
    model = build_model(config, cell="hoisted")
    compile_model(model, TrainConfig(), num_classes=3, total_steps=100)
    return model


@pytest.fixture
def batches() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [
        (rng.integers(1, 30, size=(6, width), dtype="int32"), rng.integers(0, 3, 6, dtype="int32"))
        for width in (5, 7, 11)
    ]


def refuse(count: int) -> Any:
    raise AssertionError("read batches that nobody is to time")


def test_xla_is_on_if_it_saves_more_than_compiling_costs() -> None:
    from pipeline.compute_plan import decide

    short = decide(plain_step_ms=61.0, compiled_step_ms=58.0, steps_left=1800, **MEASURED)
    assert not short.is_compiled
    assert str(short) == (
        "XLA: off, 61 ms a step without it and 58 ms with it: it saves 5 s of the 110 s left, and "
        "compiling 9 shapes takes 14 s."
    )
    long = decide(plain_step_ms=61.0, compiled_step_ms=58.0, steps_left=18_000, **MEASURED)
    assert str(long).startswith("XLA: on, 61 ms a step without it and 58 ms with it: it saves 54 s")
    slower = decide(plain_step_ms=58.0, compiled_step_ms=61.0, steps_left=18_000, **MEASURED)
    assert not slower.is_compiled
    assert "it saves 0 s of the 1044 s left" in str(slower)


@pytest.mark.parametrize(
    ("changes", "steps", "line"),
    [
        ({"jit_compile": "on"}, 9, "XLA: on, as asked."),
        ({"jit_compile": "off"}, 9**9, "XLA: off, as asked."),
        (
            {"deterministic": True},
            9**9,
            "XLA: off, a deterministic training may not depend on what was measured.",
        ),
        ({}, 1499, "XLA: off, 1,499 steps are too few to pay for trying (from 1,500 on)."),
    ],
)
def test_nothing_is_timed_where_nothing_is_to_be_decided(
    model: Any, tmp_path: Path, changes: dict[str, Any], steps: int, line: str
) -> None:
    from pipeline.compute_plan import plan_compute

    training = TrainConfig(**changes)
    plan = plan_compute(tmp_path, model, training, steps_left=steps, read_batches=refuse)
    assert str(plan) == line


def test_a_resumed_training_keeps_its_plan_unless_it_is_told(model: Any, tmp_path: Path) -> None:
    from pipeline.compute_plan import PLAN_FILE, decide, plan_compute
    from pipeline.json_file import write_json

    begun = decide(plain_step_ms=61.0, compiled_step_ms=30.0, steps_left=9000, **MEASURED)
    write_json(tmp_path / PLAN_FILE, begun.to_json())
    kept = plan_compute(tmp_path, model, TrainConfig(), steps_left=3, read_batches=refuse)
    assert kept == begun
    told = TrainConfig(jit_compile="off")
    plan = plan_compute(tmp_path, model, told, steps_left=3, read_batches=refuse)
    assert not plan.is_compiled


def test_timing_both_leaves_the_model_as_it_was_and_able_to_train(
    model: Any, batches: Any, tmp_path: Path
) -> None:
    from pipeline.compute_plan import PLAN_FILE, plan_compute, settle

    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    before = [variable.numpy() for variable in variables]
    plan = plan_compute(
        tmp_path, model, TrainConfig(), steps_left=10**6, read_batches=lambda count: batches
    )
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value, err_msg=variable.path)
    assert (tmp_path / PLAN_FILE).is_file()
    assert plan.plain_step_ms and plan.compiled_step_ms and plan.shapes == 3
    assert bool(model.jit_compile) == plan.is_compiled
    for is_compiled in (True, False):
        settled = settle(model, TrainConfig(), dataclasses.replace(plan, is_compiled=is_compiled))
        assert settled.jit_compile == ("on" if is_compiled else "off")
        assert bool(model.jit_compile) == is_compiled
        ids, labels = batches[0]
        history = model.fit(ids, labels, batch_size=6, verbose=0).history
        assert np.isfinite(history["loss"][0])


def test_a_model_that_xla_cannot_compile_is_trained_without_it(
    batches: Any,
) -> None:
    import tensorflow as tf

    from pipeline import compute_plan

    class Model:
        """A model whose compiled step fails, as one with an op that XLA lacks does."""

        jit_compile, variables, trainable_variables = False, (), ()
        optimizer = type("Optimizer", (), {"variables": (), "build": lambda *_: None})()

        def make_train_function(self, force: bool) -> None:
            def step(iterator: Any) -> dict[str, float]:
                if compiled:
                    raise tf.errors.InvalidArgumentError(None, None, "no kernel for Op")
                next(iterator)
                return {"loss": 1.0}

            compiled = self.jit_compile
            self.train_function = step

    model: Any = Model()
    plan = compute_plan.measure(model, batches, steps_left=10**6)
    assert str(plan) == "XLA: off, it cannot compile this model: no kernel for Op"
    assert model.jit_compile is False
    assert model.train_function(iter([0])) == {"loss": 1.0}
