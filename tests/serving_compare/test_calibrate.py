"""The calibration: real engines, every cell the pipeline's cost model asks for."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pipeline.config import ModelConfig
from pipeline.cost_model import make_cost_model, read_cost_model
from serving_compare import calibrate
from serving_compare.bench.interleave import BlockLimits

SHORT = BlockLimits(blocks=2, warm_up_s=0.001, min_passes=10, duration_s=0.0)
"""Enough that 21 tokens take longer than one on a machine that runs other tests too."""


def test_every_cell_of_the_cost_model_is_measured() -> None:
    shares: list[float] = []
    measured = calibrate.measure_calibration(limits=SHORT, progress=shares.append)
    json.dumps(measured, allow_nan=False)
    assert shares == [0.5, 1.0]
    assert len(measured["cells"]) == len(calibrate.SHAPES)
    assert measured["engine"].startswith(("native ", "numpy"))
    assert all(cell["median_us"] > 0 for cell in measured["cells"])
    assert "cpu" in measured["machine"]
    model = make_cost_model(measured)
    config = ModelConfig(vocab_size=15_000, num_classes=45)
    assert 0 < model.predict_us(config, 10) < 1e6


@pytest.mark.parametrize("shape", [calibrate.SHAPES[1], calibrate.SHAPES[-2]])
def test_a_shapes_work_is_a_model_of_that_shape(shape: calibrate.Shape) -> None:
    call, requests = calibrate.make_work(shape)
    assert len(requests) == calibrate.REQUESTS
    ids, lengths = requests[0]
    assert (ids.shape, lengths.tolist()) == ((1, shape.tokens), [shape.tokens])
    assert not np.array_equal(ids, requests[1][0])
    assert call(ids, lengths).shape == (1, shape.classes)


def test_the_command_writes_what_the_pipeline_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATETABLE_BUILD", str(tmp_path))
    monkeypatch.setattr(calibrate, "LIMITS", dataclasses.replace(SHORT, blocks=1))
    done = CliRunner().invoke(calibrate.calibrate)
    assert done.exit_code == 0, done.output
    assert "calibration.json" in done.output.replace("\n", "")
    assert read_cost_model(tmp_path / "calibration.json").units.min() == 16
    assert [path.name for path in tmp_path.glob(".*.partial")] == []
