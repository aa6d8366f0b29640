from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from export.model_card.data import MAX_CLASSES, format_data, is_wordnet
from export.model_card.evidence import ClassRows, DataFacts, read_evidence
from pipeline.run_folder import Run
from tests.export.model_card.samples import HOSTILE, make_run, write_evidence

ROOT = Path(__file__).parents[3]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = make_run(tmp_path / "run")
    write_evidence(run)
    return run


def read_facts(run: Run) -> DataFacts:
    facts = read_evidence(run).data
    assert facts is not None
    return facts


def test_the_data_is_told_with_splits_near_duplicates_and_warnings(run: Run) -> None:
    text = format_data(run, read_facts(run), [])
    flat = " ".join(text.split())
    assert f"settings): `{run.data['fingerprint']}`." in flat
    assert (
        "Of 10,000 rows of the source 10,000 were kept; 0 repeated a text and were merged," in flat
    )
    assert "3 empty text rejected" in flat
    assert "\n| test | 1,000 | 2 | 3 | 7 | 0.00% | 0.00% | 98.00% |\n" in text
    assert (
        "10 of 1,000 test texts (2.50%) equal a training text but for something small (numbers "
        "1, one word 7, word order 2)." in flat
    )
    assert "\n- Bring more of animal.\n" in text
    assert "\n| `animal` | 800 | 80 | 81 |\n" in text
    assert "Languages and origin of the texts are not recorded: state them here." in text
    assert "a secret" not in text


def test_a_card_without_warnings_says_so(run: Run) -> None:
    facts = dataclasses.replace(read_facts(run), warnings=())
    assert "\nThe data card has no warning.\n" in format_data(run, facts, [])


def test_a_run_that_keeps_no_data_card_says_so_and_counts_its_test_split(run: Run) -> None:
    text = format_data(run, None, [0, 0, 3])
    assert "The data card is not kept by this run" in text
    assert "\n| train | 4,000 |\n" in text
    assert "| label | test |\n|---|---|\n| `animal` | 2 |\n| `act` | 1 |\n| `place` | 0 |" in text


def test_a_run_without_counts_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path / "old", data={"name": 7})
    text = format_data(run, None, [0])
    assert "Dataset `7`" in text and "`not recorded`" in text
    assert "Rows by split: not recorded." in text


def test_only_the_largest_of_many_classes_are_listed(run: Run) -> None:
    many = tuple(
        ClassRows(label=f"c{index}", rows={"train": 9, "validation": 1, "test": 1})
        for index in range(MAX_CLASSES + 1)
    )
    run = dataclasses.replace(run, labels=tuple(one.label for one in many))
    text = format_data(run, dataclasses.replace(read_facts_of(many), classes=many), [])
    assert "Rows of the 201 classes in labels.json, 200 of them shown, most first" in text
    assert "| `c199` |" in text and "`c200`" not in text


def read_facts_of(classes: tuple[ClassRows, ...]) -> DataFacts:
    return DataFacts(
        read=1,
        kept=1,
        duplicates_merged=0,
        conflicting_rows_dropped=0,
        rejected={},
        splits={},
        leaks={},
        leak_shares={},
        classes=classes,
        warnings=(),
    )


def test_hostile_labels_stand_as_themselves(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", labels=HOSTILE)
    write_evidence(run)
    text = format_data(run, read_facts(run), [])
    rows = [line for line in text.splitlines() if line.endswith("| 80 | 81 |")]
    assert len(rows) == len(HOSTILE)
    assert all(row.count("|") == 5 for row in rows)
    assert "<img" not in text and "\u202e" not in text and "**!" not in text
    assert "\n- Bring more of a&#124;b.\n" in text


def test_the_embedded_data_is_known_by_its_labels(run: Run) -> None:
    labels = json.loads((ROOT / "tests/export/model_card/wordnet31_labels.json").read_text())
    wordnet = dataclasses.replace(run, data={"name": "wordnet31"}, labels=tuple(labels))
    assert is_wordnet(wordnet)
    assert "glosses of WordNet 3.1" in format_data(wordnet, None, [])
    assert not is_wordnet(dataclasses.replace(wordnet, data={"name": "mine"}))
    assert not is_wordnet(dataclasses.replace(run, data={"name": "wordnet31"}))
