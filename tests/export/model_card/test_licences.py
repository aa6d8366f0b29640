from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from export.model_card.licences import WORDNET_LICENCE, format_licences
from tests.export.model_card.samples import make_run

ROOT = Path(__file__).parents[3]


def test_the_licence_of_wordnet_is_the_one_that_came_with_it() -> None:
    assert (ROOT / "data" / "LICENSE.wordnet-3.1.txt").read_text() == WORDNET_LICENCE


def test_the_embedded_data_has_its_licence_in_the_card(tmp_path: Path) -> None:
    labels = json.loads(Path(__file__).with_name("wordnet31_labels.json").read_text())
    run = dataclasses.replace(
        make_run(tmp_path / "run"), data={"name": "wordnet31"}, labels=tuple(labels)
    )
    assert WORDNET_LICENCE in format_licences(run)


def test_the_licence_of_other_data_is_its_owner_s_to_state(tmp_path: Path) -> None:
    text = " ".join(format_licences(make_run(tmp_path / "run")).split())
    assert "under the Apache License 2.0" in text
    assert "the licence of your data is yours to state" in text
    assert "WordNet" not in text
