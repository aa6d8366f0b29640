"""`python -m export layout`: an artifact for other people's servers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

import click
from rich.console import Console

from export.bundle import BundleError
from export.layout import SERVERS, LayoutError, Server, write_layout


@click.command("layout")
@click.option(
    "--for", "server", type=click.Choice(SERVERS), required=True, help="Whose folders to write."
)
@click.argument("artifact", type=click.Path(path_type=Path, file_okay=False))
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
def layout_command(server: str, artifact: Path, out: Path) -> None:
    """Copy an artifact into the folders that Triton or TensorFlow Serving reads.

    OUT is the folder these servers are pointed at; other models and versions in it stay as they
    are. For Triton: NAME, model.onnx in its onnxruntime backend, and NAME_text, the lookup folder
    in its Python backend. For TensorFlow Serving: NAME and NAME_text, the two SavedModels. The
    artifact's checksums are compared first, and each version appears in one rename.

    Example: python -m export layout --for triton build/artifacts/wordnet31/1 models
    """
    try:
        with Console(stderr=True).status("Copying"):
            written = write_layout(artifact, cast(Server, server), out)
    except (BundleError, LayoutError, OSError) as err:
        click.echo(f"error: {err}", err=True)
        sys.exit(2)
    for folder in written:
        click.echo(folder)
