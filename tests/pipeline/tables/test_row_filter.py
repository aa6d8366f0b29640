"""Filters and label maps, row by row."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import FilterConfig, PrepareConfig
from pipeline.tables.row_filter import RowFilter


def find_reason(text: str, label: str, **patterns: str) -> str | None:
    return RowFilter(PrepareConfig(filters=FilterConfig(**patterns))).find_reason(text, label)


@pytest.mark.parametrize(
    ("patterns", "reason"),
    [
        ({}, None),
        ({"text_must_match": "cat"}, None),
        ({"text_must_match": "^cat"}, "text_must_match"),
        ({"text_must_not_match": "(?i)A CAT"}, "text_must_not_match"),
        ({"text_must_not_match": "A CAT"}, None),
        ({"label_must_match": r"^noun\."}, None),
        ({"label_must_match": "cat"}, "label_must_match"),
        ({"label_must_not_match": "animal$"}, "label_must_not_match"),
        ({"label_must_match": "x", "text_must_match": "x"}, "text_must_match"),
    ],
)
def test_row_must_pass_every_filter(patterns: dict[str, str], reason: str | None) -> None:
    assert find_reason("a cat", "noun.animal", **patterns) == reason


@given(text=st.text(), label=st.text())
def test_without_a_config_every_row_passes_as_it_is(text: str, label: str) -> None:
    row_filter = RowFilter(PrepareConfig())
    assert row_filter.find_reason(text, label) is None
    assert row_filter.map_label(label) == label


def test_labels_are_mapped_once_and_what_no_row_had_is_known() -> None:
    row_filter = RowFilter(PrepareConfig(label_map=(("a", "b"), ("b", "c"), ("d", ""))))
    assert [row_filter.map_label(label) for label in "abxd"] == ["b", "c", "x", ""]
    assert row_filter.unmet_labels == set()
    row_filter = RowFilter(PrepareConfig(label_map=(("a", "b"), ("e", "c"))))
    row_filter.map_label("a")
    assert row_filter.unmet_labels == {"e"}
