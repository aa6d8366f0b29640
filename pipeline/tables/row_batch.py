"""What every reader of rows gives: batches of text and label, and the rows that failed.

A reader is a function of a file, a `TableLayout` and limits, in a module of its own for each
format; `pipeline.tables.table` chooses among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from pipeline.tables.source import SourceConfig
from pipeline.tables.source_bytes import SourceLimits

SAMPLE_CHARS = 200
"""A reject shows so much of its row."""
WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, kw_only=True)
class TableLayout:
    """Where text and label stand in a row; each format reads what it has.

    Attributes:
        text_column: Name of the text's column or key.
        label_column: Name of the label's column or key.
        delimiter: Between the columns of a CSV.
        label_prefix: Begins the label of a `fasttext` line.
    """

    text_column: str = "title"
    label_column: str = "category"
    delimiter: str = ","
    label_prefix: str = "__label__"


@dataclass(frozen=True, kw_only=True)
class Reject:
    """A row that was not used.

    Attributes:
        row: Its number. In a CSV that of the record, the header being 1 and blank lines not
            counting; that of the line in JSON Lines and `fasttext`; in Parquet the first row is 1.
        reason: Short machine-readable cause.
        sample: Beginning of the row or of the cell.
        file: Which file of several; "" where there is only one.
    """

    row: int
    reason: str
    sample: str
    file: str = ""


@dataclass(kw_only=True)
class RowBatch:
    """Some rows in their order: `rows` (numbers as in `Reject`), `texts`, `labels`, one each.

    `file` is as in `Reject`.
    """

    rows: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    rejects: Sequence[Reject] = field(default_factory=list)
    file: str = ""


RowReader = Callable[[SourceConfig, TableLayout, SourceLimits], Iterator[RowBatch]]
