from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serving_compare.bench.forms import FormFiles
from serving_compare.bench.models import compute_reference, draw_rows, litert_program, read_weights
from serving_compare.bench.peers import LitertForm, is_installed
from serving_compare.bench.programs import run_programs

from .conftest import VOCAB

pytestmark = pytest.mark.slow


def test_a_file_is_written_for_each_length_and_answers_rightly(
    untrained: FormFiles, tmp_path: Path
):
    (tmp_path / "litert").mkdir()
    program = litert_program(Path(untrained.folder), tmp_path / "litert", [1, 3])
    run_programs([program], at_once=1, timeout_s=300)
    written = {path.name: path.read_bytes()[4:8] for path in (tmp_path / "litert").iterdir()}
    assert written == {"1.tflite": b"TFL3", "3.tflite": b"TFL3"}
    if not is_installed("litert"):
        return
    call = LitertForm(untrained._replace(litert=str(tmp_path / "litert"))).make_call(3)
    rows = draw_rows(VOCAB, [3], count=2, seed=1)[3]
    answers = np.concatenate([call(row[None], np.array([3], np.int32)) for row in rows])
    expected = compute_reference(read_weights(untrained.path("weights.npz")), rows)
    assert np.abs(np.log(answers) - expected).max() < 1e-6
