"""The plots: drawn from the measures, readable as SVG, the same on every run."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np

from pipeline.evaluation.fields import RunEvaluation
from pipeline.evaluation.figures import (
    MAX_CLASSES,
    draw_confusion,
    draw_reliability,
    list_drawn_classes,
)
from pipeline.evaluation.measures import measure_split


def test_plots_are_svg_with_a_description_and_the_same_on_every_run(
    evaluation: RunEvaluation,
) -> None:
    test = evaluation.splits["test"]
    for svg, again, words in (
        (draw_confusion(test), draw_confusion(test), "Confusion matrix"),
        (
            draw_reliability(test, name="test"),
            draw_reliability(test, name="test"),
            "Reliability on test",
        ),
    ):
        root = ElementTree.fromstring(svg)
        assert root.attrib["role"] == "img"
        assert root.attrib["aria-label"].startswith(words)
        assert svg == again


def test_names_of_classes_stand_on_both_sides_of_the_matrix(evaluation: RunEvaluation) -> None:
    svg = draw_confusion(evaluation.splits["test"])
    assert svg.count("&lt;b&gt;dog&lt;/b&gt;") >= 2
    assert "<b>" not in svg


def test_of_many_classes_the_largest_are_drawn() -> None:
    labels = np.repeat(np.arange(100), np.arange(1, 101))
    logits = np.eye(100)[labels]
    names = tuple(f"class {index}" for index in range(100))
    split = measure_split(logits, labels, label_names=names, k=1)
    assert list_drawn_classes(split) == list(range(100 - MAX_CLASSES, 100))
    svg = draw_confusion(split)
    assert "class 99" in svg
    assert "class 39" not in svg
