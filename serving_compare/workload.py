"""What the backends are asked: seeded requests, cut from real texts, the same for every backend.

Kinds of cells:

    tokens_<T>       one row of exactly T token ids, from texts
    title_text_<L>   one raw text of exactly L characters
    title_ids_<L>    the ids of the same texts: the difference is the price of tokenising
    zipf_<T>         one row of T ids, each drawn as often as it occurs in the texts
    uniform_<T>      one row of T ids, each of the vocabulary as likely: the worst rows for a table
    cold_<T>         the rows of tokens_<T>, asked with cold caches
    batch_<B>        B rows of a natural mix of lengths, padded to their longest
    all_cores_<B>    the same batches, asked with a thread a core

Each cell holds several different requests that are asked in turn, because a single repeated one
would keep its few rows of the embedding or gate table in the first-level cache.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from serving_compare.sampling import PASS_REQUESTS

if TYPE_CHECKING:
    from serving_compare.backends import Ids, Lengths

CellKind = Literal[
    "tokens", "title_text", "title_ids", "zipf", "uniform", "cold", "batch", "all_cores"
]
TOKEN_LENGTHS = (1, 2, 5, 10, 11, 20, 40)
WANTED_TITLE_CHARS = (2, 10, 20, 50, 99)
"""The lengths of the classic table; each becomes the nearest one the texts can fill."""
BATCH_SIZES = (1, 8, 32, 256)
ALL_CORES_BATCH_SIZE = 256
DRAWN_TOKENS = 10
"""Length of the rows of drawn ids and of the cold ones: about that of a text."""
DRAWN_REQUESTS = 256
"""Rows of drawn ids a cell holds: uniform ones ask for more of a table than fits near a core."""
REQUESTS_PER_CELL = 32
MIN_TEXTS_PER_TITLE = 8
"""Fewer different texts of one length would make that row a portrait of a few texts."""
MAX_TEXTS_BYTES = 2**30
"""Bound on a file of texts before it is read."""

Encode = Callable[[Sequence[str]], list[list[int]]]


class TextsError(Exception):
    """A file of texts that cannot be used: missing, too large, or not of the documented form."""


@dataclass(frozen=True, kw_only=True)
class LabelledTexts:
    """Texts with their class ids; `labels` is None where no true class is known."""

    texts: tuple[str, ...]
    labels: tuple[int, ...] | None


@dataclass(frozen=True, kw_only=True)
class Request:
    """One call: either B rows of ids or B texts, the other is empty."""

    rows: tuple[tuple[int, ...], ...] = ()
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Every request of a comparison.

    Attributes:
        cells: Cell name to its requests.
        notes: Cell name to what a reader of the table should know about its making.
        seed: What made it.
    """

    cells: Mapping[str, tuple[Request, ...]]
    notes: Mapping[str, str] = field(default_factory=dict)
    seed: int

    @property
    def sha256(self) -> str:
        """Hash of all requests: results over unlike requests must not be merged."""
        return hashlib.sha256(_format_cells(self.cells).encode()).hexdigest()


def split_cell(name: str) -> tuple[CellKind, int]:
    """Return kind and size of a cell: `title_text_50` gives ("title_text", 50).

    Raises:
        ValueError: The name is not of that form.
    """
    kind, _, size = name.rpartition("_")
    if kind not in get_args(CellKind) or not size.isdecimal():
        raise ValueError(
            f"cell: expected one of {', '.join(get_args(CellKind))} with a size behind '_', "
            f"found {name!r}."
        )
    return kind, int(size)  # type: ignore[return-value]


def read_texts(path: Path, num_classes: int) -> LabelledTexts:
    """Read `{"text": str, "label": int}` lines.

    Raises:
        TextsError: The file is missing, empty, too large, or a line is not of that form.
    """
    try:
        size = path.stat().st_size
        if size > MAX_TEXTS_BYTES:
            raise TextsError(f"{path}: expected at most {MAX_TEXTS_BYTES} bytes, found {size}.")
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as err:
        raise TextsError(f"{path}: expected a UTF-8 file of texts, found {err}.") from err
    texts: list[str] = []
    labels: list[int] = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            row = json.loads(line)
            text, label = row["text"], row["label"]
        except (ValueError, KeyError, TypeError):
            text = label = None
        if not isinstance(text, str) or type(label) is not int or not 0 <= label < num_classes:
            raise TextsError(
                f'{path} line {number}: expected {{"text": "...", "label": 0 to '
                f"{num_classes - 1}}}, found {line[:60]!r}. Pass the test_split.jsonl of the run "
                "the artifact was exported from."
            )
        texts.append(text)
        labels.append(label)
    if not texts:
        raise TextsError(f"{path}: expected at least one line, found none.")
    return LabelledTexts(texts=tuple(texts), labels=tuple(labels))


