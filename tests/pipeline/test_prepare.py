"""From a table to a data folder."""

from __future__ import annotations

import dataclasses
import io
import json
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from pipeline.config import FilterConfig, PrepareConfig
from pipeline.data_folder import PreparedData
from pipeline.normalisation import normalise
from pipeline.prepare import compute_key, prepare
from pipeline.tables.source import EMBEDDED_DATASET, SourceConfig, resolve_source
from pipeline.tokenizer import encode_texts, load_processor

pytestmark = pytest.mark.slow  # writing shards takes TensorFlow

MakeRows = Callable[[int], list[tuple[str, str]]]
MakeTable = Callable[..., SourceConfig]
CONFIG = PrepareConfig(vocab_size=150, shards=2)


def read_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def read_split_of_text(data: PreparedData) -> dict[str, str]:
    return {text: name for name, split in data.splits() for text in split.read_rows()[0]}


def test_folder_holds_every_row_once_with_its_label(
    prepared: PreparedData, make_rows: MakeRows
) -> None:
    found = []
    for _, split in prepared.splits():
        texts, labels = split.read_rows()
        found += [(text, prepared.labels[label]) for text, label in zip(texts, labels, strict=True)]
    assert sorted(found) == sorted(make_rows(600))
    assert prepared.labels == ("animal", "metal")
    assert (prepared.name, prepared.vocab_size) == ("pets", 200)


def test_split_is_about_eight_to_one_to_one(prepared: PreparedData) -> None:
    counts = [split.count for _, split in prepared.splits()]
    assert sum(counts) == 600
    assert counts == pytest.approx([480, 60, 60], abs=25)


def test_same_source_gives_the_same_bytes(
    tmp_path: Path, make_rows: MakeRows, make_table: MakeTable
) -> None:
    source = make_table(make_rows(200))
    one, two = (prepare(source, CONFIG, tmp_path / name / "table") for name in "ab")
    assert read_bytes(one.folder) == read_bytes(two.folder)
    assert one.fingerprint == two.fingerprint


def test_order_of_the_table_does_not_matter(
    tmp_path: Path, make_rows: MakeRows, make_table: MakeTable
) -> None:
    rows = make_rows(200)
    one = prepare(make_table(rows), CONFIG, tmp_path / "a" / "table")
    two = prepare(make_table(rows[::-1]), CONFIG, tmp_path / "b" / "table")
    assert one.fingerprint == two.fingerprint


def test_adding_rows_moves_none_to_another_split(
    tmp_path: Path, make_rows: MakeRows, make_table: MakeTable
) -> None:
    rows = make_rows(300)
    few = prepare(make_table(rows[:200]), CONFIG, tmp_path / "a" / "table")
    many = prepare(make_table(rows), CONFIG, tmp_path / "b" / "table")
    before, after = read_split_of_text(few), read_split_of_text(many)
    assert len(after) == 300
    assert {text: after[text] for text in before} == before


def test_no_normalised_text_is_in_two_splits(
    tmp_path: Path, make_rows: MakeRows, make_table: MakeTable
) -> None:
    rows = make_rows(150)
    spelled = [(spell(text), label) for text, label in rows for spell in (str.upper, "{}!".format)]
    data = prepare(make_table(spelled), CONFIG, tmp_path / "table")
    assert data.counts["duplicates_merged"] == 150
    normal = [normalise(text) for text in read_split_of_text(data)]
    assert len(normal) == len(set(normal)) == 150


def test_duplicates_conflicts_and_rejects_are_counted_and_sampled(
    tmp_path: Path, make_rows: MakeRows, make_table: MakeTable
) -> None:
    rows = [
        *make_rows(100),
        *[("A Cat!", "metal"), ("a cat", " animal "), ("a  cat", "animal")],  # two against one
        *[("tie", "metal"), ("tie", "animal")],  # the first seen wins
        *[(" ", "animal"), ("word", " "), ("!!!", "metal"), ("x", "a\nb")],
    ]
    notices: list[str] = []
    data = prepare(make_table(rows), CONFIG, tmp_path / "table", notify=notices.append)
    assert data.counts == {
        "rows_read": 109,
        "rows_kept": 102,
        "duplicates_merged": 1,
        "conflicting_texts": 2,
        "conflicting_rows_dropped": 2,
        "rejected_empty_label": 1,
        "rejected_empty_text": 1,
        "rejected_line_break_in_label": 1,
        "rejected_no_word_in_text": 1,
    }
    lines = (data.folder / "rejects.jsonl").read_text(encoding="utf-8").splitlines()
    rejects = [json.loads(line) for line in lines]
    assert [(reject["row"], reject["reason"]) for reject in rejects] == [
        (107, "empty_text"),
        (108, "empty_label"),
        (109, "no_word_in_text"),
        (110, "line_break_in_label"),
    ]
    details = json.loads((data.folder / "data.json").read_text(encoding="utf-8"))["details"]
    conflicts = {conflict["text"]: conflict for conflict in details["conflicts"]}
    assert conflicts["a cat"]["labels"] == {"animal": 2, "metal": 1}
    assert conflicts["a cat"]["kept"] == "animal"
    assert conflicts["tie"]["kept"] == "metal"
    assert any(
        notice.startswith("4 of 109 rows were not used (empty_label 1,") for notice in notices
    )


