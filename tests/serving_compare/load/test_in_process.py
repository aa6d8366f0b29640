from __future__ import annotations

import pytest

from export.bundle import Artifact
from serving_compare.compare import list_files
from serving_compare.load.errors import GeneratorError
from serving_compare.load.in_process import measure_in_process


def test_whole_passes_over_the_texts_are_timed(artifact: Artifact) -> None:
    found = measure_in_process(
        "lookup", list_files(artifact), ["red cat", "blue", "old"], core=None, duration_s=0.01
    )
    assert found["n"] > 0
    assert found["n"] % 3 == 0
    assert found["median_us"] > 0


def test_a_backend_that_fails_is_told_with_its_last_line(artifact: Artifact) -> None:
    files = list_files(artifact)._replace(lookup="/nowhere")
    with pytest.raises(
        GeneratorError, match="lookup: expected its time without HTTP, found .* code 1. .*/nowhere"
    ):
        measure_in_process("lookup", files, ["x"], core=None, duration_s=0.01)
