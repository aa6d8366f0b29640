"""Rows of lines that begin with their label, and the rejected ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.tables.fasttext_rows import read_fasttext_rows
from pipeline.tables.row_batch import Reject, TableLayout
from pipeline.tables.source import DataError, SourceConfig
from pipeline.tables.source_bytes import SourceLimits


def read(
    path: Path, content: str, **layout: str
) -> tuple[list[tuple[int, str, str]], list[Reject]]:
    path.write_text(content, encoding="utf-8")
    rows: list[tuple[int, str, str]] = []
    rejects: list[Reject] = []
    batches = read_fasttext_rows(SourceConfig(path=path), TableLayout(**layout), SourceLimits())
    for batch in batches:
        rows.extend(zip(batch.rows, batch.texts, batch.labels, strict=True))
        rejects.extend(batch.rejects)
    return rows, rejects


def test_first_word_is_the_label_and_the_rest_the_text(tmp_path: Path) -> None:
    rows, rejects = read(
        tmp_path / "a.txt", "__label__a one  two \n\n__label__b\tthree\n__label__c\n__label__ x\n"
    )
    assert rows == [(1, "one  two ", "a"), (3, "three", "b"), (4, "", "c"), (5, "x", "")]
    assert rejects == []


def test_lines_without_a_label_or_with_several_are_rejected(tmp_path: Path) -> None:
    rows, rejects = read(tmp_path / "a.txt", "__label__a one\ntwo words\n__label__a __label__b x\n")
    assert rows == [(1, "one", "a")]
    assert rejects == [
        Reject(row=2, reason="no_label", sample="two words"),
        Reject(row=3, reason="several_labels", sample="__label__a __label__b x"),
    ]


@pytest.mark.parametrize(("prefix", "line"), [("#", "#a #1 text"), ("", "a #1 text")])
def test_prefix_can_be_another_or_none(tmp_path: Path, prefix: str, line: str) -> None:
    rows, rejects = read(tmp_path / "a.txt", f"{line}\n", label_prefix=prefix)
    if prefix:
        assert rejects[0].reason == "several_labels"
    else:
        assert rows == [(1, "#1 text", "a")]


def test_file_without_any_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"begin with '__label__', found 'title,category'\. Name the format with"
    ):
        read(tmp_path / "a.txt", "title,category\na,b\n")
