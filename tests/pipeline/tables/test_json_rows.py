"""Rows of JSON Lines, and the rejected ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.tables.json_rows import read_json_rows
from pipeline.tables.row_batch import Reject, TableLayout
from pipeline.tables.source import DataError, SourceConfig
from pipeline.tables.source_bytes import SourceLimits


def read(path: Path, *lines: object) -> tuple[list[Any], list[Reject]]:
    """Write and read lines: text as it is, anything else as JSON."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts), encoding="utf-8")
    rows: list[Any] = []
    rejects: list[Reject] = []
    for batch in read_json_rows(SourceConfig(path=path), TableLayout(), SourceLimits()):
        rows.extend(zip(batch.rows, batch.texts, batch.labels, strict=True))
        rejects.extend(batch.rejects)
    return rows, rejects


def test_keys_in_any_order_and_whole_numbers_as_labels(tmp_path: Path) -> None:
    rows, rejects = read(
        tmp_path / "a.jsonl",
        {"title": "a", "category": "b"},
        "",
        {"category": 7, "more": [{}], "title": "뉴\n스"},
        {"category": -1, "title": ""},
    )
    assert (rows, rejects) == ([(1, "a", "b"), (3, "뉴\n스", "7"), (4, "", "-1")], [])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"title": "a", ', "bad_json"),
        ('{"title": "a", "category": "b"} {"title": "c", "category": "d"}', "bad_json"),
        ("[" * 100_000, "bad_json"),
        ('{"title": "a", "category": ' + "9" * 5000 + "}", "bad_json"),
        ("[1]", "not_an_object"),
        ('"title"', "not_an_object"),
        ('{"category": "b"}', "missing_text"),
        ('{"title": null, "category": "b"}', "missing_text"),
        ('{"title": "a"}', "missing_label"),
        ('{"title": 1, "category": "b"}', "text_is_no_string"),
        ('{"title": ["a"], "category": "b"}', "text_is_no_string"),
        ('{"title": "a", "category": 1.5}', "label_is_no_string"),
        ('{"title": "a", "category": true}', "label_is_no_string"),
        ('{"title": "\\ud800", "category": "b"}', "undecodable_line"),
    ],
)
def test_bad_line_costs_itself_only(tmp_path: Path, line: str, reason: str) -> None:
    good = {"title": "a", "category": "b"}
    rows, rejects = read(tmp_path / "a.jsonl", good, line, good)
    assert [row[0] for row in rows] == [1, 3]
    assert rejects == [Reject(row=2, reason=reason, sample=line[:200])]


def test_keys_that_no_row_has_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"keys 'title' and 'category', found 'text', 'label'\. Name yours with --text-col",
    ):
        read(tmp_path / "a.jsonl", *[{"text": "a", "label": "b"}] * 3)


def test_file_of_blank_lines_has_no_rows(tmp_path: Path) -> None:
    assert read(tmp_path / "a.jsonl", "", "  ", "") == ([], [])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(*[st.text(st.characters(codec="utf-8"))] * 2), max_size=8))
def test_strings_come_back_as_they_are(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    objects = [{"title": text, "category": label} for text, label in rows]
    found, rejects = read(tmp_path / "a.jsonl", *objects, {"title": "a", "category": "b"})
    assert ([row[1:] for row in found], rejects) == ([*rows, ("a", "b")], [])