def test_many_rejects_of_one_reason_hide_no_other(
    tmp_path: Path, make_rows: MakeRows, make_table: MakeTable
) -> None:
    rows = [*make_rows(100), *[("", "animal")] * 500, ("word", "")]
    data = prepare(make_table(rows), CONFIG, tmp_path / "table")
    assert data.counts["rejected_empty_text"] == 500
    reasons = (data.folder / "rejects.jsonl").read_text(encoding="utf-8")
    assert reasons.count("empty_text") == 200
    assert reasons.count("empty_label") == 1


def test_filters_and_label_map_are_counted_and_part_of_the_key(
    tmp_path: Path, make_rows: MakeRows, make_table: MakeTable
) -> None:
    rows = [*make_rows(200), *[(f"junk {number}", "junk") for number in range(5)]]
    source = make_table(rows)
    plain = prepare(source, CONFIG, tmp_path / "table")
    config = dataclasses.replace(
        CONFIG,
        filters=FilterConfig(text_must_not_match="^(cat|gold) "),
        label_map=(("junk", ""), ("metal", "thing"), ("medal", "thing")),
    )
    notices: list[str] = []
    data = prepare(source, config, plain.folder, notify=notices.append)
    filtered = sum(text.startswith(("cat ", "gold ")) for text, _ in rows)
    assert data.labels == ("animal", "thing")
    assert data.counts["rejected_label_dropped"] == 5
    assert data.counts["rejected_text_must_not_match"] == filtered > 0
    assert data.counts["rows_kept"] == 200 - filtered
    assert "No row has these labels of the label map: 'medal'." in notices
    assert data.fingerprint != plain.fingerprint
    written = json.loads((data.folder / "data.json").read_text("utf-8"))["details"]["config"]
    assert written["label_map"] == [["junk", ""], ["metal", "thing"], ["medal", "thing"]]


