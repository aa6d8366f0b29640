"""Bulk scoring: every row of a table, in bounded memory, with the answers of `LookupModel.predict`.

The table is read in slices of some thousand rows; threads score them and each becomes a finished
part on disk; the output is written from the parts. A part is a whole number of the blocks that
`export.score_rows` computes together, so neither the number of threads, nor the size of a part,
nor where a run was killed changes a byte of the output.

Needs NumPy, pyarrow and sentencepiece, no TensorFlow.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.bundle import MANIFEST_FILE
from export.lookup import LookupModel, load_lookup
from export.part_store import (
    PartStore,
    ScoreError,
    ScoreState,
    check_unchanged,
    read_input_state,
)
from export.score_rows import BLOCK_ROWS, find_lookup, name_engine, score_table
from export.scored_table import find_format, make_schema
from export.text_table import (
    TableSlice,
    TextTable,
    count_blank,
    open_table,
    read_slices,
)

DEFAULT_PART_ROWS = 16_384

Progress = Callable[[str, int, int, int], None]
"""(what is being done, amount done, amount in all, rows done)."""


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """What to score, and how.

    Attributes:
        artifact: An artifact folder, or its `lookup/`.
        source: The table to read.
        target: The table to write; its ending chooses the format.
        text_column: Name of the text's column.
        k: Pairs of label and probability, at least 1.
        part_rows: Rows of a part, at least 1; rounded up to whole blocks.
        threads: Threads that tokenise and compute, at least 1.
        engine: See `load_lookup`.
        restart: Throw away finished parts, and replace an existing target.
        block_rows: Rows computed together, at least 1.
    """

    artifact: Path
    source: Path
    target: Path
    text_column: str = "title"
    k: int = 3
    part_rows: int = DEFAULT_PART_ROWS
    threads: int = 1
    engine: str = "auto"
    restart: bool = False
    block_rows: int = BLOCK_ROWS

    def __post_init__(self) -> None:
        for name in ("k", "part_rows", "threads", "block_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, found {getattr(self, name)}.")
        if self.source.resolve() == self.target.resolve():
            raise ScoreError(
                f"{self.target}: expected another file than the input to write to, found the same."
            )

    @property
    def whole_part_rows(self) -> int:
        """Rows of a part, a multiple of `block_rows`."""
        return -(-self.part_rows // self.block_rows) * self.block_rows


@dataclass(frozen=True, kw_only=True)
class ScoreResult:
    """Outcome of a scoring.

    Attributes:
        rows: Rows of the output.
        kept_rows: Of those, finished by an earlier run.
        blank_rows: Of those, without text; scored as one unknown token.
        rejected_rows: Rows of the input that are not in the output.
        rejects: Where those are, or None if there are none.
        engine: What computed.
        workers: How many threads or processes did.
        elapsed_s: Wall time of this run.
    """

    rows: int
    kept_rows: int
    blank_rows: int
    rejected_rows: int
    rejects: Path | None
    engine: str
    workers: int
    elapsed_s: float


@dataclass(frozen=True, kw_only=True)
class ScoredParts:
    """What came of the work.

    Attributes:
        parts: How many there are.
        rows: Their rows.
        kept_rows: Of those, finished by an earlier run.
        workers: Threads or processes that scored.
    """

    parts: int
    rows: int
    kept_rows: int
    workers: int


def score_in_threads(
    config: ScoreConfig, source: TextTable, store: PartStore, model: LookupModel, progress: Progress
) -> ScoredParts:
    """Finish the parts that are missing, on this machine.

    Args:
        config: What to score.
        source: The input.
        store: Where parts go.
        model: The model.
        progress: Told how far it is.
    """

    def finish(number: int, piece: TableSlice) -> TableSlice:
        if not store.has(number):
            store.write(
                number,
                score_table(
                    model,
                    piece.table,
                    text_column=config.text_column,
                    k=config.k,
                    block_rows=config.block_rows,
                ),
            )
        return piece

    parts = rows = kept_rows = 0
    waiting: deque[Future[TableSlice]] = deque()

    def take_first() -> None:
        nonlocal rows
        piece = waiting.popleft().result()
        rows += piece.table.num_rows
        progress("scoring", piece.bytes_read, source.size_bytes, rows)

    with ThreadPoolExecutor(config.threads) as pool:
        try:
            for piece in read_slices(source, config.whole_part_rows, store.rejects):
                if store.has(parts):
                    kept_rows += piece.table.num_rows
                waiting.append(pool.submit(finish, parts, piece))
                parts += 1
                # One slice ahead of the threads, no more: this bounds the memory.
                if len(waiting) > config.threads:
                    take_first()
            while waiting:
                take_first()
        finally:
            pool.shutdown(cancel_futures=True)
    return ScoredParts(parts=parts, rows=rows, kept_rows=kept_rows, workers=config.threads)


PartScorer = Callable[[ScoreConfig, TextTable, PartStore, LookupModel, Progress], ScoredParts]
"""Finishes the parts that are missing: `score_in_threads`, or one that uses other machines."""


def load_model(config: ScoreConfig) -> LookupModel:
    """Load the model of a scoring.

    Raises:
        ArtifactError: See `load_lookup`.
        ScoreError: It has fewer than k labels.
    """
    model = load_lookup(find_lookup(config.artifact), engine=config.engine)
    if config.k > model.num_classes:
        raise ScoreError(
            f"k: expected 1 to {model.num_classes}, the labels of {config.artifact}, found "
            f"{config.k}."
        )
    # No word table holds this word, so a tokenizer that cannot be used is known before any work.
    model.encode(["\ue000"])
    return model


def _make_state(config: ScoreConfig, model: LookupModel, store: PartStore) -> ScoreState:
    manifest = (find_lookup(config.artifact) / MANIFEST_FILE).read_bytes()
    return ScoreState(
        input=read_input_state(config.source, {} if config.restart else store.read_state()),
        lookup_sha256=hashlib.sha256(manifest).hexdigest(),
        engine=name_engine(model),
        text_column=config.text_column,
        k=config.k,
        part_rows=config.whole_part_rows,
        block_rows=config.block_rows,
        format=find_format(config.target),
    )


def score_file(
    config: ScoreConfig,
    progress: Progress = lambda what, done, total, rows: None,
    *,
    score_parts: PartScorer = score_in_threads,
) -> ScoreResult:
    """Score a table. Killed and called again, it goes on from the parts it had finished.

    Args:
        config: What to score.
        progress: Told how far it is.
        score_parts: What does the work.

    Returns:
        What was done.

    Raises:
        ScoreError: The output may not be written, or there are parts of another command.
        TableError: The input cannot be read, or the output's format cannot hold it.
        ArtifactError: The artifact cannot be used.
        ValueError: There is no such engine.
        ImportError: The package sentencepiece is absent.
    """
    started = time.perf_counter()
    find_format(config.target)
    store = PartStore(config.target)
    with store.lock():
        store.check_target(restart=config.restart)
        source = open_table(config.source, config.text_column)
        schema = make_schema(source.schema, config.k, config.target)
        progress("loading the model", 0, 0, 0)
        model = load_model(config)
        progress("hashing the input", 0, 0, 0)
        state = _make_state(config, model, store)
        store.begin(state, restart=config.restart)
        scored = score_parts(config, source, store, model, progress)
        check_unchanged(state.input)
        rows = blank_rows = 0

        def written(table: Any) -> None:
            nonlocal rows, blank_rows
            rows += table.num_rows
            blank_rows += count_blank(table, config.text_column)
            progress("writing the output", rows, scored.rows, rows)

        rejected_rows = store.publish(scored.parts, schema, written)
    return ScoreResult(
        rows=rows,
        kept_rows=scored.kept_rows,
        blank_rows=blank_rows,
        rejected_rows=rejected_rows,
        rejects=store.published_rejects if rejected_rows else None,
        engine=name_engine(model),
        workers=scored.workers,
        elapsed_s=time.perf_counter() - started,
    )