def make_workload(
    texts: Sequence[str],
    encode: Encode,
    *,
    max_tokens: int,
    vocab_size: int,
    seed: int,
    token_lengths: Sequence[int] = TOKEN_LENGTHS,
    wanted_chars: Sequence[int] = WANTED_TITLE_CHARS,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    requests_per_cell: int = REQUESTS_PER_CELL,
) -> Workload:
    """Return the requests of all cells.

    Args:
        texts: At least one text, from the test split.
        encode: Texts to their token ids, cut to `max_tokens`, none empty.
        max_tokens: Longer token lengths are left out, with a note.
        vocab_size: V; the first id, which pads, is never drawn.
        seed: Same seed and texts, same workload.
        token_lengths: Sizes of the `tokens` cells.
        wanted_chars: Wanted sizes of the `title_text` and `title_ids` cells, in characters.
        batch_sizes: Sizes of the `batch` cells.
        requests_per_cell: Different requests a cell holds; large batches hold fewer.
    """
    if not texts:
        raise ValueError("texts: expected at least one, found none.")
    random = np.random.default_rng(seed)
    rows = [tuple(row) for row in encode(list(texts))]
    cells: dict[str, tuple[Request, ...]] = {}
    notes: dict[str, str] = {}
    for tokens in token_lengths:
        name = f"tokens_{tokens}"
        if tokens > max_tokens:
            notes[name] = f"left out: the artifact cuts every text to {max_tokens} tokens"
            continue
        cells[name], notes[name] = _rows_of_length(rows, tokens, requests_per_cell, random)
    for wanted, chars in choose_title_chars(texts, wanted_chars).items():
        chosen = _choose([i for i, text in enumerate(texts) if len(text) == chars], random)
        chosen = chosen[:requests_per_cell]
        cells[f"title_text_{chars}"] = tuple(Request(texts=(texts[i],)) for i in chosen)
        cells[f"title_ids_{chars}"] = tuple(Request(rows=(rows[i],)) for i in chosen)
        mean_tokens = float(np.mean([len(rows[i]) for i in chosen]))
        note = f"{len(chosen)} texts of exactly {chars} characters, {mean_tokens:.1f} tokens a text"
        if wanted != chars:
            note += f" (nearest to {wanted} the texts can fill)"
        notes[f"title_text_{chars}"] = notes[f"title_ids_{chars}"] = note
    for size in batch_sizes:
        # One pass a slice, and 128 sequences are enough of a mix for the small batches.
        count = max(2, min(PASS_REQUESTS, 128 // size))
        picks = random.choice(len(rows), size=(count, size), replace=count * size > len(rows))
        cells[f"batch_{size}"] = tuple(
            Request(rows=tuple(rows[int(i)] for i in batch)) for batch in picks
        )
        notes[f"batch_{size}"] = f"{count} batches of texts as they come, not sorted by length"
    if ALL_CORES_BATCH_SIZE in batch_sizes:
        cells[f"all_cores_{ALL_CORES_BATCH_SIZE}"] = cells[f"batch_{ALL_CORES_BATCH_SIZE}"]
        notes[f"all_cores_{ALL_CORES_BATCH_SIZE}"] = (
            f"the batches of batch_{ALL_CORES_BATCH_SIZE}, with a thread a core"
        )
    for name, drawn, note in _draw_cells(rows, vocab_size, min(DRAWN_TOKENS, max_tokens), random):
        cells[name], notes[name] = drawn, note
    if f"tokens_{DRAWN_TOKENS}" in cells:
        cells[f"cold_{DRAWN_TOKENS}"] = cells[f"tokens_{DRAWN_TOKENS}"]
        notes[f"cold_{DRAWN_TOKENS}"] = (
            f"the rows of tokens_{DRAWN_TOKENS}, the caches written over before each call"
        )
    return Workload(cells=cells, notes=notes, seed=seed)


def _draw_cells(
    rows: Sequence[tuple[int, ...]], vocab_size: int, tokens: int, random: np.random.Generator
) -> Iterator[tuple[str, tuple[Request, ...], str]]:
    """Rows of drawn ids: by their frequency in the texts, and uniform over the vocabulary."""
    shape = (DRAWN_REQUESTS, tokens)
    seen = np.concatenate([np.asarray(row, np.int64) for row in rows])
    draws = {
        "zipf": (seen[random.integers(len(seen), size=shape)], "drawn as often as in the texts"),
        "uniform": (random.integers(1, vocab_size, size=shape), "each as likely as any other"),
    }
    for kind, (ids, how) in draws.items():
        requests = tuple(Request(rows=(tuple(int(i) for i in row),)) for row in ids)
        distinct = len(np.unique(ids))
        yield (
            f"{kind}_{tokens}",
            requests,
            f"{len(requests)} rows of {tokens} ids {how}; {distinct} different ids",
        )


def choose_title_chars(texts: Sequence[str], wanted_chars: Sequence[int]) -> dict[int, int]:
    """Return, for each wanted number of characters, the nearest that enough texts have.

    Enough is `MIN_TEXTS_PER_TITLE`; where no length has so many, one text is enough. No length is
    given twice, so fewer may come back than were wanted.
    """
    counts = Counter(len(text) for text in texts if text)
    chosen: dict[int, int] = {}
    enough = MIN_TEXTS_PER_TITLE if max(counts.values(), default=0) >= MIN_TEXTS_PER_TITLE else 1
    for wanted in wanted_chars:
        free = [c for c, n in counts.items() if n >= enough and c not in chosen.values()]
        if free:
            chosen[wanted] = min(free, key=lambda chars: (abs(chars - wanted), chars))
    return dict(sorted(chosen.items(), key=lambda pair: pair[1]))


def pad_rows(rows: Sequence[Sequence[int]]) -> tuple[Ids, Lengths]:
    """Return ids (B, T) int32, zeros on the right, and lengths (B,) int32; T is at least 1."""
    lengths = np.array([len(row) for row in rows], np.int32)
    ids = np.zeros((len(rows), max(1, int(lengths.max()))), np.int32)
    for position, row in enumerate(rows):
        ids[position, : len(row)] = row
    return ids, lengths


def write_workload(path: Path, workload: Workload) -> None:
    """Write the requests for the child processes; inverse of `read_workload_cells`."""
    path.write_text(_format_cells(workload.cells), encoding="utf-8")


def read_workload_cells(path: Path) -> dict[str, tuple[Request, ...]]:
    """Read what `write_workload` wrote."""
    cells: dict[str, list[Any]] = json.loads(path.read_text(encoding="utf-8"))
    return {
        name: tuple(
            Request(rows=tuple(tuple(row) for row in rows), texts=tuple(texts))
            for rows, texts in requests
        )
        for name, requests in cells.items()
    }


def _format_cells(cells: Mapping[str, tuple[Request, ...]]) -> str:
    return json.dumps(
        {name: [[r.rows, r.texts] for r in requests] for name, requests in cells.items()},
        separators=(",", ":"),
        sort_keys=True,
    )


def _choose(candidates: Sequence[int], random: np.random.Generator) -> list[int]:
    return [int(i) for i in random.permutation(np.asarray(candidates, np.int64))]


def _rows_of_length(
    rows: Sequence[tuple[int, ...]], tokens: int, count: int, random: np.random.Generator
) -> tuple[tuple[Request, ...], str]:
    """Whole texts of the length first, then texts cut to it, then joined texts cut to it."""
    whole = _choose([i for i, row in enumerate(rows) if len(row) == tokens], random)[:count]
    found = [rows[i] for i in whole]
    longer = _choose([i for i, row in enumerate(rows) if len(row) > tokens], random)
    cut = longer[: count - len(found)]
    found += [rows[i][:tokens] for i in cut]
    joined = count - len(found)
    for _ in range(joined):
        row: tuple[int, ...] = ()
        while len(row) < tokens:
            row += rows[int(random.integers(len(rows)))]
        found.append(row[:tokens])
    note = f"{len(whole)} whole texts, {len(cut)} cut, {joined} joined from several"
    return tuple(Request(rows=(row,)) for row in found), note
