"""How long models of chosen shapes take on this machine: what predicts a model's time unbuilt.

Random weights, since the time of a step follows from shapes alone; the engine that `load_lookup`
chooses; ids in, batch 1, warm caches, one thread, shapes interleaved in random order. The search
of the pipeline reads the JSON and never this module.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from rich.console import Console

from export.lookup import LookupConfig, LookupFiles, array_specs
from export.lookup.engine import Engine, make_engine
from export.lookup.native_engine import NativeEngine
from serving_compare.bench.interleave import BlockLimits, Work, measure_warm
from serving_compare.command_line import build_root, exit_codes, lock_reports, progress_bar
from serving_compare.machine import read_machine
from serving_compare.sampling import measure_timer_cost_ns
from serving_compare.whole_file import write_whole

SCHEMA_VERSION = 1
CALIBRATION_FILE = "calibration.json"
VOCAB = 4096
BASE_CLASSES = 64
MANY_TOKENS = 21
"""The slope from 1 to 21 tokens is a step's time."""
REQUESTS = 8
LIMITS = BlockLimits(blocks=12, warm_up_s=0.002, min_passes=3, duration_s=0.02)


class Shape(NamedTuple):
    """One cell: a model's shape and the length of its texts."""

    units: int
    layers: int
    directions: int
    classes: int
    tokens: int


SHAPES = (
    *(
        Shape(units, 1, 1, BASE_CLASSES, tokens)
        for units in (16, 32, 48, 64, 96, 128, 192, 256, 384, 512)
        for tokens in (1, MANY_TOKENS)
    ),
    *(Shape(units, 2, 1, BASE_CLASSES, MANY_TOKENS) for units in (32, 96, 192, 384)),
    Shape(128, 1, 1, 1024, 1),
)
"""What a prediction needs, and nothing more."""


def make_random_engine(shape: Shape, *, seed: int = 1) -> Engine:
    """Return an engine over random float32 weights."""
    config = LookupConfig(
        vocab_size=VOCAB,
        embed_dim=1,
        units=shape.units,
        num_classes=shape.classes,
        layers=shape.layers,
        bidirectional=shape.directions == 2,
    )
    random = np.random.default_rng(seed)
    arrays = {
        name: random.normal(0, 0.3, spec.shape).astype(np.float32)
        for name, spec in array_specs(config).items()
    }
    files = LookupFiles(
        folder=Path(),
        config=config,
        max_tokens=256,
        arrays=arrays,
        labels=tuple(str(number) for number in range(shape.classes)),
        tokenizer=b"",
        golden=(),
    )
    return make_engine("auto", files)


def make_work(shape: Shape, *, seed: int = 1) -> Work:
    """Return the call that is timed for a shape, and its requests."""
    random = np.random.default_rng(seed)
    lengths = np.array([shape.tokens], np.int32)
    requests = [
        (random.integers(2, VOCAB, (1, shape.tokens), dtype=np.int32), lengths)
        for _ in range(REQUESTS)
    ]
    return make_random_engine(shape).logits, requests


def measure_calibration(
    shapes: Sequence[Shape] = SHAPES,
    limits: BlockLimits | None = None,
    *,
    progress: Callable[[float], None] = lambda share: None,
) -> dict[str, Any]:
    """Time every shape and return the calibration as JSON values.

    Args:
        shapes: What to time.
        limits: How long; by default `LIMITS`.
        progress: Told the share done.
    """
    limits = limits or LIMITS
    random = np.random.default_rng(1)
    timer_cost_ns = measure_timer_cost_ns()
    works = {str(number): make_work(shape) for number, shape in enumerate(shapes)}
    call_us: dict[str, list[float]] = {name: [] for name in works}
    for block in range(limits.blocks):
        one = dataclasses.replace(limits, blocks=1)
        measured = measure_warm(works, one, random=random, timer_cost_ns=timer_cost_ns)
        for name, samples in measured.items():
            call_us[name].append(float(np.median(samples.elapsed_ns)) / samples.inner_loops / 1e3)
        progress((block + 1) / limits.blocks)
    cells = [
        {**shape._asdict(), "median_us": float(f"{np.median(call_us[str(number)]):.6g}")}
        for number, shape in enumerate(shapes)
    ]
    engine = make_random_engine(shapes[0])
    return {
        "schema_version": SCHEMA_VERSION,
        "measured_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "engine": f"native {engine.isa}" if isinstance(engine, NativeEngine) else engine.name,
        "machine": read_machine(),
        "cells": cells,
    }


@click.command()
@click.option("--output", type=click.Path(path_type=Path), help="Default: build/calibration.json.")
def calibrate(output: Path | None) -> None:
    """Measure what GRU steps cost on this machine, for `pipeline tune --max-latency-us`.

    About 15 s. Run it on the machine that will serve, and leave that alone meanwhile.

    Example: python -m serving_compare calibrate
    """
    build = build_root()
    path = output or build / CALIBRATION_FILE
    console = Console()
    with exit_codes(), lock_reports(build / "reports"):
        with progress_bar(console) as bar:
            task = bar.add_task("calibration", total=1.0)
            fields = measure_calibration(progress=lambda share: bar.update(task, completed=share))
        write_whole(path, json.dumps(fields, indent=2) + "\n")
    console.print(f"{fields['engine']}, {len(fields['cells'])} shapes\n{path}", highlight=False)
