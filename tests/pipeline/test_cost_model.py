"""Predicted cost: arithmetic for tables, a calibration's cells for time, and budgets over both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import ModelConfig
from pipeline.cost_model import (
    CalibrationError,
    ServingBudget,
    make_cost_model,
    median_tokens,
    read_cost_model,
    table_megabytes,
)

CALL, STEP, PROJECTION, HEAD = 0.05, 1e-4, 2e-4, 1e-5
"""Of the made-up machine: µs a call, a weight of recurrence, of a further layer, of the head."""


def time_us(units: int, layers: int, directions: int, classes: int, tokens: int) -> float:
    """A machine on which everything costs what its arithmetic does, and a first token H x 1e-3."""
    step = STEP * units**2
    width = directions * units
    total = CALL + directions * (units * 1e-3 + (tokens - 1) * step)
    total += (layers - 1) * directions * tokens * (step + PROJECTION * width * units)
    return total + HEAD * (width * classes - directions * units * 64)


def make_cells() -> list[dict[str, Any]]:
    shapes = [(h, 1, 1, 64, t) for h in (16, 64, 256) for t in (1, 21)]
    shapes += [(h, 2, 1, 64, 21) for h in (16, 256)] + [(64, 1, 1, 1024, 1)]
    names = ("units", "layers", "directions", "classes", "tokens")
    return [
        {**dict(zip(names, shape, strict=True)), "median_us": time_us(*shape)} for shape in shapes
    ]


def make_calibration(**changes: Any) -> dict[str, Any]:
    return {"schema_version": 1, "engine": "made up", "cells": make_cells(), **changes}


def shape(**fields: Any) -> ModelConfig:
    return ModelConfig(**{"vocab_size": 1000, "num_classes": 64, "layers": 1, **fields})


@pytest.mark.parametrize("units", [16, 40, 64, 150, 256, 400])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("classes", [3, 64, 500])
def test_a_machine_of_plain_arithmetic_is_predicted_exactly(
    units: int, layers: int, bidirectional: bool, classes: int
) -> None:
    model = make_cost_model(make_calibration())
    config = shape(units=units, layers=layers, bidirectional=bidirectional, num_classes=classes)
    expected = time_us(units, layers, config.directions, classes, 10)
    first = CALL + units * 1e-3
    assert model.predict_us(config, 10) == pytest.approx(max(expected, first), rel=1e-6)


def test_noise_between_the_smallest_sizes_gives_no_time_below_nothing() -> None:
    cells = make_cells()
    for cell in cells:
        if (cell["tokens"], cell["layers"], cell["classes"]) == (1, 1, 64):
            cell["median_us"] = {16: 0.3, 64: 0.31, 256: 0.05}[cell["units"]]
    model = make_cost_model(make_calibration(cells=cells))
    assert 0 < model.predict_us(shape(units=256, bidirectional=True), 10) < 1e3


def test_time_grows_with_tokens_units_layers_and_directions() -> None:
    model = make_cost_model(make_calibration())
    base = model.predict_us(shape(units=64, bidirectional=False), 10)
    for config, tokens in (
        (shape(units=64, bidirectional=False), 11),
        (shape(units=65, bidirectional=False), 10),
        (shape(units=64, bidirectional=True), 10),
        (shape(units=64, bidirectional=False, layers=2), 10),
        (shape(units=64, bidirectional=False, num_classes=65), 10),
    ):
        assert model.predict_us(config, tokens) > base


def test_tables_are_directions_times_vocabulary_times_three_gates() -> None:
    assert table_megabytes(shape(vocab_size=15_000, units=96)) == 2 * 15_000 * 3 * 96 * 4 / 1e6


def test_a_budget_admits_what_keeps_both_bounds() -> None:
    model = make_cost_model(make_calibration())
    small, large = shape(units=32), shape(units=256)
    bound_us = model.predict_us(small, 10) * 1.01
    assert ServingBudget().admits(large)
    assert ServingBudget(tokens=10, cost_model=model, max_latency_us=bound_us).admits(small)
    assert not ServingBudget(tokens=10, cost_model=model, max_latency_us=bound_us).admits(large)
    assert ServingBudget(max_table_mb=table_megabytes(small)).admits(small)
    assert not ServingBudget(max_table_mb=table_megabytes(small) - 0.001).admits(small)
    assert ServingBudget().predict_us(small) is None


def test_a_calibration_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(make_calibration()))
    model = read_cost_model(path)
    assert model.engine == "made up"
    assert model.units.tolist() == [16, 64, 256]


def test_a_missing_calibration_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="found none. Measure it with `make calibrate`"):
        read_cost_model(tmp_path / "calibration.json")


@pytest.mark.parametrize("content", ["", "[" * 100_000, "\xff", "[]", "{}"])
def test_a_file_that_is_no_calibration_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "calibration.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(CalibrationError, match="expected (a calibration|schema_version 1)"):
        read_cost_model(path)


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    with path.open("wb") as file:
        file.truncate(2**21)
    with pytest.raises(CalibrationError, match="expected at most 1048576 bytes, found 2097152"):
        read_cost_model(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "expected schema_version 1, found another"),
        ({"cells": 3}, "expected cells with units, layers"),
        ({"cells": [{"units": 1}]}, "expected cells with units, layers"),
        ({"cells": []}, "found a cell missing"),
        ({"cells": make_cells()[:6]}, "found a cell missing"),
        ({"cells": make_cells()[6:]}, "found a cell missing"),
    ],
)
def test_a_calibration_without_the_cells_it_needs_is_refused(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(CalibrationError, match=message):
        make_cost_model(make_calibration(**change))


def test_times_that_do_not_grow_are_refused() -> None:
    cells = make_cells()
    cells[1]["median_us"] = cells[0]["median_us"] / 2
    with pytest.raises(CalibrationError, match="times that grow with the tokens"):
        make_cost_model(make_calibration(cells=cells))


def test_the_median_is_rounded_up_and_never_zero() -> None:
    assert median_tokens([1, 2, 3, 4]) == 3
    assert median_tokens([0]) == 1
