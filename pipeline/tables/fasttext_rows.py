"""Rows of plain text lines whose first word is the label: fastText's training format.

`__label__animal a small domesticated feline` is the text `a small domesticated feline` of the
class `animal`.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.tables.row_batch import SAMPLE_CHARS, Reject, RowBatch, TableLayout
from pipeline.tables.source import DataError, SourceConfig
from pipeline.tables.source_bytes import SourceLimits
from pipeline.tables.text_lines import batch_lines


def _find_fault(label: str, text: str, prefix: str) -> str | None:
    if not label.startswith(prefix):
        return "no_label"
    # Of several labels one would be the class and the others would be read as text.
    return "several_labels" if prefix and text.startswith(prefix) else None


def read_fasttext_rows(
    source: SourceConfig, layout: TableLayout, limits: SourceLimits
) -> Iterator[RowBatch]:
    """Read labelled lines in bounded memory.

    Yields:
        Batches in the order of the file, each with the rejects that lie between its rows:
        `no_label`, `several_labels`, and those of `read_lines`.

    Raises:
        DataError: See `read_lines`; or none of the first lines begins with the prefix.
    """
    prefix = layout.label_prefix
    is_first = True
    for lines in batch_lines(source, limits):
        batch, rejects = RowBatch(), []
        for number, line in lines:
            if isinstance(line, Reject):
                rejects.append(line)
                continue
            label, *rest = line.split(maxsplit=1)
            text = rest[0] if rest else ""
            fault = _find_fault(label, text, prefix)
            if fault is not None:
                rejects.append(Reject(row=number, reason=fault, sample=line[:SAMPLE_CHARS]))
                continue
            batch.rows.append(number)
            batch.texts.append(text)
            batch.labels.append(label.removeprefix(prefix))
        batch.rejects = rejects
        if is_first and not batch.rows and {reject.reason for reject in rejects} == {"no_label"}:
            raise DataError(
                f"{source}: expected lines that begin with {prefix!r}, found "
                f"{rejects[0].sample[:50]!r}. Name the format with --format, or the prefix with "
                "--label-prefix."
            )
        is_first = False
        yield batch
