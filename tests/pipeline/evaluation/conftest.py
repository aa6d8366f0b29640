"""One evaluation of random logits, without TensorFlow."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.evaluation.fields import Mistake, RunEvaluation
from pipeline.evaluation.measures import measure_split

NAMES = ("cat", "<b>dog</b>", "\u05d0owl", "unseen")
SIDES = {"before": {"ece": 0.0543, "nll": 0.7751}, "after": {"ece": 0.0121, "nll": 0.7612}}


@pytest.fixture(scope="session")
def evaluation() -> RunEvaluation:
    rng = np.random.default_rng(0)
    splits = {}
    for name in ("validation", "test"):
        labels = rng.integers(0, 3, 1500)
        logits = rng.normal(0, 1.5, (1500, 4))
        logits[np.arange(1500), labels] += 2.0
        splits[name] = measure_split(logits, labels, label_names=NAMES, k=2)
    return RunEvaluation(
        run="animals-0123",
        fingerprint="f00" * 20,
        splits=splits,
        calibration={"temperature": 0.8123, "note": None, "validation": SIDES, "test": SIDES},
        mistakes=(
            Mistake(text="<script>\u202eevil", label="cat", answer="\u05d0owl", probability=0.97),
        ),
    )
