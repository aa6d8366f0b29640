"""From a table of text and label to a data folder: clean, merge, split, tokenise, write.

Reads a source through `pipeline.tables`, gives a folder of `pipeline.data_folder`. The split is a
hash of the normalised text: equal texts never lie on two sides, and adding rows moves none.
Rows are ordered by that hash too, so shards come shuffled and do not depend on the file's order.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sentencepiece
from rich.progress import Progress

from pipeline.config import PrepareConfig
from pipeline.data_card.card import summarise_warnings, write_data_card
from pipeline.data_folder import (
    SPLIT_NAMES,
    PreparedData,
    read_key,
    read_prepared,
    write_prepared,
    write_split,
)
from pipeline.folder_swap import locked_folder, publish_folder
from pipeline.normalisation import UNICODE_VERSION
from pipeline.splits import check_splits, format_rejects, notify_absent, split_rows
from pipeline.tables.clean_rows import RowTexts, clean_rows, merge_rows
from pipeline.tables.row_batch import Reject
from pipeline.tables.source import DataError, Source, SourceFiles
from pipeline.tables.source_bytes import SourceLimits, hash_source
from pipeline.tables.text_spool import TextSpool
from pipeline.tokenizer import encode_texts, load_processor, train_tokenizer

PREPARE_VERSION = 2
"""Part of the key: raise it when the same source would give other bytes."""
_ENCODED_AT_ONCE = 8192
_LISTED_CLASSES = 20

_STAGES = (
    "reading and cleaning rows",
    "training the tokenizer",
    "writing shards",
    "measuring the data card",
)

Notify = Callable[[str], None]


def _silent(_: str) -> None:
    return None


def compute_key(source: Source, config: PrepareConfig) -> str:
    """Return the sha256 of everything that decides a data folder's bytes.

    Raises:
        DataError: The source cannot be read.
    """
    parts = {
        "prepare_version": PREPARE_VERSION,
        "name": source.name,
        "source_sha256": hash_source(source),
        "config": config.to_json(),
        "unicode": UNICODE_VERSION,
        "sentencepiece": sentencepiece.__version__,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _summarise_lengths(lengths: npt.NDArray[np.int64]) -> dict[str, float]:
    quantiles = {
        f"p{percent}": int(np.percentile(lengths, percent, method="inverted_cdf"))
        for percent in (50, 90, 99)
    }
    return {"mean": round(float(lengths.mean()), 4), **quantiles, "max": int(lengths.max())}


def _measure_lengths(
    tokenizer: Path, texts: Sequence[bytes], max_tokens: int, report: Callable[[int], None]
) -> npt.NDArray[np.int64]:
    processor = load_processor(tokenizer)
    lengths = np.empty(len(texts), dtype=np.int64)
    for start in range(0, len(texts), _ENCODED_AT_ONCE):
        chunk = [text.decode() for text in texts[start : start + _ENCODED_AT_ONCE]]
        ids = encode_texts(processor, chunk, max_tokens)
        lengths[start : start + len(ids)] = [len(row) for row in ids]
        report(start + len(ids))
    return lengths


def _describe_source(source: Source) -> dict[str, Any]:
    files = [{"file": file.path.name, "member": file.member} for file in source.files]
    if not isinstance(source, SourceFiles) or len(files) == 1:
        return files[0]
    return {"files": [source.name_file(file) for file in source.files]}


def _describe_reject(reject: Reject) -> dict[str, Any]:
    fields = dataclasses.asdict(reject)
    return fields if reject.file else {key: fields[key] for key in ("row", "reason", "sample")}


def _fill_folder(
    folder: Path,
    source: Source,
    config: PrepareConfig,
    key: str,
    spool: TextSpool,
    limits: SourceLimits,
    begin: Callable[..., None],
    notify: Notify,
) -> None:
    """Do the whole work inside an unpublished folder."""
    begin(_STAGES[0])
    rows = clean_rows(
        source,
        config,
        spool,
        limits,
        report=lambda rows_read: begin(_STAGES[0], rows_read),
    )
    merged = merge_rows(rows)
    splits, labels = split_rows(rows, merged)
    counts = {
        "rows_read": rows.rows_read,
        "rows_kept": len(merged.rows),
        "duplicates_merged": merged.duplicates_merged,
        "conflicting_texts": merged.conflicting_texts,
        "conflicting_rows_dropped": merged.conflicting_rows_dropped,
        **{f"rejected_{reason}": count for reason, count in sorted(rows.rejected.items())},
    }
    conflicts = merged.conflicts
    del merged  # 24 bytes a row that nobody needs behind this
    check_splits(source, splits, labels, counts)
    absent = notify_absent(splits, labels, notify)
    if rows.unmet_labels:
        shown = ", ".join(map(repr, rows.unmet_labels[:_LISTED_CLASSES]))
        notify(f"No row has these labels of the label map: {shown}.")
    if rows.rejected:
        notify(
            f"{rows.rejected.total()} of {rows.rows_read} rows were not used "
            f"({format_rejects(counts)}); samples are in rejects.jsonl."
        )

    begin(_STAGES[1])
    tokenizer = folder / "tokenizer.model"
    vocab_size = train_tokenizer(
        (text.decode() for text in RowTexts(spool, splits["train"].rows)),
        config.vocab_size,
        tokenizer,
        notify=notify,
    )

    begin(_STAGES[2])
    digest = hashlib.sha256(json.dumps(config.to_json(), sort_keys=True).encode())
    digest.update(json.dumps(labels).encode())
    digest.update(hashlib.sha256(tokenizer.read_bytes()).digest())
    described: dict[str, dict[str, Any]] = {}
    for split in SPLIT_NAMES:
        texts = RowTexts(spool, splits[split].rows)
        ids: list[int] = splits[split].labels.tolist()
        # A tenth needs an eighth of the shards that eight tenths have.
        shards = config.shards if split == "train" else max(1, config.shards // 8)
        shard_bytes = write_split(folder, split, texts, ids, shards=shards)
        for text, label in zip(texts, ids, strict=True):
            digest.update(b"%s %d %d " % (split.encode(), label, len(text)) + text)
        class_counts = Counter(ids)
        described[split] = {
            "count": len(texts),
            "shard_bytes": shard_bytes,
            "class_counts": [class_counts[index] for index in range(len(labels))],
            "token_lengths": _summarise_lengths(
                _measure_lengths(
                    tokenizer, texts, config.max_tokens, lambda count: begin(_STAGES[2], count)
                )
            ),
        }
    write_prepared(
        folder,
        key=key,
        name=source.name,
        fingerprint=digest.hexdigest(),
        labels=labels,
        vocab_size=vocab_size,
        max_tokens=config.max_tokens,
        counts=counts,
        splits=described,
        rejects=[_describe_reject(reject) for reject in rows.rejects],
        details={
            "source": _describe_source(source),
            "config": config.to_json(),
            "versions": {"unicode": UNICODE_VERSION, "sentencepiece": sentencepiece.__version__},
            "classes_absent_from_train": absent,
            "conflicts": [
                {
                    "text": spool.read(conflict.row).decode(),
                    "labels": {rows.label_names[label]: n for label, n in conflict.votes},
                    "kept": rows.label_names[conflict.kept],
                }
                for conflict in conflicts
            ],
        },
    )


def prepare(
    source: Source,
    config: PrepareConfig,
    folder: Path,
    *,
    limits: SourceLimits | None = None,
    progress: Progress | None = None,
    notify: Notify = _silent,
) -> PreparedData:
    """Make the data folder of a source, or return it at once if it is there already.

    Args:
        source: The table.
        config: Columns, vocabulary, lengths, shards.
        folder: The dataset's folder, usually `build/data/<source.name>`. One made from something
            else is replaced once the new one is complete.
        limits: Bounds on reading.
        progress: Shows the stages; silent without.
        notify: Takes sentences a person should read.

    Returns:
        The data folder, read back.

    Raises:
        DataError: The source cannot be used, the folder cannot be written, or another process
            is preparing it.
    """
    task = progress.add_task(source.name, total=len(_STAGES)) if progress else None

    def begin(stage: str, rows: int = 0) -> None:
        if progress is not None and task is not None:
            done = _STAGES.index(stage)
            so_far = f" ({rows:,} rows)" if rows else ""
            progress.update(task, description=f"{source.name}: {stage}{so_far}", completed=done)

    key = compute_key(source, config)
    with locked_folder(folder):
        if read_key(folder) == key:
            try:
                data = read_prepared(folder)
            except DataError as err:
                notify(f"{err} It is made again now.")
            else:
                notify(f"{folder} is up to date.")
                return data
        with publish_folder(folder) as partial:
            with TextSpool(partial) as spool:
                _fill_folder(
                    *(partial, source, config, key, spool),
                    *(limits or SourceLimits(), begin, notify),
                )
            # Here, because all rows of the source have left the memory by now.
            begin(_STAGES[3])
            write_data_card(partial)
        if progress is not None and task is not None:
            progress.update(task, completed=len(_STAGES))
        notify(summarise_warnings(folder))
        return read_prepared(folder)
