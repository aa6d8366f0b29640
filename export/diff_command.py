"""`python -m export diff`: what differs between two artifacts, for people and as JSON."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping

import click
from rich.console import Console
from rich.table import Table

from export.artifact_diff import ArtifactDiff, Pair, compare_artifacts, is_unavoidable
from export.inspect_command import artifacts_root, byte_bar, clean, known_errors
from export.inspection import find_folder

_LABELS = 10
"""Labels named of those that were added or removed."""


@click.command("diff")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def diff_command(first: str, second: str, as_json: bool) -> None:
    """Tell what differs between two artifacts, after verifying the checksums of both.

    A and B are versions, or artifacts by folder or name, of which the version in use is taken.
    The golden probes of A are asked of both lookup folders. Exit code 0 means that they do the
    same: not even the bytes differ, or only those of SavedModel graphs, of the oracle, the model
    card, the runtime's source, and what the manifest tells of provenance and measurements. 1 means
    that settings, weights or answers differ, 2 that a folder cannot be read.

    Example: python -m export diff build/artifacts/wordnet31/1 wordnet31
    """
    with known_errors():
        folders = [find_folder(text, artifacts_root()) for text in (first, second)]
        with byte_bar() as progress:
            result = compare_artifacts(*folders, progress=progress)
    if as_json:
        fields = {**dataclasses.asdict(result), "matters": result.matters}
        click.echo(json.dumps(fields, indent=2, ensure_ascii=False))
    elif result.is_identical:
        click.echo(f"identical: {result.first} and {result.second} hold the same bytes.")
    else:
        _print(result, Console())
    sys.exit(1 if result.matters else 0)


def _print(result: ArtifactDiff, console: Console) -> None:
    table = Table()
    table.add_column("", overflow="fold")
    table.add_column("A", overflow="fold")
    table.add_column("B", overflow="fold")
    for group, rows in _list_groups(result):
        entries = list(rows)
        if entries:
            table.add_section()
            table.add_row(f"[bold]{group}[/bold]")
        for cells in entries:
            table.add_row(*map(clean, cells))
    console.print(
        f"A: {result.first}", f"B: {result.second}", sep="\n", markup=False, soft_wrap=True
    )
    console.print(table)
    for line in _list_sentences(result):
        click.echo(line)


def _list_groups(result: ArtifactDiff) -> Iterator[tuple[str, Iterator[tuple[str, str, str]]]]:
    yield "settings", _list_pairs(result.settings)
    yield "files", _list_files(result.files)
    yield (
        "arrays of lookup/",
        (
            (name, f"largest difference {array.largest:.3g}", "")
            if array.largest is not None
            else (name, array.first or "", array.second or "")
            for name, array in result.arrays.items()
        ),
    )
    yield "metrics", _list_pairs(result.metrics)
    yield "parity", _list_pairs(result.parity)
    yield "provenance", _list_pairs(result.provenance)


def _list_files(files: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    sides = {"other": ("other", "other"), "only in A": ("there", ""), "only in B": ("", "there")}
    for name, what in files.items():
        if not is_unavoidable(name):
            yield name, *sides[what]
    helpless = [name for name in files if is_unavoidable(name)]
    if helpless:
        folders = sorted({name.split("/")[0] for name in helpless})
        yield f"{len(helpless)} that cannot be helped", ", ".join(folders), ""


def _list_pairs(pairs: Mapping[str, Pair]) -> Iterator[tuple[str, str, str]]:
    for key, (one, two) in pairs.items():
        is_figure = isinstance(one, float) and isinstance(two, float)
        second = f"{two} ({two - one:+.4g})" if is_figure else _show(two)
        yield key, _show(one), second


def _show(value: object) -> str:
    if value is None:
        return ""
    text = str(value)
    return f"{text[:12]}..." if len(text) == 64 and text.isalnum() else text


def _list_sentences(result: ArtifactDiff) -> Iterator[str]:
    for what, labels in (("added", result.labels_added), ("removed", result.labels_removed)):
        if labels:
            shown = ", ".join(str(clean(label)) for label in labels[:_LABELS])
            yield f"labels {what}: {len(labels)}: {shown}"
    yield f"files: {result.same_files} are the same, {len(result.files)} are not."
    probes = result.probes
    if probes.reason is not None:
        yield f"probes: not compared. {probes.reason}"
    else:
        yield (
            f"probes: of {probes.rows}, {probes.top_1_changes} have another first class and "
            f"{probes.other_ids} other ids; largest difference of a probability "
            f"{probes.max_abs_probability_diff:.2g}."
        )
    if not result.matters:
        yield "Both do the same: only bytes that cannot be helped differ."
