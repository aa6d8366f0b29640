"""The script that makes the embedded dataset from WordNet's dictionary files."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from pipeline.tables.source import REPOSITORY


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = REPOSITORY / "data" / "rebuild_wordnet31.py"
    spec = importlib.util.spec_from_file_location("rebuild_wordnet31", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def dictionary(tmp_path: Path) -> Path:
    lines = {
        "noun": "  1 licence text | no gloss\n"
        '001 05 n 01 cat 0 000 | a large cat;  feral; "the cat sat"  \n'
        "002 06 n 01 cup 0 000 | cup\n"
        f"003 06 n 01 long 0 000 | {'word ' * 26}\n",
        "verb": '004 29 v 01 x 0 000 | "quoted  `words`"\n005 38 v 01 y 0 000 | a large cat\n',
        "adj": "006 44 a 01 z 0 000 | two words\n",
        "adv": "",
    }
    for part, content in lines.items():
        (tmp_path / f"data.{part}").write_text(content, encoding="utf-8")
    return tmp_path


def test_rows_are_first_definitions_of_two_to_25_words(
    script: ModuleType, dictionary: Path
) -> None:
    assert script.build_rows(dictionary) == [
        ("a large cat", "noun.animal"),
        ("quoted  `words".replace("  ", " "), "verb.body"),
        ("two words", "adj.ppl"),
    ]


def test_reader_inverts_writer_and_check_compares(
    script: ModuleType, dictionary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "t.csv.gz"
    assert script.main([str(dictionary), "--output", str(table)]) == 0
    assert script.read_rows(table) == script.build_rows(dictionary)
    assert script.main([str(dictionary), "--check", str(table)]) == 0
    script.write_rows([("another row", "noun.act")], table)
    assert script.main([str(dictionary), "--check", str(table)]) == 1
    assert capsys.readouterr().out.endswith("expected 3 rows, 4 differ\n")


def test_missing_dictionary_is_explained(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main([str(tmp_path), "--output", str(tmp_path / "t")]) == 2
    assert "data.noun: No such file or directory." in capsys.readouterr().err


def test_shipped_dataset_is_what_the_script_would_write(script: ModuleType, tmp_path: Path) -> None:
    shipped = REPOSITORY / "data" / "wordnet31.csv.gz"
    rows = script.read_rows(shipped)
    assert len(rows) == 114_460
    assert rows == sorted(rows)
    assert {category for _, category in rows} == set(script.CATEGORIES)
