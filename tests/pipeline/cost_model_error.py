"""How far predicted times are from measured ones: `python -m tests.pipeline.cost_model_error`.

Calibrates this machine, predicts models that the calibration does not hold, and times those too.
The predictions are what `tune --max-latency-us` keeps a search within. About a minute; a benchmark
and no test, because a busy machine moves both sides.
"""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from pipeline.config import ModelConfig
from pipeline.cost_model import make_cost_model
from serving_compare.calibrate import SHAPES, Shape, measure_calibration

CLASSES = 45
UNSEEN = tuple(
    Shape(units, layers, directions, CLASSES, tokens)
    for units in (16, 48, 80, 128, 160, 256)
    for layers, directions in ((1, 1), (1, 2), (2, 2))
    for tokens in (5, 11, 40)
)


def main() -> None:
    """Print a row a shape, and how far most and all predictions are off."""
    console = Console()
    with Progress(console=console) as bar:
        task = bar.add_task("measuring", total=1.0)
        fields = measure_calibration(
            (*SHAPES, *UNSEEN), progress=lambda share: bar.update(task, completed=share)
        )
    cells = fields["cells"][len(SHAPES) :]
    model = make_cost_model({**fields, "cells": fields["cells"][: len(SHAPES)]})
    table = Table("H", "layers", "directions", "tokens", "predicted us", "measured us", "ratio")
    ratios = []
    for shape, cell in zip(UNSEEN, cells, strict=True):
        config = ModelConfig(
            vocab_size=3,
            num_classes=shape.classes,
            units=shape.units,
            layers=shape.layers,
            bidirectional=shape.directions == 2,
        )
        predicted = model.predict_us(config, shape.tokens)
        ratios.append(cell["median_us"] / predicted)
        numbers = (*shape[:3], shape.tokens)
        figures = (f"{predicted:.2f}", f"{cell['median_us']:.2f}", f"{ratios[-1]:.3f}")
        table.add_row(*map(str, numbers), *figures)
    console.print(table)
    off = np.abs(np.array(ratios) - 1.0)
    console.print(
        f"{fields['engine']}: measured over predicted {min(ratios):.3f} to {max(ratios):.3f}; "
        f"within 15 %: {np.mean(off <= 0.15):.0%} of {len(ratios)} shapes, median error "
        f"{np.median(off):.1%}."
    )


if __name__ == "__main__":
    main()
