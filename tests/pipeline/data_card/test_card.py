"""The data card of real folders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from pipeline.__main__ import cli
from pipeline.config import PrepareConfig
from pipeline.data_card.card import (
    CARD_JSON,
    CARD_PAGE,
    list_warnings,
    read_warnings,
    summarise_warnings,
    write_data_card,
)
from pipeline.data_folder import PreparedData
from pipeline.prepare import prepare
from pipeline.tables.source import DataError, SourceConfig

MakeRows = Callable[[int], list[tuple[str, str]]]
MakeTable = Callable[..., SourceConfig]
SCHEMA = json.loads(
    (Path(__file__).parents[3] / "pipeline" / "schema" / "data_card.schema.json").read_text()
)


def read_card(folder: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((folder / CARD_JSON).read_text(encoding="utf-8"))
    jsonschema.validate(card, SCHEMA)
    return card


def write_warnings(folder: Path, count: int) -> None:
    warnings = [{"kind": "leak", "text": f"sentence {index}"} for index in range(count)]
    (folder / CARD_JSON).write_text(json.dumps({"warnings": warnings}), encoding="utf-8")


def test_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    ("count", "sentence"),
    [
        (0, "The data card has no warnings: {}"),
        (1, "The data card has 1 warning: {}"),
        (2, "The data card has 2 warnings: {}"),
    ],
)
def test_warnings_are_summed_up_in_a_sentence(tmp_path: Path, count: int, sentence: str) -> None:
    write_warnings(tmp_path, count)
    assert summarise_warnings(tmp_path) == sentence.format(tmp_path / CARD_PAGE)


def test_ten_warnings_are_listed_and_the_others_counted(tmp_path: Path) -> None:
    write_warnings(tmp_path, 10)
    assert list_warnings(tmp_path) == [
        *(f"warning: sentence {index}" for index in range(10)),
        str(tmp_path / CARD_PAGE),
    ]
    write_warnings(tmp_path, 12)
    assert list_warnings(tmp_path)[-1] == f"and 2 more in {tmp_path / CARD_PAGE}"
    assert len(list_warnings(tmp_path)) == 11


@pytest.mark.parametrize("content", [None, "{", "[]", '{"warnings": 3}'])
def test_a_folder_without_a_card_is_said_to_be_prepared_again(
    tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / CARD_JSON).write_text(content)
    with pytest.raises(
        DataError,
        match=r"data_card\.json: expected the data card that `make data` writes, found \w+Error\. "
        r"Remove .* and prepare again with `make data`\.",
    ):
        read_warnings(tmp_path)


@pytest.mark.slow
def test_prepared_folder_holds_a_card_that_adds_up(prepared: PreparedData) -> None:
    card = read_card(prepared.folder)
    assert card["name"] == "pets"
    assert card["fingerprint"] == prepared.fingerprint
    assert {split: one["rows"] for split, one in card["splits"].items()} == {
        split: one.count for split, one in prepared.splits()
    }
    for unit in ("word_lengths", "token_lengths"):
        for split, counts in card[unit]["counts"].items():
            assert sum(counts) == card["splits"][split]["rows"]
    train, _ = prepared.train.read_rows()
    assert card["splits"]["train"]["words"]["max"] == max(len(text.split()) for text in train)
    assert all(set(one["examples"]) <= set(train) for one in card["classes"])
    assert [len(one["examples"]) for one in card["classes"]] == [3, 3]
    assert card["rows"]["read"] == card["rows"]["kept"] == 600


@pytest.mark.slow
def test_templates_are_found_as_patterns_leak_and_warnings(prepared: PreparedData) -> None:
    """The rows of `prepared` are templates: a word, a verb, a word, and a number."""
    card = read_card(prepared.folder)
    kinds = {warning["kind"] for warning in card["warnings"]}
    assert kinds >= {"leak", "near_constant", "small_test_split"}
    assert card["patterns"]["rows"] > 100
    leak = card["leaks"]["test"]
    assert leak["rows"]["numbers"] > 10
    assert leak["rows_compared_for_one_word"] == 0  # they have four words
    example = next(one for one in leak["examples"] if one["kind"] == "numbers")
    held_out, training = (example[side]["text"].split() for side in ("held_out", "training"))
    assert sorted(held_out[:3]) == sorted(training[:3])
    assert held_out[3] != training[3]


@pytest.mark.slow
def test_the_same_folder_gives_the_same_bytes(prepared: PreparedData, tmp_path: Path) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(prepared.folder, folder)
    before = {name: (folder / name).read_bytes() for name in (CARD_JSON, CARD_PAGE)}
    for name in before:
        (folder / name).unlink()
    write_data_card(folder)
    assert {name: (folder / name).read_bytes() for name in before} == before


@pytest.mark.slow
def test_damaged_folder_is_refused(prepared: PreparedData, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(prepared.folder, folder)
    shard = next(folder.glob("validation-*"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match="expected a TFRecord shard of texts and labels"):
        write_data_card(folder)


@pytest.mark.slow
def test_hostile_rows_are_counted_shown_and_escaped(
    tmp_path: Path, make_rows: MakeRows, make_table: MakeTable
) -> None:
    scripts = [(f"<script>alert({index})</script> row", "</table>") for index in range(60)]
    rows = [
        *make_rows(150),
        *scripts,
        *((f"{'w' * 10_000} {index}", "L" * 5000) for index in range(60)),
        *((f"한국어 문장 {chr(0xAC00 + 7 * index)} \u202e", "日本語") for index in range(60)),
        ("", "animal"),
        ("no label", ""),
        ("bell \x07 nul \0 here", "metal"),
        ("Twice", "animal"),
        ("twice!", "animal"),
        ("disputed", "animal"),
        ("disputed", "metal"),
    ]
    config = PrepareConfig(vocab_size=200, shards=2, max_tokens=50)
    data = prepare(make_table(rows), config, tmp_path / "data" / "table")
    card = read_card(data.folder)
    flow = card["rows"]
    rejected = {one["reason"]: one["rows"] for one in flow["rejected"]}
    assert flow["read"] == len(rows)
    assert flow["read"] == flow["kept"] + flow["duplicates_merged"] + flow[
        "conflicting_rows_dropped"
    ] + sum(rejected.values())
    assert (rejected["empty_text"], rejected["empty_label"]) == (1, 1)
    assert all(one["samples"] for one in flow["rejected"])
    (conflict,) = card["conflicts"]
    assert conflict == {"text": "disputed", "rows": {"animal": 1, "metal": 1}, "kept": "animal"}
    labels = [one["label"] for one in card["classes"]]
    assert "L" * 80 + "…" in labels
    kinds = [warning["kind"] for warning in card["warnings"]]
    assert {"cut_texts", "unknown_pieces", "near_constant"} <= set(kinds)
    assert card["vocabulary"]["missing"][0]["code_point"].startswith("U+")
    page = (data.folder / CARD_PAGE).read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(" in page
    assert len(page) < 400_000


@pytest.mark.slow
def test_classes_absent_from_a_split_and_too_few_to_judge_are_named(
    tmp_path: Path, make_table: MakeTable
) -> None:
    rows = [(f"text {chr(97 + index % 26)}{index}", f"class {index // 2}") for index in range(80)]
    data = prepare(make_table(rows), PrepareConfig(vocab_size=60), tmp_path / "data" / "table")
    card = read_card(data.folder)
    assert "too few to predict" in card["label_noise"]["skipped"]
    texts = [one["text"] for one in card["warnings"] if one["kind"] == "absent_class"]
    assert len(texts) >= 2
    assert card["balance"]["under_50_rows"] == 40


@pytest.mark.slow
def test_data_prints_its_warnings_and_train_would_say_how_many(
    tmp_path: Path, make_rows: MakeRows, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATETABLE_BUILD", str(tmp_path / "build"))
    source = make_table(make_rows(200))
    arguments = ["data", "--source", str(source.path), "--vocab-size", "150"]
    page = tmp_path / "build" / "data" / "table" / CARD_PAGE
    first, second = (
        CliRunner().invoke(cli, arguments, catch_exceptions=False).output.splitlines()
        for _ in range(2)
    )
    warnings = [line for line in first if line.startswith("warning: ")]
    assert f"The data card has {len(warnings)} warnings: {page}" in first
    assert first[-2:] == [str(page), str(page.parent)]
    assert [line for line in second if line.startswith("warning: ")] == warnings
    assert not any(line.startswith("The data card has") for line in second)
