from __future__ import annotations

import io

from rich.console import Console

from serving_compare.text_table import (
    Table,
    format_amount,
    format_interval,
    format_markdown_list,
    format_markdown_table,
    format_megabytes,
    print_tables,
)


def test_markdown_table_has_a_first_column_left_and_others_right():
    table = Table(title="t", columns=["a", "b"], rows=[["1", "2"]])
    assert format_markdown_table(table) == "| a | b |\n|---|--:|\n| 1 | 2 |\n"


def test_terminal_shows_the_tables_without_the_details():
    shown = io.StringIO()
    told = Table(title="told", columns=["a"], rows=[["1"]], note="why")
    detail = Table(title="detail", columns=["a"], rows=[["1"]], is_detail=True)
    print_tables(Console(file=shown, width=100), [told, detail])
    assert "told" in shown.getvalue()
    assert "why" in shown.getvalue()
    assert "detail" not in shown.getvalue()


def test_what_was_not_measured_is_not_available():
    assert format_interval(None, ".1f") == format_amount(None) == format_megabytes(None) == "n/a"
    assert format_interval([1.0, 2.5], ".1f") == "1.0 to 2.5"
    assert format_amount(1234.4) == "1,234"
    assert format_megabytes(1_500_000) == "1.50"


def test_lists_are_lines_with_a_dash():
    assert format_markdown_list(["a", "b"]) == "- a\n- b\n"
