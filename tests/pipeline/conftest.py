"""Small tables of text and label, and the folders made from them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import settings

from pipeline.config import PrepareConfig
from pipeline.data_folder import PreparedData
from pipeline.prepare import prepare
from pipeline.source import SourceConfig
from pipeline.tokenizer import load_processor

# The machine that runs the tests is shared: a pause of it is no failure of ours.
settings.register_profile("pipeline", deadline=None)
settings.load_profile("pipeline")

ANIMALS = ["cat", "dog", "fox", "owl", "hen", "cow", "ant", "bee", "elk", "emu", "ape", "bat"]
VERBS = ["runs", "eats", "sees", "digs", "flies", "sleeps", "jumps", "swims", "barks", "sings"]
METALS = ["iron", "gold", "zinc", "lead", "tin", "copper", "nickel", "silver", "steel", "brass"]
Rows = Sequence[tuple[str, str]]
MakeRows = Callable[[int], list[tuple[str, str]]]
MakeTable = Callable[..., SourceConfig]


def _make_rows(count: int) -> list[tuple[str, str]]:
    """`count` different sentences of two classes, which a word tells apart."""
    rng = random.Random(0)
    rows: dict[str, str] = {}
    while len(rows) < count:
        word, label = rng.choice([(ANIMALS, "animal"), (METALS, "metal")])
        text = f"{rng.choice(word)} {rng.choice(VERBS)} {rng.choice(word)} {rng.randrange(1000)}"
        rows[text] = label
    return list(rows.items())


def _write_table(path: Path, rows: Rows, *, header: str = "title,category") -> Path:
    """Write a CSV; cells are quoted."""
    lines = [header, *('"{}","{}"'.format(*row) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def make_rows() -> MakeRows:
    """Give a function that makes so many different rows of two classes."""
    return _make_rows


@pytest.fixture
def make_table(tmp_path: Path) -> MakeTable:
    """Give a function that writes rows, or bytes, as a CSV and names it."""

    def make(
        rows: Rows | bytes, *, name: str = "table.csv", header: str = "title,category"
    ) -> SourceConfig:
        path = tmp_path / name
        if isinstance(rows, bytes):
            path.write_bytes(rows)
        else:
            _write_table(path, rows, header=header)
        return SourceConfig(path=path)

    return make


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """A data folder of 600 rows; tests must not change it."""
    root = tmp_path_factory.mktemp("prepared")
    table = _write_table(root / "pets.csv", _make_rows(600))
    config = PrepareConfig(vocab_size=200, shards=3)
    return prepare(SourceConfig(path=table), config, root / "data" / "pets")


@pytest.fixture(scope="session")
def processor(prepared: PreparedData) -> sentencepiece.SentencePieceProcessor:
    """The tokenizer of `prepared`."""
    return load_processor(prepared.tokenizer_path)


@pytest.fixture(scope="session")
def hostile_strings() -> list[str]:
    """Texts that have broken tokenizers: one JSON string a line, so that any character fits."""
    path = Path(__file__).parent / "hostile_strings.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]
