from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from export import score_rows
from export.lookup import LookupModel, load_lookup
from export.score_rows import find_lookup, find_top, name_engine, score_table, score_texts
from tests.export.tiny import make_texts


@pytest.fixture(scope="module")
def model(tiny_lookup: Path) -> LookupModel:
    return load_lookup(tiny_lookup)


@settings(deadline=None, max_examples=50)
@given(
    texts=st.lists(st.text(st.characters(codec="utf-8"), max_size=20), min_size=1, max_size=9),
    k=st.integers(1, 5),
)
def test_scores_are_what_predict_gives(model: LookupModel, texts: list[str], k: int) -> None:
    label_ids, probabilities = score_texts(model, texts, k)
    found = [
        [(model.labels[label], value) for label, value in zip(ids, values, strict=True)]
        for ids, values in zip(label_ids.tolist(), probabilities.tolist(), strict=True)
    ]
    assert found == model.predict(texts, k)


def test_scores_of_blocks_are_what_predict_gives_for_each_text(model: LookupModel) -> None:
    texts = make_texts(100)
    label_ids, probabilities = score_texts(model, texts, 3, block_rows=7)
    singles = [model.predict([text], 3)[0] for text in texts]
    assert [[model.labels[label] for label in ids] for ids in label_ids.tolist()] == [
        [label for label, _ in pairs] for pairs in singles
    ]
    difference = np.abs(probabilities - [[value for _, value in pairs] for pairs in singles]).max()
    assert difference < 1e-6


def test_a_cut_at_whole_blocks_changes_no_bit(model: LookupModel) -> None:
    texts = make_texts(100)
    whole = score_texts(model, texts, 5, block_rows=16)
    for cut in (16, 48, 96):
        parts = [score_texts(model, some, 5, block_rows=16) for some in (texts[:cut], texts[cut:])]
        for array, pieces in zip(whole, zip(*parts, strict=True), strict=True):
            np.testing.assert_array_equal(array, np.concatenate(pieces))


def test_many_classes_make_smaller_blocks_but_no_other_cut(
    model: LookupModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda texts: (sizes.append(len(texts)), encode(texts))[1])
    monkeypatch.setattr(score_rows, "MAX_BLOCK_PROBABILITIES", 5 * 3)
    score_texts(model, ["a"] * 10, 1, block_rows=8)
    assert sizes == [3, 3, 2, 2]
    monkeypatch.setattr(score_rows, "MAX_BLOCK_PROBABILITIES", 1)
    score_texts(model, ["a"] * 2, 1, block_rows=8)
    assert sizes[4:] == [1, 1]


@settings(deadline=None)
@given(
    probabilities=arrays.arrays(
        np.float32, (3, 6), elements=st.sampled_from([0.0, 0.125, 0.25, 0.5])
    ),
    k=st.integers(1, 6),
)
def test_equal_probabilities_stand_in_the_order_of_their_labels(
    probabilities: np.ndarray, k: int
) -> None:
    label_ids, values = find_top(probabilities, k)
    for row, ids, top in zip(probabilities, label_ids, values, strict=True):
        expected = sorted(range(6), key=lambda label: (-row[label], label))[:k]
        assert (ids.tolist(), top.tolist()) == (expected, row[expected].tolist())


def test_no_text_is_scored_as_one_unknown_token(model: LookupModel) -> None:
    table = pyarrow.table({"title": ["", None, " "], "id": [1, 2, 3]})
    scored = score_table(model, table, text_column="title", k=5)
    assert scored.select(["title", "id"]) == table
    unknown = model.probabilities([[1]], [1])[0]
    for row in scored.to_pylist():
        assert row["probability_1"] == pytest.approx(float(unknown.max()), abs=1e-6)
        assert row["label_1"] == model.labels[int(unknown.argmax())]


def test_an_engine_is_named_with_its_instruction_set(model: LookupModel, tiny_lookup: Path) -> None:
    assert name_engine(load_lookup(tiny_lookup, engine="numpy")) == "numpy"
    isa = getattr(model.engine, "isa", "")
    assert name_engine(model) == f"{model.engine.name} {isa}".strip()


def test_no_rows_give_no_scores(model: LookupModel) -> None:
    label_ids, probabilities = score_texts(model, [], 3)
    assert (label_ids.shape, probabilities.shape) == ((0, 3), (0, 3))


def test_an_artifact_and_its_lookup_folder_are_the_same_thing(tmp_path: Path) -> None:
    golden = Path(__file__).parents[1] / "golden" / "v1"
    assert find_lookup(golden) == find_lookup(golden / "lookup") == golden / "lookup"
    assert find_lookup(tmp_path) == tmp_path
