"""Some rows of a table in, the same rows with labels and probabilities out.

A row's last bits depend on the rows it is computed with, because a matrix product over other rows
adds up in another order. So rows are computed in blocks of one size, counted from the first row
given: who cuts a table at multiples of `BLOCK_ROWS` gets the same bits however he cuts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.bundle import LOOKUP_FOLDER, MANIFEST_FILE
from export.lookup import LookupModel
from export.scored_table import add_scores
from export.text_table import read_texts

BLOCK_ROWS = 4_096
"""Rows computed together. Sorting by length inside of a block is what makes bulk fast: with the
NumPy engine (H=96, bidirectional) blocks of 1,024 cost 145 µs a row, 4,096 117 and 16,384 107."""
MAX_BLOCK_PROBABILITIES = 2**23
"""Probabilities held at once, 32 MB: many classes make the blocks smaller."""


def find_lookup(artifact: Path) -> Path:
    """Return the lookup folder of an artifact; a lookup folder is its own."""
    inner = artifact / LOOKUP_FOLDER
    return inner if (inner / MANIFEST_FILE).is_file() else artifact


def name_engine(model: LookupModel) -> str:
    """Return what computes, down to what its last bits depend on: "numpy", "native avx2"."""
    isa = getattr(model.engine, "isa", None)
    return f"{model.engine.name} {isa}" if isa else model.engine.name


def find_top(
    probabilities: npt.NDArray[np.float32], k: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Return label ids and probabilities (B, k) of the most probable classes of (B, C).

    Equal probabilities stand in the order of their ids, as `LookupModel.predict` has them.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(probabilities, order, axis=1)


def score_texts(
    model: LookupModel, texts: Sequence[str], k: int, *, block_rows: int = BLOCK_ROWS
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Return the k most probable labels of texts.

    Args:
        model: The model.
        texts: N texts.
        k: 1 to C.
        block_rows: Rows computed together, counted from the first text.

    Returns:
        Label ids (N, k) and their probabilities (N, k) float32, most probable first.
    """
    label_ids = np.empty((len(texts), k), np.intp)
    probabilities = np.empty((len(texts), k), np.float32)
    rows = max(1, min(block_rows, MAX_BLOCK_PROBABILITIES // model.num_classes))
    for block in range(0, len(texts), block_rows):
        stop = min(block + block_rows, len(texts))
        for start in range(block, stop, rows):
            some = slice(start, min(start + rows, stop))
            label_ids[some], probabilities[some] = find_top(
                model.probabilities(*model.encode(texts[some])), k
            )
    return label_ids, probabilities


def score_table(
    model: LookupModel, table: Any, *, text_column: str, k: int, block_rows: int = BLOCK_ROWS
) -> Any:
    """Return a pyarrow table with label_1, probability_1, ... label_k, probability_k appended."""
    texts = read_texts(table, text_column)
    return add_scores(table, model.labels, *score_texts(model, texts, k, block_rows=block_rows))