def test_several_files_give_the_rows_of_one(tmp_path: Path, make_rows: MakeRows) -> None:
    rows = make_rows(200)
    for part in range(4):
        lines = [
            json.dumps({"title": text, "category": label})
            for text, label in [*rows[part::4], ("", "x")]
        ]
        (tmp_path / f"part-{part}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    source = resolve_source(path=f"{tmp_path}/part-*.jsonl")
    many = prepare(source, CONFIG, tmp_path / "data" / source.name)
    lines = ["title,category", *(f"{text},{label}" for text, label in rows)]
    (tmp_path / "one.csv").write_text("\n".join(lines), encoding="utf-8")
    one = prepare(SourceConfig(path=tmp_path / "one.csv"), CONFIG, tmp_path / "data" / "one")
    assert many.fingerprint == one.fingerprint
    assert many.name == "part"
    rejects = (many.folder / "rejects.jsonl").read_text(encoding="utf-8").splitlines()
    assert [(json.loads(line)["file"], json.loads(line)["row"]) for line in rejects] == [
        (f"part-{part}.jsonl", 51) for part in range(4)
    ]
    before = compute_key(source, CONFIG)
    (tmp_path / "part-9.jsonl").write_text('{"title": "more", "category": "animal"}')
    assert compute_key(resolve_source(path=f"{tmp_path}/part-*.jsonl"), CONFIG) != before


def test_class_absent_from_training_is_noticed(
    tmp_path: Path, make_rows: MakeRows, make_table: MakeTable
) -> None:
    rows = make_rows(200)
    first = prepare(make_table(rows), CONFIG, tmp_path / "a" / "table")
    in_test = first.test.read_rows()[0][0]
    rare = [(text, "rare" if text == in_test else label) for text, label in rows]
    notices: list[str] = []
    prepare(make_table(rare), CONFIG, tmp_path / "b" / "table", notify=notices.append)
    assert "No training row has the label 'rare': it cannot be learned." in notices


def test_second_call_returns_at_once_and_touches_nothing(
    tmp_path: Path, make_rows: MakeRows, make_table: MakeTable
) -> None:
    source = make_table(make_rows(100))
    first = prepare(source, CONFIG, tmp_path / "build" / "table")
    times = {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    notices: list[str] = []
    assert prepare(source, CONFIG, first.folder, notify=notices.append) == first
    assert notices == [f"{first.folder} is up to date."]
    assert {path: path.stat().st_mtime_ns for path in first.folder.iterdir()} == times


def test_other_options_replace_the_folder(
    tmp_path: Path, make_rows: MakeRows, make_table: MakeTable
) -> None:
    source = make_table(make_rows(100))
    first = prepare(source, CONFIG, tmp_path / "build" / "table")
    second = prepare(source, PrepareConfig(vocab_size=80, shards=1), first.folder)
    assert (second.vocab_size, len(second.train.shards)) == (80, 1)
    assert second.fingerprint != first.fingerprint
    left = sorted(path.name for path in first.folder.parent.iterdir())
    assert left == [".table.lock", "table"]


def test_damaged_folder_is_made_again(
    tmp_path: Path, make_rows: MakeRows, make_table: MakeTable
) -> None:
    source = make_table(make_rows(100))
    first = prepare(source, CONFIG, tmp_path / "build" / "table")
    before = read_bytes(first.folder)
    first.train.shards[0].unlink()
    notices: list[str] = []
    prepare(source, CONFIG, first.folder, notify=notices.append)
    assert read_bytes(first.folder) == before
    assert notices[0].endswith("It is made again now.")


def test_data_json_names_no_place_of_this_machine(prepared: PreparedData) -> None:
    assert str(prepared.folder.parent) not in (prepared.folder / "data.json").read_text("utf-8")


def test_progress_shows_the_stages(
    tmp_path: Path, make_rows: MakeRows, make_table: MakeTable
) -> None:
    console = Console(file=io.StringIO(), width=80)
    with Progress(console=console) as progress:
        prepare(make_table(make_rows(100)), CONFIG, tmp_path / "table", progress=progress)
        assert progress.finished
        assert progress.tasks[0].description == "table: measuring the data card"


def test_key_depends_on_name_bytes_and_options(make_rows: MakeRows, make_table: MakeTable) -> None:
    rows = make_rows(5)
    keys = {
        compute_key(make_table(rows), CONFIG),
        compute_key(make_table(rows[:4]), CONFIG),
        compute_key(make_table(rows, name="other.csv"), CONFIG),
        compute_key(make_table(rows), PrepareConfig()),
    }
    assert len(keys) == 4


def test_zip_with_other_columns_and_korean_rows_goes_through(
    tmp_path: Path, make_rows: MakeRows
) -> None:
    korean = [(f"한국어 뉴스 제목 {number}", "뉴스") for number in range(60)]
    decomposed = [(unicodedata.normalize("NFD", text), label) for text, label in korean[:20]]
    rows = [*make_rows(60), *korean, *decomposed]
    table = "본문,분류,번호\n" + "".join(f'"{text}",{label},1\n' for text, label in rows)
    (tmp_path / "data").mkdir()
    with zipfile.ZipFile(tmp_path / "data" / "news.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("2024/기사.csv", table)
    source = resolve_source(
        zipfile_name="news.zip", file_name="2024/기사.csv", data_folder=tmp_path / "data"
    )
    config = PrepareConfig(text_column="본문", label_column="분류", vocab_size=200)
    data = prepare(source, config, tmp_path / "build" / source.name)
    assert data.labels == ("animal", "metal", "뉴스")
    assert data.counts["duplicates_merged"] == 20
    (ids,) = encode_texts(load_processor(data.tokenizer_path), ["한국어 뉴스"], 64)
    assert 1 not in ids


@pytest.mark.slow
def test_embedded_dataset_becomes_the_documented_folder(tmp_path: Path) -> None:
    data = prepare(SourceConfig(path=EMBEDDED_DATASET), PrepareConfig(), tmp_path / "wordnet31")
    assert [split.count for _, split in data.splits()] == [91_616, 11_401, 11_435]
    assert (data.vocab_size, len(data.labels)) == (15_000, 45)
    assert data.counts == {
        "rows_read": 114_460,
        "rows_kept": 114_452,
        "duplicates_merged": 7,
        "conflicting_texts": 1,
        "conflicting_rows_dropped": 1,
    }
