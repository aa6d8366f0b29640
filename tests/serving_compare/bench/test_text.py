from __future__ import annotations

import json

import numpy as np
import pytest

from export.bundle import Artifact
from export.lookup import load_lookup
from serving_compare.backends import ArtifactFiles
from serving_compare.bench.text import (
    Answer,
    ask_texts,
    count_disagreements,
    load_text_form,
    measure_texts,
)
from serving_compare.compare import list_files

ONE: Answer = [("a", 0.5), ("b", 0.3), ("c", 0.1)]


def test_the_lookup_form_gives_what_predict_gives(artifact: Artifact, texts: list[str]):
    ask = load_text_form("lookup numpy", list_files(artifact))
    model = load_lookup(artifact.lookup_path, engine="numpy")
    assert [ask(text) for text in texts[:5]] == model.predict(texts[:5], 3)


def test_a_backend_form_names_the_best_labels(
    artifact: Artifact, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    from serving_compare.bench import text

    class Fixed:
        def load(self, *_: object) -> None: ...

        def run_texts(self, texts: list[str]) -> np.ndarray:
            return np.array([[0.2, 0.5, 0.3]], np.float32)

    monkeypatch.setattr(text, "OnnxBackend", Fixed)
    (tmp_path / "labels.json").write_text(json.dumps(["x", "y", "z"]))
    files = ArtifactFiles(**{**list_files(artifact)._asdict(), "lookup": str(tmp_path)})
    answer = load_text_form("onnx", files)("anything")
    assert answer == [
        ("y", pytest.approx(0.5)), ("z", pytest.approx(0.3)), ("x", pytest.approx(0.2)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("other", "count"),
    [
        (ONE, 0),
        ([("a", 0.500001), ("b", 0.299999), ("c", 0.1)], 0),
        ([("a", 0.51), ("b", 0.3), ("c", 0.1)], 1),  # another probability
        ([("b", 0.5), ("a", 0.3), ("c", 0.1)], 1),  # labels exchanged
        ([("a", 0.5), ("b", 0.3), ("d", 0.1)], 0),  # maybe a tie with the fourth
    ],
)
def test_answers_are_held_against_each_other(other: Answer, count: int):
    assert count_disagreements([ONE], [other], tolerance=2e-5) == count


def test_ties_may_stand_in_any_order():
    tied = [("a", 0.4), ("b", 0.4), ("c", 0.1)]
    swapped = [("b", 0.4), ("a", 0.4), ("c", 0.1)]
    assert count_disagreements([tied, ONE], [swapped, ONE], tolerance=2e-5) == 0


def test_every_text_is_timed_once_by_every_form():
    asked: list[str] = []

    def ask(text: str) -> Answer:
        asked.append(text)
        return ONE

    texts = [f"text {number}" for number in range(60)]
    measured = list(measure_texts({"x": ask}, {"texts": texts}, random=np.random.default_rng(0)))
    ((form, cell, samples),) = measured
    assert (form, cell, len(samples.elapsed_ns)) == ("x", "text", 60)
    assert set(asked) == set(texts)
    assert asked[10:60] != texts[:50]  # in an order of its own
    assert ask_texts({"x": ask}, texts[:2]) == {"x": [ONE, ONE]}
