"""fastText, trained for real on a few texts."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from pipeline.baselines.fasttext_grid import (
    FastTextSettings,
    GridPoint,
    check_fasttext,
    clean_text,
    score_by_fasttext,
)
from pipeline.tables.source import DataError

SMALL = FastTextSettings(dim=8, epoch=30, bucket=1000)
UNLEARNED = FastTextSettings(dim=8, epoch=1, lr=1e-6, bucket=1000)
NAN = FastTextSettings(dim=8, epoch=30, lr=1e30, bucket=1000)
TRAIN = (
    [f"the {word} number {number}" for number in range(40) for word in ("cat", "saw", "elk")],
    [0, 3, 1] * 40,
)
TEXTS = {"validation": ["a cat", "one saw", "an elk"], "test": ["saw", "CAT!", "", "__label__0"]}


def score(*grid: FastTextSettings, **changes: Any) -> Any:
    pytest.importorskip("fasttext", reason="needs the extra `fasttext`")
    fields = {"train": TRAIN, "texts": TEXTS, "validation_labels": [0, 3, 1], **changes}
    return score_by_fasttext(**fields, num_classes=5, grid=grid)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("A small, domesticated Feline.", "a small domesticated feline"),
        ("__label__3 is no_label", "label 3 is no label"),
        ("ﬁne\r\nＷＩＤＥ\t고양이\x00x", "fine wide 고양이 x"),
        ("?!", ""),
    ],
)
def test_a_text_is_its_words_on_one_line(text: str, cleaned: str) -> None:
    assert clean_text(text) == cleaned


def test_the_best_on_validation_scores_every_class_it_knows() -> None:
    told: list[GridPoint] = []
    result = score(UNLEARNED, SMALL, notify=told.append)
    assert result.best == SMALL
    assert [point.settings for point in result.tried] == [UNLEARNED, SMALL]
    assert result.tried[1].validation_top_1 == 1.0
    assert result.tried[0].validation_top_1 < 1.0
    assert sorted(told, key=repr) == sorted(result.tried, key=repr)
    scores = result.scores["test"]
    assert scores.shape == (4, 5)
    assert scores[:2].argmax(axis=1).tolist() == [3, 0]
    assert np.isneginf(scores[:, [2, 4]]).all()  # no training text has these
    assert np.isfinite(scores[:, [0, 1, 3]]).all()


def test_of_equals_the_first_wins_whichever_ends_first() -> None:
    slow = FastTextSettings(dim=8, epoch=200, bucket=1000)
    assert score(slow, SMALL).best == slow
    assert score(SMALL, slow).best == SMALL


def test_two_calls_give_the_same_scores() -> None:
    first, second = score(SMALL, UNLEARNED), score(SMALL, UNLEARNED)
    for split in TEXTS:
        np.testing.assert_array_equal(first.scores[split], second.scores[split])


def test_a_training_that_ends_in_nan_loses_and_is_told() -> None:
    result = score(NAN, SMALL)
    assert result.best == SMALL
    assert result.tried[0] == GridPoint(settings=NAN, validation_top_1=None)


def test_nan_everywhere_is_an_error() -> None:
    message = r"fastText: expected one of 1 trainings to end, found NaN in all of them\. Look at"
    with pytest.raises(DataError, match=message):
        score(NAN)


def test_the_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fasttext", None)
    message = (
        r"fastText: expected the library fasttext, found none \(.*\)\. Install the extra with "
        r"`pip install -e '\.\[fasttext\]'`, or measure `--kind svm`\."
    )
    with pytest.raises(DataError, match=message):
        check_fasttext()
