"""`python -m export inspect`: what a folder is, for people and as JSON."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from export.bundle import LOOKUP_FOLDER, BundleError
from export.inspection import Inspection, find_folder, inspect_folder
from export.inspection import Progress as Show
from export.lookup import ArtifactError
from export.lookup.manifest import RUNTIME_FOLDER
from export.sizes import format_bytes
from pipeline.run_folder import describe_shape

_LABELS = 5
"""Labels that are shown by name."""
_RUNTIME = f"{LOOKUP_FOLDER}/{RUNTIME_FOLDER}/"
_HASH = 12
"""Digits of a sha256 that are shown."""


def artifacts_root() -> Path:
    """Return the folder in which artifacts are looked up by name."""
    return Path(os.environ.get("GATETABLE_BUILD") or "build") / "artifacts"


@contextmanager
def known_errors() -> Iterator[None]:
    """Turn a folder that cannot be read into one line and exit code 2."""
    try:
        yield
    except (ArtifactError, BundleError, OSError) as err:
        click.echo(f"error: {err}", err=True)
        sys.exit(2)


@contextmanager
def byte_bar() -> Iterator[Show]:
    """Show which file is read and how many bytes are done."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True))
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda name, done, total: bar.update(
            task, description=name, completed=done, total=total
        )


def clean(text: str) -> Text:
    """Return text of an artifact for a terminal: no markup, no control characters."""
    return Text("".join(letter if letter.isprintable() else "\ufffd" for letter in text))


@click.command("inspect")
@click.argument("folder", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
@click.option(
    "--checksums/--no-checksums",
    default=True,
    show_default=True,
    help="Read every byte to compare checksums.",
)
def inspect_command(folder: str | None, as_json: bool, checksums: bool) -> None:
    """Tell what an artifact is, from its files alone: no model is loaded.

    FOLDER is a version, a lookup folder alone, or an artifact's folder or name, of which the
    version in use is taken; the artifact published last when not given. Exit code 1 means that a
    file has not the checksum that the manifest lists, 2 that the folder cannot be read.

    Example: python -m export inspect wordnet31 --json | jq .axes
    """
    with known_errors():
        found = find_folder(folder, artifacts_root())
        with byte_bar() as progress:
            result = inspect_folder(found, check_hashes=checksums, progress=progress)
    if as_json:
        fields = {**dataclasses.asdict(result), "damaged": result.damaged}
        click.echo(json.dumps(fields, indent=2, ensure_ascii=False))
    else:
        _print(result, Console())
    sys.exit(1 if result.damaged else 0)


def _print(result: Inspection, console: Console) -> None:
    title = "lookup folder" if result.name is None else f"{result.name}, version {result.version}"
    table = Table(title=title, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _list_facts(result):
        table.add_row(name, clean(value))
    console.print(table)
    files = Table(title="files")
    files.add_column("file", overflow="fold")
    files.add_column("size", justify="right", no_wrap=True)
    files.add_column("stored", no_wrap=True)
    files.add_column("sha256", no_wrap=True)
    prefix = "" if result.kind == "lookup" else "lookup/"
    runtime = [file for file in result.files if file.name.startswith(_RUNTIME)]
    for file in result.files:
        if file in runtime and file.holds is not False:
            continue  # source code, fifty files of it
        name = file.name.removeprefix(prefix).removesuffix(".npy")
        stored = ""
        if file.name.endswith(".npy") and name in result.arrays:
            dtype, shape = result.arrays[name]
            stored = f"{dtype} {shape}"
        mark = " other" if file.holds is False else ""
        files.add_row(clean(file.name), format_bytes(file.size), stored, file.sha256[:_HASH] + mark)
    if runtime:
        size = format_bytes(sum(file.size for file in runtime))
        files.add_row(f"{_RUNTIME} ({len(runtime)} files)", size, "", "")
    console.print(files)


def _list_facts(result: Inspection) -> Iterator[tuple[str, str]]:
    """Yield what is told of a folder, a name and a value each."""
    yield "folder", result.folder
    formats = f"lookup format {result.lookup_format_version}"
    if result.kind == "artifact":
        formats = f"format {result.format_version}, schema {result.schema_version}, {formats}"
    yield "format", formats
    yield "shape", describe_shape(result.model)
    yield "axes", ", ".join(f"{axis} {result.axes[axis]}" for axis in "VEHC")
    yield "max_tokens", str(result.max_tokens)
    more = len(result.labels) - _LABELS
    shown = ", ".join(result.labels[:_LABELS]) + (f", and {more} more" if more > 0 else "")
    yield "labels", f"{len(result.labels)}: {shown}"
    yield "stored", f"tables {result.table_dtype}, recurrent kernels {result.recurrent_dtype}"
    yield "words", f"{result.words} in the word table" if result.words else "no word table"
    yield "probes", f"{result.probes}, within {result.tolerance:g}"
    for split in ("validation", "test"):
        if split in result.metrics:
            values = result.metrics[split]
            yield split, ", ".join(f"{key} {value:.4f}" for key, value in sorted(values.items()))
    if result.calibration is not None:
        yield "calibration", result.calibration
    for form, entry in result.parity.get("backends", {}).items():
        yield (
            f"parity, {form}",
            f"{entry['max_abs_probability_diff']:.1e} over {entry['rows']} rows",
        )
    for graph in result.graphs:
        opsets = ", ".join(f"{name or 'ai.onnx'} {number}" for name, number in graph.opsets.items())
        operators = ", ".join(f"{name} {count}" for name, count in graph.operators.items())
        yield graph.name, f"opset {opsets}, IR {graph.ir_version}: {operators}"
    for key in ("run", "seed", "run_sha256", "exporter_sha256"):
        if key in result.provenance:
            yield key, str(result.provenance[key])
    if "data" in result.provenance:
        yield "data", str(result.provenance["data"].get("fingerprint", ""))
    versions = result.provenance.get("versions", {})
    if versions:
        yield "made with", ", ".join(f"{name} {number}" for name, number in versions.items())
    if result.kind == "artifact":
        yield "signature", "beside the folder, not verified here" if result.is_signed else "none"
    yield "size", format_bytes(sum(file.size for file in result.files))
    yield "checksums", _describe_checksums(result)
    for note in result.notes:
        yield "note", note


def _describe_checksums(result: Inspection) -> str:
    if result.damaged:
        return f"{len(result.damaged)} of {len(result.files)} differ: {', '.join(result.damaged)}"
    if all(file.holds for file in result.files):
        return f"all {len(result.files)} hold"
    return "not compared"
