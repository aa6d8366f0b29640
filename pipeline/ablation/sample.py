"""The rows that the ladder reads: a copy of the user's training shards, each row numbered.

The copy has as many shards as the original, the texts as they are, and the row's number in place
of its label. So every rung can be held to delivering each row exactly once, however it shuffles,
pads or drops words, and the real label is still at hand for the training step.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.data_folder import PreparedData
from pipeline.json_file import write_json
from pipeline.shards import read_shard, write_shard

if TYPE_CHECKING:
    from numpy.typing import NDArray


class DeliveryError(Exception):
    """A rung delivered an epoch that is not each row exactly once."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Numbered shards.

    Attributes:
        shards: TFRecord files; row numbers run on from one to the next.
        shard_rows: Rows of each.
        classes: (N,) class id of each row, by its number.
        tokenizer_path: SentencePiece model.
        max_tokens: Longest row.
        num_classes: C.
        vocab_size: V.
    """

    shards: tuple[Path, ...]
    shard_rows: tuple[int, ...]
    classes: tuple[int, ...]
    tokenizer_path: Path
    max_tokens: int
    num_classes: int
    vocab_size: int

    def choose_shards(self, max_rows: int) -> tuple[int, ...]:
        """Return the numbers of as many whole shards as hold `max_rows`, at least one.

        They are spread over the whole: the first shards alone may hold texts of another kind.
        """
        count = 0
        rows = 0
        while count < len(self.shards) and rows + max(self.shard_rows) <= max_rows:
            rows += max(self.shard_rows)
            count += 1
        count = max(count, 1)
        return tuple(index * len(self.shards) // count for index in range(count))

    def row_numbers(self, chosen: Sequence[int]) -> NDArray[np.int64]:
        """Return the sorted numbers of all rows in the chosen shards."""
        starts = np.concatenate([[0], np.cumsum(self.shard_rows)])
        return np.concatenate([np.arange(starts[i], starts[i + 1]) for i in chosen])


def write_sample(data: PreparedData, folder: Path, *, max_rows: int) -> Sample:
    """Number the first rows of every training shard of `data`, about `max_rows` in all.

    Args:
        data: A prepared data folder.
        folder: Exists; the copy goes there.
        max_rows: Shards are cut to equal lengths so that no more rows are copied.

    Returns:
        The sample, which `read_sample` reads again.
    """
    shards: list[Path] = []
    shard_rows: list[int] = []
    classes: list[int] = []
    limit = max(1, max_rows // len(data.train.shards))
    for source in data.train.shards:
        texts, labels = read_shard(source)
        texts, labels = texts[:limit], labels[:limit]
        path = folder / source.name
        write_shard(path, texts, range(len(classes), len(classes) + len(texts)))
        shards.append(path)
        shard_rows.append(len(texts))
        classes += labels
    sample = Sample(
        shards=tuple(shards),
        shard_rows=tuple(shard_rows),
        classes=tuple(classes),
        tokenizer_path=data.tokenizer_path,
        max_tokens=data.max_tokens,
        num_classes=len(data.labels),
        vocab_size=data.vocab_size,
    )
    write_json(
        folder / "sample.json",
        {
            **vars(sample),
            "shards": [path.name for path in shards],
            "tokenizer_path": str(sample.tokenizer_path.resolve()),
        },
    )
    return sample


def read_sample(folder: Path) -> Sample:
    """Read what `write_sample` wrote."""
    fields: dict[str, Any] = json.loads((folder / "sample.json").read_text(encoding="utf-8"))
    return Sample(
        shards=tuple(folder / name for name in fields.pop("shards")),
        shard_rows=tuple(fields.pop("shard_rows")),
        classes=tuple(fields.pop("classes")),
        tokenizer_path=Path(fields.pop("tokenizer_path")),
        **fields,
    )


def check_delivery(
    found: NDArray[np.integer[Any]], expected: NDArray[np.int64], *, rung: str, epoch: int
) -> None:
    """Check that an epoch was each row exactly once, in whatever order.

    Args:
        found: Row numbers as they were delivered.
        expected: Row numbers of the sample, sorted.
        rung: Name, for the message.
        epoch: Number from 1, for the message.

    Raises:
        DeliveryError: A row is missing, repeated or unknown.
    """
    if np.array_equal(np.sort(found), expected):
        return
    counts: Mapping[int, int] = Counter(found.tolist())
    missing = [row for row in expected.tolist() if row not in counts]
    repeated = [row for row, count in counts.items() if count > 1]
    raise DeliveryError(
        f"rung {rung}, epoch {epoch}: expected each of {len(expected)} rows exactly once, found "
        f"{len(found)} rows, {len(missing)} missing (first: {missing[:3]}) and {len(repeated)} "
        f"repeated (first: {repeated[:3]}). The figures of this rung mean nothing; look at "
        "its function in pipeline/ablation/rungs.py."
    )
