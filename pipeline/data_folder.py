"""The data folder: `write_prepared` and `read_prepared` are inverses.

    data.json          schema version, key, fingerprint, configuration, counts, class balance
    tokenizer.model    SentencePiece BPE with the normalisation rules compiled in
    labels.json        label names in id order
    rejects.jsonl      a sample of the rows that were not used, {"row", "reason", "sample"} a line
    {train,validation,test}-00000-of-000NN.tfrecord

The same source and configuration give the same bytes. Imports no TensorFlow.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.json_file import read_bounded_json, write_json
from pipeline.shards import read_shard, write_shard
from pipeline.tables.source import DataError

DATA_SCHEMA_VERSION = 1
SPLIT_NAMES = ("train", "validation", "test")
_AGAIN = "Prepare again with `make data`."


@dataclass(frozen=True, kw_only=True)
class Split:
    """One split: its TFRecord shards in order, and how many examples they hold together."""

    shards: tuple[Path, ...]
    count: int

    def read_rows(self) -> tuple[list[str], list[int]]:
        """Return all texts and label ids in their stable order.

        Raises:
            DataError: A shard is missing or damaged, or rows are missing.
        """
        texts: list[str] = []
        labels: list[int] = []
        for shard in self.shards:
            shard_texts, shard_labels = read_shard(shard)
            texts.extend(text.decode() for text in shard_texts)
            labels.extend(shard_labels)
        if len(texts) != self.count:
            raise DataError(
                f"{self.shards[0].parent}: expected {self.count} rows as in data.json, found "
                f"{len(texts)}. {_AGAIN}"
            )
        return texts, labels


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """A data folder as its `data.json` describes it.

    Attributes:
        folder: Where it lies.
        name: Name of the dataset.
        fingerprint: sha256 over rows, labels, tokenizer and configuration.
        labels: Label names in id order, C of them.
        vocab_size: V, real size of the tokenizer.
        max_tokens: Texts are cut to so many ids.
        train: Eight tenths, by a hash of the normalised text.
        validation: One tenth.
        test: One tenth.
        counts: `rows_read` = `rows_kept` + `duplicates_merged` + `conflicting_rows_dropped` + all
            `rejected_*`; `conflicting_texts` is how many texts had more than one label.
    """

    folder: Path
    name: str
    fingerprint: str
    labels: tuple[str, ...]
    vocab_size: int
    max_tokens: int
    train: Split
    validation: Split
    test: Split
    counts: Mapping[str, int]

    @property
    def tokenizer_path(self) -> Path:
        """The SentencePiece model."""
        return self.folder / "tokenizer.model"

    def splits(self) -> Iterator[tuple[str, Split]]:
        """Yield the three splits with their names."""
        yield from zip(SPLIT_NAMES, (self.train, self.validation, self.test), strict=True)


def name_shard(split: str, index: int, count: int) -> str:
    """Return the file name of one shard."""
    return f"{split}-{index:05d}-of-{count:05d}.tfrecord"


def write_split(
    folder: Path, split: str, texts: Sequence[bytes], labels: Sequence[int], *, shards: int
) -> list[int]:
    """Write one split as shards of nearly equal size, none of them empty.

    Args:
        folder: Exists.
        split: One of `SPLIT_NAMES`.
        texts: N texts, UTF-8.
        labels: N label ids.
        shards: Number of shards wanted; fewer if there are fewer rows.

    Returns:
        Size of each shard in bytes, for `write_prepared`.
    """
    count = max(1, min(shards, len(texts)))
    sizes = []
    for index in range(count):
        rows = slice(index * len(texts) // count, (index + 1) * len(texts) // count)
        path = folder / name_shard(split, index, count)
        write_shard(path, texts[rows], labels[rows])
        sizes.append(path.stat().st_size)
    return sizes


def write_prepared(
    folder: Path,
    *,
    key: str,
    name: str,
    fingerprint: str,
    labels: Sequence[str],
    vocab_size: int,
    max_tokens: int,
    counts: Mapping[str, int],
    splits: Mapping[str, Mapping[str, Any]],
    rejects: Iterable[Mapping[str, Any]],
    details: Mapping[str, Any],
) -> None:
    """Complete a folder that already holds `tokenizer.model` and the shards.

    Args:
        folder: Where to write; publishing it under its final name is the caller's business.
        key: What the folder was made from; an equal key means that it need not be made again.
        name: See `PreparedData`, as the next five.
        fingerprint: See `PreparedData`.
        labels: See `PreparedData`.
        vocab_size: See `PreparedData`.
        max_tokens: See `PreparedData`.
        counts: See `PreparedData`.
        splits: Split name to `{"count": rows, "shard_bytes": sizes of write_split, ...}`.
        rejects: Sample of rejected rows.
        details: More for people and for the data card; not read back.
    """
    with (folder / "rejects.jsonl").open("w", encoding="utf-8") as lines:
        for reject in rejects:
            lines.write(json.dumps(dict(reject), ensure_ascii=False) + "\n")
    write_json(folder / "labels.json", list(labels))
    write_json(
        folder / "data.json",
        {
            "schema_version": DATA_SCHEMA_VERSION,
            "key": key,
            "name": name,
            "fingerprint": fingerprint,
            "num_classes": len(labels),
            "vocab_size": vocab_size,
            "max_tokens": max_tokens,
            "counts": dict(counts),
            "splits": {split: dict(values) for split, values in splits.items()},
            "details": dict(details),
        },
    )


def _read_json(path: Path) -> Any:
    return read_bounded_json(
        path,
        error=DataError,
        finished="a finished data folder. Prepare it with `make data`.",
        again=_AGAIN,
    )


def _read_split(folder: Path, split: str, fields: Mapping[str, Any]) -> Split:
    sizes = [int(size) for size in fields["shard_bytes"]]
    shards = tuple(folder / name_shard(split, index, len(sizes)) for index in range(len(sizes)))
    for path, size in zip(shards, sizes, strict=True):
        found = path.stat().st_size if path.is_file() else None
        if found != size:
            raise DataError(
                f"{path}: expected {size} bytes as in data.json, found "
                f"{'no such file' if found is None else found}. {_AGAIN}"
            )
    return Split(shards=shards, count=int(fields["count"]))


def read_key(folder: Path) -> str | None:
    """Return what a finished data folder was made from, None if there is no such folder."""
    try:
        key = _read_json(folder / "data.json").get("key")
    except (DataError, AttributeError):
        return None
    return key if isinstance(key, str) else None


def read_prepared(folder: Path) -> PreparedData:
    """Read and check a data folder.

    Args:
        folder: A folder that `pipeline.prepare` published.

    Returns:
        Its description; every file it names exists with the size it names.

    Raises:
        DataError: It is missing, incomplete, damaged, or of a newer schema.
    """
    fields = _read_json(folder / "data.json")
    version = fields.get("schema_version") if isinstance(fields, dict) else None
    if not isinstance(version, int) or not 1 <= version <= DATA_SCHEMA_VERSION:
        raise DataError(
            f"{folder}/data.json: expected schema_version 1 to {DATA_SCHEMA_VERSION}, found "
            f"{version!r}. Upgrade gatetable or prepare again with `make data`."
        )
    labels = _read_json(folder / "labels.json")
    try:
        train, validation, test = (
            _read_split(folder, split, fields["splits"][split]) for split in SPLIT_NAMES
        )
        data = PreparedData(
            folder=folder,
            name=str(fields["name"]),
            fingerprint=str(fields["fingerprint"]),
            labels=tuple(str(label) for label in labels),
            vocab_size=int(fields["vocab_size"]),
            max_tokens=int(fields["max_tokens"]),
            train=train,
            validation=validation,
            test=test,
            counts={str(name): int(count) for name, count in fields["counts"].items()},
        )
        num_classes = int(fields["num_classes"])
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        raise DataError(f"{folder}/data.json: {err!r}. {_AGAIN}") from err
    if len(data.labels) != num_classes:
        raise DataError(
            f"{folder}/labels.json: expected {num_classes} labels as in data.json, found "
            f"{len(data.labels)}. {_AGAIN}"
        )
    if not data.tokenizer_path.is_file():
        raise DataError(f"{data.tokenizer_path}: no such file. {_AGAIN}")
    return data
