"""The files of an evaluation in a run folder, each replaced whole.

evaluation.json           all measures; see `pipeline/schema/evaluation.schema.json`
evaluation.html           the same to read, one page without script or request
confusion.svg             test split
reliability.svg           test split
test_predictions.npz      the first answers; see `pipeline.evaluation.predictions`
"""

from __future__ import annotations

from pathlib import Path

from pipeline.evaluation.fields import RunEvaluation
from pipeline.evaluation.figures import draw_confusion, draw_reliability
from pipeline.evaluation.page import render_page
from pipeline.evaluation.predictions import Predictions, write_predictions
from pipeline.json_file import write_json
from pipeline.run_folder import read_json
from pipeline.whole_file import write_whole

EVALUATION_FILE = "evaluation.json"
PREDICTIONS_FILE = "test_predictions.npz"


def write_evaluation(folder: Path, evaluation: RunEvaluation, predictions: Predictions) -> None:
    """Write all files; the JSON last, so that where it is the others are."""
    test = evaluation.splits["test"]
    write_predictions(folder / PREDICTIONS_FILE, predictions)
    write_whole(folder / "confusion.svg", draw_confusion(test, standalone=True))
    write_whole(folder / "reliability.svg", draw_reliability(test, name="test", standalone=True))
    write_whole(folder / "evaluation.html", render_page(evaluation))
    write_json(folder / EVALUATION_FILE, evaluation.to_json())


def read_evaluation(folder: Path) -> RunEvaluation | None:
    """Return the evaluation of a run folder; None if there is none.

    Raises:
        RunError: It is damaged, or of a newer schema.
    """
    path = folder / EVALUATION_FILE
    if not path.is_file():
        return None
    return RunEvaluation.from_json(read_json(path), place=str(path))
