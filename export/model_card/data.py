"""The card's section on the data: rows, splits, classes, near duplicates, warnings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from export.model_card.evidence import DataFacts
from export.model_card.forms import wrap
from export.model_card.markdown import escape_text, fold, format_code, format_share, format_table
from pipeline.run_folder import Run

MAX_CLASSES = 200
"""More are named in `labels.json` alone."""
_NAME = "wordnet31"
_KINDS = {
    "word_order": "word order",
    "numbers": "numbers",
    "one_word": "one word",
}


def is_wordnet(run: Run) -> bool:
    """Tell whether a run was trained on the embedded data: by its name and its 45 labels."""
    labels = set(run.labels)
    return (
        run.data.get("name") == _NAME
        and len(run.labels) == 45
        and {"noun.Tops", "adj.ppl", "verb.weather"} <= labels
    )


def format_data(run: Run, facts: DataFacts | None, test_labels: Sequence[int]) -> str:
    """Return the section on the data.

    Args:
        run: Of the model.
        facts: What it keeps of its data card.
        test_labels: Label ids of the test split.
    """
    name = str(run.data.get("name", "not named"))
    fingerprint = str(run.data.get("fingerprint", "not recorded"))
    parts = [
        f"Dataset {format_code(name)}. Fingerprint of the prepared data (rows, labels, tokenizer, "
        f"settings):\n{format_code(fingerprint)}.",
    ]
    if is_wordnet(run):
        parts.append(
            wrap(
                "The texts are glosses of WordNet 3.1, English definitions of a sense in a "
                "dictionary's style; the labels are its 45 lexicographer files (part of speech and "
                "topic), given by its authors."
            )
        )
    else:
        parts.append(wrap("Languages and origin of the texts are not recorded: state them here."))
    if facts is None:
        parts += [_format_counts(run), wrap(_NOT_KEPT), _fold_test_classes(run, test_labels)]
        return "\n\n".join(parts)
    parts += [
        _format_rows(facts),
        _format_splits(facts),
        _format_leaks(facts),
        _format_warnings(facts),
        _fold_classes(run, facts),
    ]
    return "\n\n".join(part for part in parts if part)


_NOT_KEPT = (
    "The data card is not kept by this run, so near duplicates between the splits, vocabulary and "
    "warnings are not told here. `make train` adds it to a finished run whose prepared data is "
    "still there; then export again."
)


def _format_counts(run: Run) -> str:
    counts = [
        (name, f"{run.data[name]:,}")
        for name in ("train", "validation", "test")
        if isinstance(run.data.get(name), int)
    ]
    return format_table(("split", "rows"), counts) if counts else "Rows by split: not recorded."


def _format_rows(facts: DataFacts) -> str:
    rejected = ", ".join(
        f"{count:,} {escape_text(reason.replace('_', ' '))}"
        for reason, count in facts.rejected.items()
    )
    return wrap(
        f"Of {facts.read:,} rows of the source {facts.kept:,} were kept; "
        f"{facts.duplicates_merged:,} repeated a text and were merged, "
        f"{facts.conflicting_rows_dropped:,} lost to a more frequent label of the same text, "
        f"{rejected or 'none'} rejected. Rows are dealt to the splits by a hash of the normalised "
        "text, so that no text is in two of them."
    )


def _format_splits(facts: DataFacts) -> str:
    header = (
        *("split", "rows", "classes", "tokens, median", "longest"),
        *("texts cut", "unknown tokens", "words seen in training"),
    )
    rows = [
        (
            *(name, f"{one.rows:,}", f"{one.classes:,}"),
            *(f"{one.median_tokens:,}", f"{one.longest_tokens:,}"),
            *map(format_share, (one.cut_share, one.unknown_token_share, one.words_seen_share)),
        )
        for name, one in facts.splits.items()
    ]
    return format_table(header, rows)


def _format_leaks(facts: DataFacts) -> str:
    if not facts.leaks:
        return ""
    sentences = []
    for name, kinds in facts.leaks.items():
        found = ", ".join(
            f"{_KINDS.get(kind, escape_text(kind))} {count:,}" for kind, count in kinds.items()
        )
        sentences.append(
            f"{sum(kinds.values()):,} of {facts.splits[name].rows:,} {name} texts "
            f"({format_share(facts.leak_shares[name])}) equal a training text but for something "
            f"small ({found})."
        )
    return wrap(f"Near duplicates: {' '.join(sentences)} Accuracy on them is partly memory.")


def _format_warnings(facts: DataFacts) -> str:
    if not facts.warnings:
        return "The data card has no warning."
    items = "\n".join(f"- {escape_text(text)}" for text in facts.warnings)
    return f"Warnings of the data card:\n\n{items}"


def _fold_classes(run: Run, facts: DataFacts) -> str:
    rows = [
        (format_code(one.label), *(f"{one.rows[name]:,}" for name in facts.splits))
        for one in facts.classes[:MAX_CLASSES]
    ]
    return _fold_labels(run, format_table(("label", *facts.splits), rows), len(rows))


def _fold_test_classes(run: Run, test_labels: Sequence[int]) -> str:
    counts = Counter(test_labels)
    order = sorted(range(len(run.labels)), key=lambda label: (-counts[label], label))
    rows = [(format_code(run.labels[label]), f"{counts[label]:,}") for label in order[:MAX_CLASSES]]
    return _fold_labels(run, format_table(("label", "test"), rows), len(rows))


def _fold_labels(run: Run, table: str, shown: int) -> str:
    count = len(run.labels)
    part = f", {shown:,} of them shown" if shown < count else ""
    return fold(f"Rows of the {count:,} classes in labels.json{part}, most first", table)
