"""A table of text: one description, shown as Markdown, in the terminal and on the report's page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table as RichTable

NOT_AVAILABLE = "n/a"
UNSTABLE = " ~"
UNSTABLE_NOTE = (
    "~ is unstable: the medians of the rounds lie more than 10 % apart, or there is only one."
)


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table.

    Attributes:
        title: Stands above it.
        columns: Their names.
        rows: Text of each cell.
        note: Stands below it.
        is_detail: Shown in the Markdown report and on the page only, not in the terminal.
        key: What the report's page calls it; empty where no page shows it.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    is_detail: bool = False
    key: str = ""


def format_markdown_table(table: Table) -> str:
    """Return the table as Markdown, first column left, the others right; ends in a newline."""
    lines = ["| " + " | ".join(table.columns) + " |"]
    lines.append("|---" + "|--:" * (len(table.columns) - 1) + "|")
    lines += ["| " + " | ".join(row) + " |" for row in table.rows]
    return "\n".join(lines) + "\n"


def format_markdown_list(lines: Sequence[str]) -> str:
    """Return the lines as a Markdown list; ends in a newline."""
    return "".join(f"- {line}\n" for line in lines)


def print_tables(console: Console, tables: Sequence[Table]) -> None:
    """Print the tables in the terminal, those of details left out."""
    for table in tables:
        if table.is_detail:
            continue
        shown = RichTable(
            title=table.title,
            title_justify="left",
            box=SIMPLE,
        )
        for position, column in enumerate(table.columns):
            shown.add_column(column, justify="right" if position else "left")
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)
        if table.note:
            console.print(f"{table.note}\n", highlight=False)


def format_interval(interval: Sequence[float] | None, digits: str) -> str:
    """Return "low to high", or n/a where there is no interval."""
    if interval is None:
        return NOT_AVAILABLE
    return f"{interval[0]:{digits}} to {interval[1]:{digits}}"


def format_megabytes(size_bytes: float | None) -> str:
    """Return MB of 10^6 bytes with two decimals, or n/a."""
    return NOT_AVAILABLE if size_bytes is None else f"{size_bytes / 1e6:.2f}"


def format_amount(value: float | None, digits: str = ",.0f") -> str:
    """Return a number, or n/a where it was not measured or rests on too few samples."""
    return NOT_AVAILABLE if value is None else f"{value:{digits}}"
