"""Bulk scoring past one machine: the same scorer as a Ray Data worker.

`Scorer` suits any `ray.data.Dataset` with a column of text. `score_on_ray` is what
`python -m export score --ray` uses: the machine that was asked reads the input and writes the
output, worker processes anywhere in the cluster score whole parts. A part travels as one row, so
that Ray never cuts it, and the output has the same bytes as without Ray. Ray gives the part of a
lost worker to another one; finished parts are kept as without Ray.

Needs the extra `ray`; every machine of the cluster needs this package and the artifact, at the
same path.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
import ray.data

from export.lookup import LookupModel, load_lookup
from export.part_store import PartStore, ScoreError
from export.score import Progress, ScoreConfig, ScoredParts
from export.score_rows import BLOCK_ROWS, find_lookup, score_table
from export.scored_table import pack_table, unpack_table
from export.text_table import TextTable, read_slices

Row = dict[str, Any]


class Scorer:
    """Worker of `ray.data.Dataset.map_batches(Scorer, batch_format="pyarrow", ...)`.

    Appends label_1, probability_1, ... label_k, probability_k to every batch. Each worker process
    loads the artifact once. Rows of a batch are computed together, so another batch size may give
    other last bits; the answers are those of `LookupModel.predict`.

    Args:
        artifact: An artifact folder or its `lookup/`, at this path on every machine.
        text_column: Name of the text's column.
        k: Pairs of label and probability, at most C.
        engine: See `load_lookup`.
        block_rows: See `score_rows.score_texts`.

    Raises:
        ArtifactError: The artifact cannot be used on this machine.
    """

    def __init__(
        self,
        artifact: str,
        text_column: str = "title",
        k: int = 3,
        engine: str = "auto",
        block_rows: int = BLOCK_ROWS,
    ) -> None:
        self._model = load_lookup(find_lookup(Path(artifact)), engine=engine)
        self._text_column = text_column
        self._k = k
        self._block_rows = block_rows

    def __call__(self, batch: Any) -> Any:
        """Return a batch, a pyarrow table, with its scores."""
        return score_table(
            self._model,
            batch,
            text_column=self._text_column,
            k=self._k,
            block_rows=self._block_rows,
        )


class _PartScorer(Scorer):
    """Scores parts that travel as rows; one that is empty was finished before and stays so."""

    def __call__(self, batch: Any) -> Any:
        worker = f"{ray.get_runtime_context().get_node_id()} {os.getpid()}"
        score = super().__call__
        packed = [pack_table(score(unpack_table(part))) if part else b"" for part in batch["part"]]
        return {**batch, "part": packed, "worker": [worker] * len(packed)}


def _read_parts(config: ScoreConfig, source: TextTable, store: PartStore) -> Iterator[Row]:
    """Yield every part of the input as a batch of one row; empty where it is finished."""
    for number, piece in enumerate(read_slices(source, config.whole_part_rows, store.rejects)):
        yield {
            "number": [number],
            "rows": [piece.table.num_rows],
            "bytes_read": [piece.bytes_read],
            "part": [b"" if store.has(number) else pack_table(piece.table)],
        }


def _make_dataset(
    config: ScoreConfig, source: TextTable, store: PartStore, engine: str, workers: int | None
) -> Any:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # there is one of ours
    # A block is full with its first row: each part goes to whichever worker is free.
    context.target_max_block_size = 1
    # Not `range`: reading even that needs a core, and the workers may hold them all.
    parts = ray.data.from_items([0]).map_batches(
        lambda _: _read_parts(config, source, store),
        num_cpus=0,
        label_selector={"ray.io/node-id": ray.get_runtime_context().get_node_id()},
    )
    return parts.map_batches(
        _PartScorer,
        batch_size=None,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(
            size=workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        ),
        fn_constructor_kwargs={
            "artifact": str(config.artifact.resolve()),
            "text_column": config.text_column,
            "k": config.k,
            "engine": engine,
            "block_rows": config.block_rows,
        },
    )


def score_on_ray(
    config: ScoreConfig,
    source: TextTable,
    store: PartStore,
    model: LookupModel,
    progress: Progress,
    *,
    workers: int | None = None,
) -> ScoredParts:
    """Finish the parts that are missing, on a Ray cluster: a `score.PartScorer`.

    Joins the cluster that RAY_ADDRESS names, or starts one on this machine.

    Args:
        config: What to score; `threads` is not used.
        source: The input.
        store: Where parts go.
        model: The workers load their own, and use the engine of this one.
        progress: Told how far it is.
        workers: Processes that score; as many as the cluster has CPUs when None.

    Raises:
        ScoreError: Ray gave up; its message says why.
    """
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level="warning")
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    parts = rows = kept_rows = 0
    seen: set[str] = set()
    try:
        for row in _make_dataset(config, source, store, model.engine.name, workers).iter_rows():
            if row["part"]:
                store.write(row["number"], unpack_table(row["part"]))
                seen.add(row["worker"])
            else:
                kept_rows += row["rows"]
            parts += 1
            rows += row["rows"]
            progress("scoring", row["bytes_read"], source.size_bytes, rows)
    except ray.exceptions.RayError as err:
        # Ray puts advice about its own retries behind what the worker said.
        said = str(getattr(err, "cause", None) or err).partition("\nFailed to apply UDF")[0]
        raise ScoreError(f"Ray: {said}") from err
    return ScoredParts(parts=parts, rows=rows, kept_rows=kept_rows, workers=len(seen))
