"""Everything on a data card but its warnings: what one pass over the shards says, by name."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.config import PAD_ID, UNK_ID
from pipeline.data_card.data_pass import DataPass, cut, read_all, read_some
from pipeline.data_card.fields import (
    BalanceCard,
    ClassCard,
    ConflictSample,
    Confusion,
    DataCard,
    LabelledText,
    LeakCard,
    LeakExample,
    NoiseCard,
    PatternCard,
    PatternsCard,
    RejectReason,
    RejectSample,
    RowsCard,
    SplitCard,
    SuspectLabel,
    VocabularyCard,
)
from pipeline.data_card.label_noise import MIN_ROWS_A_CLASS, find_label_noise, list_confusions
from pipeline.data_card.near_duplicates import KINDS
from pipeline.data_card.text_patterns import find_patterns
from pipeline.data_card.text_statistics import (
    Histogram,
    list_missing,
    make_histogram,
    summarise_lengths,
)
from pipeline.data_folder import SPLIT_NAMES, PreparedData, Split, read_prepared

CLEAR_MARGIN = 0.7
"""A suspect whose two probabilities lie so far apart is a clear one."""
SMALL_CLASS = 50
"""With fewer training rows a class is learned by chance."""
_LABEL_CHARS = 80
_LISTED_CLASSES = 200
_SMALLEST_LISTED = 50
_REJECT_SAMPLES = 5
_CONFLICT_SAMPLES = 20
_LARGEST_PATTERNS = 10
_PATTERN_EXAMPLES = 3
_LEAK_EXAMPLES = 8
_SUSPECTS = 50
_CONFUSIONS = 20
_MISSING = 20


def _choose_classes(rows: npt.NDArray[np.int64]) -> list[int]:
    """Return the classes to list, most rows first; `rows` is `(C,)`, of all splits together."""
    ranked = np.lexsort((np.arange(len(rows)), -rows)).tolist()
    if len(ranked) <= _LISTED_CLASSES:
        return ranked
    return ranked[: _LISTED_CLASSES - _SMALLEST_LISTED] + ranked[-_SMALLEST_LISTED:]


class _Cards:
    """Builds the parts of a card, each once; label ids become names here."""

    def __init__(self, data: PreparedData, class_rows: Mapping[str, npt.NDArray[np.int64]]) -> None:
        self._data = data
        self._class_rows = class_rows
        self._all_rows = np.sum(list(class_rows.values()), axis=0)  # (C,)
        self._listed = _choose_classes(self._all_rows)
        self._labels = [cut(label, _LABEL_CHARS) for label in data.labels]
        self._done: DataPass = read_all(data, listed=frozenset(self._listed))

    def labelled(self, text: str, label: int) -> LabelledText:
        return LabelledText(text=cut(text), label=self._labels[label])

    def split(self, name: str) -> SplitCard:
        statistics = self._done.statistics[name]
        lengths = statistics.lengths("tokens")
        seen, distinct_seen = statistics.words.share_seen_in(self._done.statistics["train"].words)
        return SplitCard(
            rows=len(lengths),
            classes=int((self._class_rows[name] > 0).sum()),
            words=summarise_lengths(statistics.lengths("words")),
            tokens=summarise_lengths(lengths),
            cut_share=round(float((lengths > self._data.max_tokens).mean()), 6),
            unknown_token_share=round(
                int(statistics.piece_counts[UNK_ID]) / int(statistics.piece_counts.sum()), 6
            ),
            unknown_row_share=round(statistics.rows_with_unknown / len(lengths), 6),
            distinct_words=len(statistics.words.hashes),
            words_seen_share=round(seen, 6),
            distinct_words_seen_share=round(distinct_seen, 6),
        )

    def histogram(self, unit: str) -> Histogram:
        statistics = self._done.statistics
        return make_histogram({split: statistics[split].lengths(unit) for split in SPLIT_NAMES})

    def balance(self) -> BalanceCard:
        rows = self._class_rows["train"]
        present = np.flatnonzero(rows)
        shares = rows[present] / rows.sum()
        largest, smallest = int(rows.argmax()), int(present[rows[present].argmin()])
        return BalanceCard(
            largest_label=self._labels[largest],
            largest_rows=int(rows[largest]),
            smallest_label=self._labels[smallest],
            smallest_rows=int(rows[smallest]),
            effective_classes=round(float(np.exp(-(shares * np.log(shares)).sum())), 2),
            under_50_rows=int((rows < SMALL_CLASS).sum()),
        )

    def classes(self) -> list[ClassCard]:
        return [
            ClassCard(
                label=self._labels[index],
                rows={split: int(rows[index]) for split, rows in self._class_rows.items()},
                share=round(float(self._all_rows[index] / self._all_rows.sum()), 6),
                examples=self._done.class_examples.get(index, []),
            )
            for index in self._listed
        ]

    def patterns(self) -> PatternsCard:
        signatures, labels = np.concatenate(self._done.patterns), np.concatenate(self._done.labels)
        self._done.patterns.clear()
        self._done.labels.clear()
        found = find_patterns(signatures, labels, limit=_LARGEST_PATTERNS)
        sample = self._done.sample
        examples: dict[int, list[LabelledText]] = {p.signature: [] for p in found.largest}
        for row, pattern in enumerate(sample.patterns):
            if pattern in examples and len(examples[pattern]) < _PATTERN_EXAMPLES:
                examples[pattern].append(self.labelled(sample.texts[row], sample.labels[row]))
        return PatternsCard(
            shared=found.shared,
            rows=found.rows,
            disputed_rows=found.disputed_rows,
            largest=[
                PatternCard(rows=p.rows, classes=p.classes, examples=examples[p.signature])
                for p in found.largest
            ],
        )

    def leak(self, name: str, split: Split) -> LeakCard:
        leak = self._done.held_out.pop(name).find_leak()  # the largest arrays go first
        chosen = [
            (kind, row, training)
            for kind in KINDS
            for row, training in leak.pairs[kind][:_LEAK_EXAMPLES]
        ]
        texts = read_some(split, {row for _, row, _ in chosen})
        return LeakCard(
            rows={kind: len(leak.rows[kind]) for kind in KINDS},
            share=round(sum(map(len, leak.rows.values())) / split.count, 6),
            rows_compared_for_one_word=leak.rows_compared_for_one_word,
            examples=[
                LeakExample(
                    kind=kind,
                    held_out=self.labelled(*texts[row]),
                    training=self.labelled(*training),
                )
                for kind, row, training in chosen
            ],
        )

    def vocabulary(self, wanted: int) -> VocabularyCard:
        used = self._done.statistics["train"].piece_counts.copy()
        used[[PAD_ID, UNK_ID]] = 0
        missing: Counter[str] = Counter()
        for statistics in self._done.statistics.values():
            missing.update(statistics.missing)
        return VocabularyCard(
            size=self._data.vocab_size,
            size_wanted=wanted,
            pieces=self._data.vocab_size - 2,
            used_at_least={str(least): int((used >= least).sum()) for least in (1, 5, 10)},
            missing=list_missing(missing, limit=_MISSING),
        )

    def label_noise(self) -> NoiseCard:
        sample = self._done.sample
        labels = np.array(sample.labels, dtype=np.int64)
        present = len(np.unique(labels))
        if len(labels) < MIN_ROWS_A_CLASS * present:
            return NoiseCard(
                rows=len(labels),
                skipped=f"{len(labels):,} {'sampled ' if sample.stride > 1 else ''}rows of "
                f"{present:,} classes are too few to predict one half of them from the other.",
            )
        starts = np.zeros(len(labels) + 1, dtype=np.int64)
        np.cumsum([len(ids) for ids in sample.ids], out=starts[1:])
        result = find_label_noise(
            np.concatenate(sample.ids),
            starts,
            labels,
            vocab_size=self._data.vocab_size,
            num_classes=len(self._labels),
        )
        margins = result.suspected_probability - result.given_probability
        sizes = np.bincount(labels, minlength=len(self._labels))
        return NoiseCard(
            rows=len(labels),
            skipped=None,
            accuracy=round(result.accuracy, 4),
            suspects=len(result.suspects),
            clear_suspects=int((margins >= CLEAR_MARGIN).sum()),
            clearest=[
                SuspectLabel(
                    text=sample.texts[row],
                    given=self._labels[labels[row]],
                    given_probability=round(float(result.given_probability[index]), 6),
                    suspected=self._labels[result.suspected[index]],
                    suspected_probability=round(float(result.suspected_probability[index]), 6),
                )
                for index, row in enumerate(result.suspects[:_SUSPECTS].tolist())
            ],
            confusions=[
                Confusion(
                    given=self._labels[given],
                    predicted=self._labels[predicted],
                    rows=rows,
                    share=round(rows / int(sizes[given]), 4),
                )
                for given, predicted, rows in list_confusions(
                    labels, result.predicted, limit=_CONFUSIONS
                )
            ],
        )


def _describe_place(fields: Mapping[str, Any]) -> str:
    row = f"row {fields['row']:,}"
    return f"{fields['file']}, {row}" if fields.get("file") else row


def _read_rejects(path: Path, counts: Mapping[str, int]) -> list[RejectReason]:
    samples: dict[str, list[RejectSample]] = defaultdict(list)
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            fields = json.loads(line)
            if len(samples[fields["reason"]]) < _REJECT_SAMPLES:
                samples[fields["reason"]].append(
                    RejectSample(place=_describe_place(fields), sample=cut(fields["sample"]))
                )
    reasons = [
        RejectReason(reason=reason, rows=rows, samples=samples[reason])
        for name, rows in counts.items()
        if (reason := name.removeprefix("rejected_")) != name
    ]
    return sorted(reasons, key=lambda reason: (-reason.rows, reason.reason))


def _list_conflicts(conflicts: Sequence[Mapping[str, Any]]) -> list[ConflictSample]:
    return [
        ConflictSample(
            text=cut(conflict["text"]),
            rows={cut(label, _LABEL_CHARS): rows for label, rows in conflict["labels"].items()},
            kept=cut(conflict["kept"], _LABEL_CHARS),
        )
        for conflict in conflicts[:_CONFLICT_SAMPLES]
    ]


def measure_data(folder: Path) -> DataCard:
    """Measure a complete data folder.

    Args:
        folder: As `pipeline.data_folder.write_prepared` leaves it.

    Returns:
        The card, without warnings.

    Raises:
        DataError: The folder is incomplete or damaged.
    """
    data = read_prepared(folder)
    fields = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    class_rows = {
        split: np.array(fields["splits"][split]["class_counts"], dtype=np.int64)
        for split in SPLIT_NAMES
    }
    cards = _Cards(data, class_rows)
    leaks = {name: cards.leak(name, split) for name, split in data.splits() if name != "train"}
    return DataCard(
        name=data.name,
        fingerprint=data.fingerprint,
        num_classes=len(data.labels),
        max_tokens=data.max_tokens,
        rows=RowsCard(
            read=data.counts["rows_read"],
            kept=data.counts["rows_kept"],
            duplicates_merged=data.counts["duplicates_merged"],
            conflicting_texts=data.counts["conflicting_texts"],
            conflicting_rows_dropped=data.counts["conflicting_rows_dropped"],
            rejected=_read_rejects(folder / "rejects.jsonl", data.counts),
        ),
        splits={split: cards.split(split) for split in SPLIT_NAMES},
        word_lengths=cards.histogram("words"),
        token_lengths=cards.histogram("tokens"),
        balance=cards.balance(),
        classes=cards.classes(),
        conflicts=_list_conflicts(fields["details"]["conflicts"]),
        patterns=cards.patterns(),
        leaks=leaks,
        vocabulary=cards.vocabulary(fields["details"]["config"]["vocab_size"]),
        label_noise=cards.label_noise(),
        warnings=[],
    )
